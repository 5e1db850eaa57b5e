package storetest

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"github.com/muster-p2p/muster/rendezvous"
)

// RunPoints runs real points over the stores, with clients that speak to them
// over the network: cookies go on after a restart and, for shared stores, at
// other points. newHost returns a host that listens on loopback and that the
// test closes.
func RunPoints(t *testing.T, m Maker, newHost func(testing.TB) host.Host) {
	t.Run("Restart", func(t *testing.T) {
		if m.Forgets {
			t.Skip("not promised by this store")
		}
		testPointRestart(t, m.Place(t), newHost)
	})
	for _, n := range []int{2, 3} {
		t.Run(strconv.Itoa(n)+"points", func(t *testing.T) {
			if !m.Shared {
				t.Skip("not promised by this store")
			}
			testPoints(t, m.Place(t), newHost, n)
		})
	}
}

// newPoint returns the host of a point over a store, without rate limits, and
// a function that stops it.
func newPoint(t testing.TB, s rendezvous.Store, newHost func(testing.TB) host.Host) (h host.Host, stop func()) {
	t.Helper()
	h = newHost(t)
	none := rendezvous.Rate{PerSecond: -1}
	p, err := rendezvous.NewPoint(h, rendezvous.Config{
		Store: s, DiscoverAll: true, Rates: rendezvous.Rates{Peer: none, Source: none, Total: none},
		Limits: rendezvous.Limits{PerSource: -1, PerNet: -1},
	})
	if err != nil {
		t.Fatalf("NewPoint: %v", err)
	}
	stop = func() {
		if err := p.Close(); err != nil {
			t.Errorf("close point: %v", err)
		}
	}
	t.Cleanup(stop)
	return h, stop
}

// A caller is a client with its host.
type caller struct {
	*rendezvous.Client
	id     peer.ID
	points []peer.ID
	seen   map[rendezvous.Key]int // by name and peer, how often it was listed
	cookie []byte
}

func newCaller(t testing.TB, h host.Host, points ...host.Host) *caller {
	t.Helper()
	c := &caller{Client: rendezvous.NewClient(h, rendezvous.ClientConfig{}), id: h.ID(), seen: map[rendezvous.Key]int{}}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close client: %v", err)
		}
	})
	c.at(points...)
	return c
}

// at tells the caller which points there are.
func (c *caller) at(points ...host.Host) {
	c.points = nil
	for _, p := range points {
		c.points = append(c.points, p.ID())
	}
}

// know tells a host where points are.
func know(h host.Host, points ...host.Host) {
	for _, p := range points {
		h.Peerstore().AddAddrs(p.ID(), p.Addrs(), peerstore.PermanentAddrTTL)
	}
}

// list asks a point for what is new under all names, page by page.
func (c *caller) list(ctx context.Context, t testing.TB, point peer.ID, limit int) (found int) {
	t.Helper()
	for {
		page, err := c.Discover(ctx, point, "", rendezvous.Query{Limit: limit, Cookie: c.cookie})
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("Discover: %v", err)
			}
			return found
		}
		if page.Restarted || page.Dropped > 0 {
			t.Errorf("the listing restarted (%t) or had unusable records (%d)", page.Restarted, page.Dropped)
		}
		for _, r := range page.Records {
			c.seen[rendezvous.Key{NS: r.NS, Peer: r.ID}]++
		}
		c.cookie = page.Cookie
		found += len(page.Records)
		if len(page.Records) == 0 {
			return found
		}
	}
}

// once fails the test unless the caller was shown each of want once, and
// nothing else.
func (c *caller) once(t testing.TB, want map[rendezvous.Key]bool) {
	t.Helper()
	for _, k := range slices.SortedFunc(maps.Keys(want), compareKeys) {
		if n := c.seen[k]; n != 1 {
			t.Errorf("%s of %s was listed %d times, want once", k.NS, k.Peer, n)
		}
	}
	for k := range c.seen {
		if !want[k] {
			t.Errorf("%s of %s was listed and is not to be there", k.NS, k.Peer)
		}
	}
}

// testPointRestart stops a point and starts another over the same store: it
// serves what the first did, and goes on where the first one's cookies end.
func testPointRestart(t *testing.T, place func() rendezvous.Store, newHost func(testing.TB) host.Host) {
	first, stop := newPoint(t, place(), newHost)
	h := newHost(t)
	know(h, first)
	c := newCaller(t, h, first)
	want := map[rendezvous.Key]bool{}
	register := func(names ...string) {
		t.Helper()
		for _, ns := range names {
			if _, err := c.Register(t.Context(), c.points[0], ns, 0); err != nil {
				t.Fatalf("Register: %v", err)
			}
			want[rendezvous.Key{NS: ns, Peer: c.id}] = true
		}
	}
	register("a", "b", "c", "d")
	c.list(t.Context(), t, first.ID(), 3)
	c.once(t, want)
	stop()

	second, stop := newPoint(t, place(), newHost)
	know(h, second)
	c.at(second)
	if n := c.list(t.Context(), t, second.ID(), 3); n != 0 {
		t.Errorf("with the cookie of before the restart %d records are new, want none", n)
	}
	register("b", "e") // one of before, one new
	if err := c.Unregister(t.Context(), second.ID(), "c"); err != nil {
		t.Fatal(err)
	}
	for gone := false; !gone; { // unregister is not answered
		page, err := c.Discover(t.Context(), second.ID(), "c", rendezvous.Query{})
		if err != nil {
			t.Fatal(err)
		}
		gone = len(page.Records) == 0
	}
	clear(c.seen)
	c.list(t.Context(), t, second.ID(), 3)
	c.once(t, map[rendezvous.Key]bool{{NS: "b", Peer: c.id}: true, {NS: "e", Peer: c.id}: true})
	stop()

	third, _ := newPoint(t, place(), newHost)
	know(h, third)
	c.seen, c.cookie = map[rendezvous.Key]int{}, nil
	c.list(t.Context(), t, third.ID(), 3)
	delete(want, rendezvous.Key{NS: "c", Peer: c.id})
	c.once(t, want)
}

// testPoints has clients register at several points of one store, all at once,
// while others poll the points in turn with one cookie: each registration is
// listed to each of them once.
func testPoints(t *testing.T, place func() rendezvous.Store, newHost func(testing.TB) host.Host, n int) {
	points := make([]host.Host, n)
	for i := range points {
		points[i], _ = newPoint(t, place(), newHost)
	}
	newClient := func() *caller {
		h := newHost(t)
		know(h, points...)
		return newCaller(t, h, points...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	const writers, readers, names = 6, 3, 40
	var (
		mu      sync.Mutex
		want    = map[rendezvous.Key]bool{}
		writing sync.WaitGroup
	)
	for w := range writers {
		c := newClient()
		writing.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 3))
			for i := range names {
				ns := "name" + strconv.Itoa(i)
				if _, err := c.Register(ctx, c.points[rng.IntN(n)], ns, 0); err != nil {
					t.Errorf("Register: %v", err)
					return
				}
				mu.Lock()
				want[rendezvous.Key{NS: ns, Peer: c.id}] = true
				mu.Unlock()
			}
		})
	}
	done := make(chan struct{})
	var reading sync.WaitGroup
	pollers := make([]*caller, readers)
	for i := range pollers {
		c := newClient()
		pollers[i] = c
		reading.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 4))
			for {
				select {
				case <-done:
					return
				default:
					c.list(ctx, t, c.points[rng.IntN(n)], 1+rng.IntN(50))
				}
			}
		})
	}
	writing.Wait()
	close(done)
	reading.Wait()
	for i, c := range pollers { // each ends at another point
		for len(c.seen) < len(want) && ctx.Err() == nil {
			c.list(ctx, t, c.points[i%n], 0)
		}
		c.once(t, want)
	}
}
