package reach

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"github.com/muster-p2p/muster/reach/wire"
)

var (
	start  = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	home   = netip.MustParseAddr("192.0.2.1")
	office = netip.MustParseAddr("198.51.100.7")
)

func testLot(l Limits) *lot[int] { return newLot[int](l.withDefaults()) }

func mustPark(t *testing.T, l *lot[int], p peer.ID, from netip.Addr, owner int) *spot[int] {
	t.Helper()
	s, _, status := l.park(p, from, owner)
	if status != wire.OK {
		t.Fatalf("%s: %v", p, status)
	}
	return s
}

func TestLotNewestWins(t *testing.T) {
	l := testLot(Limits{ParkedPerSource: 1})
	first := mustPark(t, l, "a", home, 1)
	second, replaced, status := l.park("a", home, 2)
	if status != wire.OK || replaced != first || !first.gone {
		t.Fatalf("%v, %v", replaced, status)
	}
	l.leave(first) // the old stream's handler ends later
	if got := l.find("a"); got != second {
		t.Errorf("found %v", got)
	}
	// It may come from elsewhere, but counts there.
	mustPark(t, l, "b", office, 3)
	if _, _, status := l.park("a", office, 4); status != wire.Busy || l.find("a") != second {
		t.Errorf("beyond the source's limit: %v", status)
	}
	l.leave(second)
	if _, _, status := l.park("c", home, 5); status != wire.OK {
		t.Errorf("after one has left: %v", status)
	}
}

// TestLotOneSource: one source with many identities leaves room for others who
// call the same callee.
func TestLotOneSource(t *testing.T) {
	l := testLot(Limits{CallerRate: Rate{1, 4}, CalleeRate: Rate{1, 8}})
	a := mustPark(t, l, "a", home, 0)
	for i := range 20 {
		if n, status := l.invite(start, peer.ID(fmt.Sprint("flood", i)), office, a); status == wire.OK {
			l.end(a, n)
		} else if i < 6 {
			t.Errorf("number %d: %v", i, status)
		}
	}
	if _, status := l.invite(start, "honest", home, a); status != wire.OK {
		t.Errorf("from elsewhere: %v", status)
	}
}

func TestLotLimits(t *testing.T) {
	l := testLot(Limits{Parked: 3, ParkedPerSource: 2, PendingPerCallee: 3, PendingPerCaller: 2, CalleeRate: Rate{1, 4}})
	a := mustPark(t, l, "a", home, 0)
	mustPark(t, l, "b", home, 0)
	if _, _, status := l.park("c", home, 0); status != wire.Busy {
		t.Errorf("a third one of a source: %v", status)
	}
	mustPark(t, l, "c", netip.Addr{}, 0)
	if _, _, status := l.park("d", netip.Addr{}, 0); status != wire.Busy {
		t.Errorf("a fourth one: %v", status)
	}
	invite := func(caller peer.ID, want wire.Status) uint64 {
		t.Helper()
		n, status := l.invite(start, caller, office, a)
		if status != want {
			t.Errorf("%s: %v, want %v", caller, status, want)
		}
		return n
	}
	first := invite("x", wire.OK)
	invite("x", wire.OK)
	invite("x", wire.Busy) // two of a caller
	invite("y", wire.OK)
	invite("z", wire.Busy) // three for a callee
	if !l.end(a, first) || l.end(a, first) {
		t.Error("ended not once")
	}
	invite("z", wire.OK)
	l.end(a, first+1)
	invite("z", wire.Busy) // four in the burst
	l.leave(a)
	invite("z", wire.NotHere)
}

func TestLotRates(t *testing.T) {
	l := testLot(Limits{CallerRate: Rate{1, 2}, SourceRate: Rate{1, 3}})
	now := start
	var got []wire.Status
	for _, who := range []struct {
		id   peer.ID
		from netip.Addr
	}{{"a", home}, {"a", home}, {"a", home}, {"b", home}, {"b", home}, {"b", office}, {"c", netip.Addr{}}, {"c", netip.Addr{}}, {"c", netip.Addr{}}} {
		got = append(got, l.admitCall(now, who.id, who.from))
	}
	want := []wire.Status{0, 0, wire.Busy, 0, wire.Busy, 0, 0, 0, wire.Busy}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if status := l.admitCall(now.Add(time.Second), "a", home); status != wire.OK {
		t.Errorf("a second later: %v", status)
	}
}

func TestLimiterBounded(t *testing.T) {
	l := newLimiter[int](Rate{1, 1})
	for i := range maxBuckets + 1000 {
		l.take(start, i)
	}
	if n := len(l.buckets); n > maxBuckets {
		t.Errorf("%d buckets", n)
	}
}

func TestSourceOf(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3::4": "2001:db8:1:2::",
		"127.0.0.1": "invalid IP", "::1": "invalid IP", "127.0.0.2": "127.0.0.2",
	} {
		if got := sourceOf(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// TestLotCounts: whatever happens in whatever order, the counts come back to
// nothing.
func TestLotCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := testLot(Limits{Parked: 4, ParkedPerSource: 3, PendingPerCallee: 3, PendingPerCaller: 3, CalleeRate: Rate{PerSecond: -1}})
		type pending struct {
			s *spot[int]
			n uint64
		}
		var spots []*spot[int]
		var calls []pending
		id := rapid.SampledFrom([]peer.ID{"a", "b", "c", "d", "e"})
		from := rapid.SampledFrom([]netip.Addr{home, office, {}})
		t.Repeat(map[string]func(*rapid.T){
			"park": func(t *rapid.T) {
				if s, _, status := l.park(id.Draw(t, "id"), from.Draw(t, "from"), 0); status == wire.OK {
					spots = append(spots, s)
				}
			},
			"leave": func(t *rapid.T) {
				if len(spots) > 0 {
					l.leave(rapid.SampledFrom(spots).Draw(t, "spot"))
				}
			},
			"invite": func(t *rapid.T) {
				if len(spots) > 0 {
					s := rapid.SampledFrom(spots).Draw(t, "spot")
					if n, status := l.invite(start, id.Draw(t, "caller"), office, s); status == wire.OK {
						calls = append(calls, pending{s, n})
					}
				}
			},
			"end": func(t *rapid.T) {
				if len(calls) > 0 {
					c := rapid.SampledFrom(calls).Draw(t, "call")
					l.end(c.s, c.n)
				}
			},
			"": func(t *rapid.T) {
				perSource := map[netip.Addr]int{}
				for id, s := range l.spots {
					if s.gone || s.id != id {
						t.Fatal("a spot that is gone")
					}
					if s.source.IsValid() {
						perSource[s.source]++
					}
				}
				if len(l.spots) > 4 || len(perSource) != len(l.sources) || perSource[home] != l.sources[home] || l.sources[home] > 3 {
					t.Fatalf("%d parked, sources %v, want %v", len(l.spots), l.sources, perSource)
				}
			},
		})
		for _, c := range calls {
			l.end(c.s, c.n)
		}
		for _, s := range spots {
			l.leave(s)
		}
		if len(l.spots)+len(l.sources)+len(l.calling) != 0 {
			t.Fatalf("left: %v %v %v", l.spots, l.sources, l.calling)
		}
	})
}

func TestBackoff(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var b backoff
	last := time.Duration(0)
	for i := range 20 {
		most := min(firstWait<<min(i, 6), lastWait)
		got := b.next(endFailed, 0, rng)
		if got < most/2 || got > most {
			t.Errorf("failure %d: %v, want %v to %v", i, got, most/2, most)
		}
		last = got
	}
	if last < lastWait/2 {
		t.Errorf("at last %v", last)
	}
	if got := b.next(endFailed, steady, rng); got > firstWait {
		t.Errorf("after a steady stream %v", got)
	}
	for end, most := range map[ending]time.Duration{endDrained: drainWait, endReplaced: replacedWait, endDenied: deniedWait} {
		if got := b.next(end, time.Hour, rng); got < most/2 || got > most {
			t.Errorf("ending %d: %v, want %v to %v", end, got, most/2, most)
		}
	}
}

// A point may send its peers anywhere but to where only they can go.
func TestUsableServers(t *testing.T) {
	public := pointHost{addr: netip.MustParseAddr("203.0.113.7")}
	named := pointHost{addr: netip.MustParseAddr("203.0.113.7"), name: "point.example.org"}
	lan := pointHost{addr: netip.MustParseAddr("192.168.1.2")}
	local := pointHost{addr: loopback}
	six := pointHost{addr: netip.MustParseAddr("2001:db8::7")}
	relayed := pointHost{}
	for _, tt := range []struct {
		url  string
		at   pointHost
		want string // empty: not usable
	}{
		{"http://:8080/", public, "http://203.0.113.7:8080/"},
		{"http://:8080/x/", six, "http://[2001:db8::7]:8080/x/"},
		{"http:///", six, "http://[2001:db8::7]/"},
		{"https://:8443", named, "https://point.example.org:8443"},
		{"https:///rdv/", named, "https://point.example.org/rdv/"},
		{"http://:8080/", relayed, ""},
		{"http://198.51.100.1:80/", public, "http://198.51.100.1:80/"},
		{"http://198.51.100.1:80/", relayed, "http://198.51.100.1:80/"},
		{"https://other.example.org/", public, "https://other.example.org/"},
		{"http://127.0.0.1:8080/", local, "http://127.0.0.1:8080/"},
		{"http://localhost:8080/", local, "http://localhost:8080/"},
		{"http://192.168.1.9/", lan, "http://192.168.1.9/"},
		{"http://192.168.1.9/", local, "http://192.168.1.9/"},
		{"http://127.0.0.1/", public, ""},
		{"http://127.0.0.1/", lan, ""},
		{"http://[::1]/", public, ""},
		{"http://[::ffff:127.0.0.1]/", public, ""},
		{"http://[64:ff9b::7f00:1]/", public, ""},
		{"http://[64:ff9b:1::7f00:1]/", public, ""},
		{"http://[2002:7f00:1::]/", public, ""},
		{"http://localhost/", public, ""},
		{"http://a.localhost./", public, ""},
		{"http://0.0.0.0/", local, ""},
		{"http://[::]/", local, ""},
		{"http://169.254.169.254/", local, ""},
		{"http://[fe80::1%25eth0]/", local, ""},
		{"http://224.0.0.1/", public, ""},
		{"http://10.0.0.1/", public, ""},
		{"http://100.64.0.1/", public, ""},
		{"http://[fd00:ec2::254]/", public, ""},
		{"http://2130706433/", public, ""},
		{"http://0x7f.1/", public, ""},
		{"http://0177.0.0.1/", public, ""},
		{"http://127.1/", public, ""},
		{"ftp://198.51.100.1/", public, ""},
		{"http://u:p@198.51.100.1/", public, ""},
		{"http://198.51.100.1/?q", public, ""},
		{"http://198.51.100.1/#f", public, ""},
		{"http:198.51.100.1", public, ""},
		{"//198.51.100.1/", public, ""},
		{"", public, ""},
	} {
		got := usableServers([]string{tt.url}, tt.at)
		if fmt.Sprint(got) != fmt.Sprintf("[%s]", tt.want) {
			t.Errorf("%s from %+v: %v, want %q", tt.url, tt.at, got, tt.want)
		}
	}
	if got := usableServers([]string{"http://:1/", "http://:1/", "http://:2/"}, public); len(got) != 2 {
		t.Errorf("%v", got)
	}
}
