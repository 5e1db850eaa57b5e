package pubsub

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// share is the part of so many RPCs of a source that a gater admits.
func share(g *gater, now time.Time, from gaterSource) float64 {
	const n = 2000
	in := 0
	for range n {
		if g.admit(now, from) {
			in++
		}
	}
	return float64(in) / n
}

func TestGater(t *testing.T) {
	start := time.Unix(1e9, 0)
	fill := func(g *gater, from gaterSource, kind gaterKind, n int) {
		for range n {
			g.note(from, gaterOutcome{kind, "t"})
		}
	}
	for _, tt := range []struct {
		name     string
		before   func(g *gater)
		after    time.Duration // since the last message that found no room
		min, max float64       // share admitted of "x"
	}{
		{"nothing was throttled", func(g *gater) { fill(g, "x", gaterRejected, 100) }, 0, 1, 1},
		{"useful messages go in", func(g *gater) {
			fill(g, "x", gaterDelivered, 100)
			for range 100 {
				g.throttled(start)
			}
		}, 0, 1, 1},
		{"below the threshold all go in", func(g *gater) {
			fill(g, "x", gaterRejected, 1000)
			g.throttled(start)
		}, 0, 1, 1},
		{"rejected ones are dropped", func(g *gater) {
			fill(g, "x", gaterRejected, 100)
			for range 100 {
				g.throttled(start)
			}
		}, 0, 0, 0.01},
		{"ignored ones weigh less", func(g *gater) {
			fill(g, "x", gaterDelivered, 100)
			fill(g, "x", gaterIgnored, 100)
			for range 100 {
				g.throttled(start)
			}
		}, 0, 0.4, 0.6},
		{"duplicates weigh little", func(g *gater) {
			fill(g, "x", gaterDelivered, 100)
			fill(g, "x", gaterDuplicate, 100)
			for range 100 {
				g.throttled(start)
			}
		}, 0, 0.8, 0.95},
		{"it rests when it was quiet", func(g *gater) {
			fill(g, "x", gaterRejected, 100)
			for range 100 {
				g.throttled(start)
			}
		}, 61 * time.Second, 1, 1},
		{"a stranger goes in", func(g *gater) {
			fill(g, "y", gaterRejected, 100)
			for range 100 {
				g.throttled(start)
			}
		}, 0, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGater(DefaultPeerGaterParams(), rand.New(rand.NewPCG(1, 1)))
			g.admit(start, "x") // starts the decay
			tt.before(g)
			if got := share(g, start.Add(tt.after), "x"); got < tt.min || got > tt.max {
				t.Errorf("%.3f admitted, want %.2f to %.2f", got, tt.min, tt.max)
			}
		})
	}
}

func TestGaterTopicWeights(t *testing.T) {
	now := time.Unix(1e9, 0)
	g := newGater(DefaultPeerGaterParams().WithTopicDeliveryWeights(map[string]float64{"dull": 0.1}), rand.New(rand.NewPCG(1, 1)))
	g.admit(now, "a")
	for range 100 {
		g.note("a", gaterOutcome{gaterDelivered, "dull"})
		g.note("b", gaterOutcome{gaterDelivered, "good"})
		for _, from := range []gaterSource{"a", "b"} {
			g.note(from, gaterOutcome{gaterIgnored, ""})
		}
		g.throttled(now)
		g.throttled(now)
	}
	if a, b := share(g, now, "a"), share(g, now, "b"); a > 0.2 || b < 0.4 {
		t.Errorf("%.2f of a dull topic's, %.2f of a good one's", a, b)
	}
}

// The counts fade, are bounded, and go when their source does.
func TestGaterForgets(t *testing.T) {
	now := time.Unix(1e9, 0)
	g := newGater(DefaultPeerGaterParams(), rand.New(rand.NewPCG(1, 1)))
	for i := range 2 * gaterSources {
		g.note(sourceOf("", []netip.Addr{netip.AddrFrom4([4]byte{1, byte(i >> 16), byte(i >> 8), byte(i)})}), gaterOutcome{kind: gaterRejected})
	}
	if len(g.from) != gaterSources {
		t.Errorf("%d sources are kept, want %d", len(g.from), gaterSources)
	}
	g.throttled(now)
	g.admit(now.Add(7*time.Hour), "x")
	if len(g.from) != 1 || g.throttledN != 0 && g.throttledN >= 1 {
		t.Errorf("%d sources and %v throttled after seven hours", len(g.from), g.throttledN)
	}
}

func TestGaterSource(t *testing.T) {
	for _, tt := range []struct{ ips, want string }{
		{"", "id"},
		{"192.0.2.1", "192.0.2.1"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"2001:db8::1", "2001:db8::"},
		{"2001:db8::ffff:1", "2001:db8::"},
	} {
		var ips []netip.Addr
		if tt.ips != "" {
			ips = append(ips, netip.MustParseAddr(tt.ips))
		}
		if got := sourceOf("id", ips); string(got) != tt.want {
			t.Errorf("source of %q is %q, want %q", tt.ips, got, tt.want)
		}
	}
}
