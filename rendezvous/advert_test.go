package rendezvous

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestAdvert(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	a := newAdvert()
	now := time.Unix(0, 0)
	both := []peer.ID{"a", "b"}
	want := func(points []peer.ID, want ...peer.ID) {
		t.Helper()
		got := a.due(now, points)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("at %v: due %v, want %v", now.Sub(time.Unix(0, 0)), got, want)
		}
	}
	want(both, "a", "b")
	want(both) // they are busy
	a.done(now, "a", 2*time.Hour, nil, rng)
	a.done(now, "b", 0, errors.New("down"), rng)
	if at := a.next().Sub(now); at < firstRetry*3/4 || at > firstRetry*5/4 {
		t.Errorf("b is tried again after %v", at)
	}
	now = now.Add(20 * time.Second)
	want(both, "b")
	a.done(now, "b", 20*time.Second, nil, rng)
	if at := a.next().Sub(now); at < 10*time.Second || at > 16*time.Second {
		t.Errorf("20 s are refreshed after %v, want 10 to 16 s", at)
	}
	now = now.Add(16 * time.Second)
	want(both, "b")
	// With life left, failures are tried again before it ends.
	a.done(now, "b", 0, errors.New("down"), rng)
	if at := a.next().Sub(now); at > 2*time.Second {
		t.Errorf("4 s before the end: tried again after %v", at)
	}
	a.changed(now)
	want(both, "a")
	a.done(now, "a", time.Hour, nil, rng)
	want([]peer.ID{"a", "c"}, "c")
	a.done(now, "c", time.Hour, nil, rng)
	if len(a.points) != 2 {
		t.Errorf("%d points kept", len(a.points))
	}
	// Waits grow to a bound.
	for range 20 {
		now = a.next()
		for _, p := range a.due(now, []peer.ID{"a", "c"}) {
			a.done(now, p, 0, errors.New("down"), rng)
		}
	}
	if at := a.next().Sub(now); at <= 0 || at > lastRetry*5/4 {
		t.Errorf("after many failures: %v", at)
	}
}

func TestMerge(t *testing.T) {
	f := func(id, ns string, seq uint64, ttl time.Duration) Found {
		return Found{AddrInfo: peer.AddrInfo{ID: peer.ID(id)}, NS: ns, Seq: seq, TTL: ttl, Record: []byte{1}}
	}
	unsigned := f("a", "x", 9, time.Hour)
	unsigned.Record = nil
	got := Merge([]Found{
		f("a", "x", 1, 10), f("b", "x", 1, 10), f("a", "x", 3, 5), f("a", "x", 2, 99), f("a", "x", 3, 7), f("a", "y", 1, 1), unsigned,
	})
	want := []Found{f("a", "x", 3, 7), f("b", "x", 1, 10), f("a", "y", 1, 1)}
	if !slices.EqualFunc(got, want, func(a, b Found) bool {
		return a.ID == b.ID && a.NS == b.NS && a.Seq == b.Seq && a.TTL == b.TTL
	}) {
		t.Errorf("got %v", got)
	}
}

func TestBook(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBook()
	f := Found{AddrInfo: peer.AddrInfo{ID: "p"}, NS: "x", Seq: 1, TTL: time.Minute, Record: []byte{1}}
	b.add(now, []Found{f})
	if got := b.live(now.Add(30*time.Second), "x"); len(got) != 1 || got[0].TTL != 30*time.Second {
		t.Errorf("got %v", got)
	}
	f.Seq = 0
	b.add(now, []Found{f})
	if b.live(now, "")[0].Seq != 1 {
		t.Error("an older record took the place of a newer")
	}
	if len(b.live(now.Add(time.Minute), "x")) != 0 {
		t.Error("expired and still live")
	}
	b.add(now.Add(time.Hour), []Found{f})
	if len(b.live(now.Add(time.Hour), "x")) != 1 {
		t.Error("an expired record keeps an older one out")
	}
	// Strangers cannot fill it beyond its bound.
	for i := range maxBookEntries + 5000 {
		b.add(now, []Found{{AddrInfo: peer.AddrInfo{ID: peer.ID(time.Duration(i).String())}, NS: "y", TTL: time.Hour}})
	}
	if b.n > maxBookEntries || len(b.live(now, "y")) > maxBookEntries {
		t.Errorf("%d entries", b.n)
	}
	b.save(now, "point", "x", []byte("c"), true)
	if string(b.cookie(now, "point", "x")) != "c" || b.cookie(now, "point", "y") != nil {
		t.Error("cookies are mixed up")
	}
	b.save(now.Add(14*time.Minute), "point", "x", []byte("d"), false)
	if b.cookie(now.Add(15*time.Minute), "point", "x") != nil {
		t.Error("no full pass after 15 minutes")
	}
	b.unsave("point")
	if b.cookie(now, "point", "x") != nil {
		t.Error("cookie kept")
	}
}

func TestRates(t *testing.T) {
	base := time.Unix(0, 0)
	l := newRateLimiter(Rates{Peer: Rate{1, 3}, Source: Rate{2, 4}}, base)
	src := sourceOf(mustAddr("192.0.2.1"))
	count := func(now time.Time, id peer.ID, local bool) (n int) {
		for range 10 {
			if l.allow(now, id, src, local) {
				n++
			}
		}
		return n
	}
	if n := count(base, "a", false); n != 3 {
		t.Errorf("a peer's burst is %d, want 3", n)
	}
	if n := count(base, "b", false); n != 1 {
		t.Errorf("the source's burst leaves %d, want 1", n)
	}
	if n := count(base, "c", true); n != 10 {
		t.Errorf("this machine: %d of 10", n)
	}
	if n := count(base.Add(2*time.Second), "a", false); n != 2 {
		t.Errorf("after 2 s: %d, want 2", n)
	}
	l.charge(base.Add(2*time.Second), "a", src, false, 1000) // a long answer
	if n := count(base.Add(3*time.Second), "a", false); n != 0 {
		t.Errorf("in debt: %d", n)
	}
	if n := count(base.Add(10*time.Second), "a", false); n != 3 {
		t.Errorf("the debt is bounded: %d, want 3", n)
	}
	for i := range maxBuckets + 100 {
		l.peers.take(0, peer.ID(time.Duration(i).String()), 1)
	}
	if len(l.peers.buckets) > maxBuckets {
		t.Errorf("%d buckets", len(l.peers.buckets))
	}
}
