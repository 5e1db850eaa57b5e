package rendezvous_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	mocknet "github.com/libp2p/go-libp2p/p2p/net/mock"

	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/wire"
)

// inBubble runs f in virtual time with n hosts that are linked in memory.
func inBubble(t *testing.T, n int, f func(t *testing.T, hosts []host.Host)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		net, err := mocknet.FullMeshLinked(n)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := net.Close(); err != nil {
				t.Error(err)
			}
		}()
		f(t, net.Hosts())
	})
}

// closing is for defer: in a bubble all must be closed before the end.
func closing(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// A record past its time is never served, to the millisecond, and what is left
// is told in whole seconds.
func TestExpiry(t *testing.T) {
	tests := []struct {
		name  string
		waku  bool
		ttl   uint64
		lives time.Duration
	}{
		{"libp2p", false, 60, 60 * time.Second},
		{"libp2p default", false, 0, 2 * time.Hour},
		{"libp2p longest", false, 259200, 72 * time.Hour},
		{"waku", true, 20, 20*time.Second + 500*time.Millisecond},
		{"waku short", true, 1, 1500 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, 2, func(t *testing.T, h []host.Host) {
				p, err := rendezvous.NewPoint(h[0], rendezvous.Config{Waku: true})
				if err != nil {
					t.Fatal(err)
				}
				defer closing(t, p)
				c := rendezvous.NewClient(h[1], rendezvous.ClientConfig{Waku: tt.waku})
				defer closing(t, c)
				granted, err := c.Register(t.Context(), h[0].ID(), "lab", time.Duration(tt.ttl)*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				find := func() []rendezvous.Found {
					page, err := c.Discover(t.Context(), h[0].ID(), "lab", rendezvous.Query{})
					if err != nil {
						t.Fatal(err)
					}
					return page.Records
				}
				if got := find(); len(got) != 1 || got[0].TTL != granted {
					t.Fatalf("at once: %v, granted %v", got, granted)
				}
				time.Sleep(tt.lives - 10*time.Millisecond)
				if got := find(); len(got) != 1 || got[0].TTL != time.Second {
					t.Errorf("10 ms before the end: %v", got)
				}
				time.Sleep(10 * time.Millisecond)
				if got := find(); len(got) != 0 {
					t.Errorf("at the end: %v", got)
				}
				// And it is forgotten soon.
				time.Sleep(3 * time.Second)
				if s := p.Stats(); s.Registrations+s.Waku != 0 || s.Expired != 1 {
					t.Errorf("stats %+v", s)
				}
			})
		})
	}
}

// An advertisement is refreshed in time and ends with its context.
func TestAdvertiseStays(t *testing.T) {
	for _, waku := range []bool{false, true} {
		inBubble(t, 3, func(t *testing.T, h []host.Host) {
			var points []*rendezvous.Point
			var infos []peer.AddrInfo
			for i := range 2 {
				p, err := rendezvous.NewPoint(h[i], rendezvous.Config{Waku: true})
				if err != nil {
					t.Fatal(err)
				}
				defer closing(t, p)
				points, infos = append(points, p), append(infos, peer.AddrInfo{ID: h[i].ID(), Addrs: h[i].Addrs()})
			}
			d := rendezvous.NewDiscovery(h[2], rendezvous.DiscoveryConfig{Client: rendezvous.ClientConfig{Waku: waku}, Points: infos})
			defer closing(t, d)
			ctx, cancel := context.WithCancel(t.Context())
			if _, err := d.Advertise(ctx, "lab"); err != nil {
				t.Fatal(err)
			}
			life, span := 2*time.Hour, 12*time.Hour
			if waku {
				life, span = 20*time.Second, 3*time.Minute
			}
			realm := rendezvous.RealmLibp2p
			if waku {
				realm = rendezvous.RealmWaku
			}
			for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(life / 10) {
				for i, p := range points {
					found := p.Local(realm, "lab", 10)
					if len(found) != 1 || found[0].TTL < life/10 {
						t.Fatalf("waku %v, point %d: %v", waku, i, found)
					}
				}
			}
			most := uint64(2*span/life) + 3
			if n := points[0].Stats().Registers; n > most {
				t.Errorf("waku %v: %d registrations in %v, want %d at most", waku, n, span, most)
			}
			cancel()
			time.Sleep(life + time.Second)
			if n := len(points[0].Local(realm, "lab", 10)); n != 0 {
				t.Errorf("waku %v: still there after the end", waku)
			}
		})
	}
}

// A point that is away for a while has the registration again soon after.
func TestAdvertiseComesBack(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, h []host.Host) {
		d := rendezvous.NewDiscovery(h[1], rendezvous.DiscoveryConfig{Points: []peer.AddrInfo{{ID: h[0].ID(), Addrs: h[0].Addrs()}}})
		defer closing(t, d)
		ttl, err := d.Advertise(t.Context(), "lab")
		if err == nil || ttl < time.Second || ttl > 3*time.Minute {
			t.Errorf("no point yet: %v, %v", ttl, err)
		}
		time.Sleep(time.Hour)
		p, err := rendezvous.NewPoint(h[0], rendezvous.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer closing(t, p)
		time.Sleep(3 * time.Minute)
		if n := p.Stats().Registrations; n != 1 {
			t.Errorf("%d registrations 3 minutes after the point came back", n)
		}
	})
}

// Rates are answered with a status, and recover.
func TestRatesOverTheWire(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, h []host.Host) {
		p, err := rendezvous.NewPoint(h[0], rendezvous.Config{Rates: rendezvous.Rates{Peer: rendezvous.Rate{PerSecond: 1, Burst: 5}}})
		if err != nil {
			t.Fatal(err)
		}
		defer closing(t, p)
		c := rendezvous.NewClient(h[1], rendezvous.ClientConfig{})
		defer closing(t, c)
		var got []wire.Status
		ask := func() {
			_, err := c.Discover(t.Context(), h[0].ID(), "lab", rendezvous.Query{})
			status := wire.OK
			if e, ok := errors.AsType[*rendezvous.StatusError](err); ok {
				status = e.Status
			} else if err != nil {
				t.Fatal(err)
			}
			got = append(got, status)
		}
		for range 7 {
			ask()
		}
		time.Sleep(time.Second)
		ask()
		want := []wire.Status{0, 0, 0, 0, 0, wire.Unavailable, wire.Unavailable, 0}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if n := p.Stats().Refused["rate"]; n != 2 {
			t.Errorf("%d counted", n)
		}
	})
}

// Watch tells who leaves when the time is over.
func TestWatchLeft(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, h []host.Host) {
		p, err := rendezvous.NewPoint(h[0], rendezvous.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer closing(t, p)
		c := rendezvous.NewClient(h[1], rendezvous.ClientConfig{})
		defer closing(t, c)
		if _, err := c.Register(t.Context(), h[0].ID(), "lab", time.Minute); err != nil {
			t.Fatal(err)
		}
		d := rendezvous.NewDiscovery(h[2], rendezvous.DiscoveryConfig{Points: []peer.AddrInfo{{ID: h[0].ID(), Addrs: h[0].Addrs()}}})
		defer closing(t, d)
		events, err := d.Watch(t.Context(), "lab")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if e := <-events; e.Kind != rendezvous.Joined {
			t.Errorf("first %v", e.Kind)
		}
		if e := <-events; e.Kind != rendezvous.Left || time.Since(start) < time.Minute || time.Since(start) > 70*time.Second {
			t.Errorf("then %v after %v", e.Kind, time.Since(start))
		}
	})
}
