package rendezvous_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/wire"
)

// With writers registering and leaving while readers poll with cookies, the
// union of the polls is what is registered, and nothing comes twice between
// two changes.
func TestPollsAreExact(t *testing.T) {
	const writers, rounds, readers = 4, 62, 3
	_, ph := newPoint(t, rendezvous.Config{})
	var stop atomic.Bool
	var writing, reading sync.WaitGroup
	for range writers {
		key := newKey(t)
		c := dialRaw(t, hostWithKey(t, key), ph, wire.Libp2p)
		writing.Go(func() {
			for i := range rounds {
				rec := sign(t, key, c.h.ID(), uint64(i), someAddr, fmt.Sprintf("/ip4/192.0.2.1/tcp/%d", i+1))
				c.wantStatus(wire.OK, register("lab", rec, 0))
				if i%7 == 3 {
					c.send(wire.AppendFrame(nil, wire.Libp2p, &wire.Message{Kind: wire.Unregister, NS: "lab"}))
				}
			}
		})
	}
	for range readers {
		c := dialRaw(t, newHost(t), ph, wire.Libp2p)
		reading.Go(func() {
			seen := map[string]int{}
			var cookie []byte
			for last := false; ; {
				done := stop.Load()
				res := c.wantStatus(wire.OK, discover("lab", 2, cookie))
				cookie = res.Cookie
				for _, r := range res.Records {
					if seen[string(r.Record)]++; seen[string(r.Record)] > 1 {
						t.Error("a registration came twice")
					}
				}
				if last && len(res.Records) == 0 {
					break
				}
				last = done
			}
			all := c.wantStatus(wire.OK, discover("lab", 0, nil))
			if len(all.Records) != writers {
				t.Errorf("%d are registered, want %d", len(all.Records), writers)
			}
			for _, r := range all.Records {
				if seen[string(r.Record)] == 0 {
					t.Error("a registration never came")
				}
			}
		})
	}
	writing.Wait()
	stop.Store(true)
	reading.Wait()
}

// Cookies are not remembered: asking for many costs no memory.
func TestCookiesCostNothing(t *testing.T) {
	n := 20_000
	if testing.Short() {
		n = 2000
	}
	store := rendezvous.NewMemory()
	_, ph := newPoint(t, open(store))
	fill(t, store, "lab", 100)
	c := dialRaw(t, newHost(t), ph, wire.Libp2p)
	frame := wire.AppendFrame(nil, wire.Libp2p, ptr(discover("lab", 1, nil)))
	ask := func(n int) {
		for range n {
			c.send(frame)
			if _, _, err := c.read(); err != nil {
				t.Fatal(err)
			}
		}
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	ask(100)
	before := heap()
	ask(n)
	if grown := heap() - before; grown > 2<<20 {
		t.Errorf("%d discovers have grown the heap by %d bytes", n, grown)
	}
}

// A peer that registers without end has its share, and others are served.
func TestOnePeerIsBounded(t *testing.T) {
	p, ph := newPoint(t, rendezvous.Config{Limits: rendezvous.RustLimits()})
	key := newKey(t)
	c := dialRaw(t, hostWithKey(t, key), ph, wire.Libp2p)
	rec := sign(t, key, c.h.ID(), 1, someAddr)
	ok := 0
	for i := range 200 {
		if c.ask(register(fmt.Sprint("ns", i), rec, 0)).Status == wire.OK {
			ok++
		}
	}
	if ok != 32 || p.Stats().Registrations != 32 || p.Stats().Refused["peer_limit"] != 168 {
		t.Errorf("%d OK, stats %+v", ok, p.Stats())
	}
	c.wantStatus(wire.OK, register("ns0", rec, 0)) // a refresh is exempt
	other := newKey(t)
	o := dialRaw(t, hostWithKey(t, other), ph, wire.Libp2p)
	o.wantStatus(wire.OK, register("ns", sign(t, other, o.h.ID(), 1, someAddr), 0))
}

// Lengths are refused before memory is spent on them, and a stream that only
// announces much holds little.
func TestAnnouncedBytesAreNotAllocated(t *testing.T) {
	_, ph := newPoint(t, rendezvous.Config{MaxPeerStreams: -1})
	h := newHost(t)
	var streams []*rawClient
	for range 200 {
		c := dialRaw(t, h, ph, wire.Libp2p)
		c.send([]byte{0xff, 0xff, 0x03}) // 65535 bytes are to come
		streams = append(streams, c)
	}
	// When a later stream is answered, the earlier ones have been read.
	dialRaw(t, h, ph, wire.Libp2p).wantStatus(wire.OK, discover("lab", 0, nil))
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapInuse > 200*64<<10 {
		t.Errorf("%d bytes in use for %d streams that sent three bytes each", m.HeapInuse, len(streams))
	}
}

// Foreign keys of other kinds than Ed25519 register as well.
func TestKeyTypes(t *testing.T) {
	_, ph := newPoint(t, rendezvous.Config{})
	for _, kind := range []int{crypto.Ed25519, crypto.Secp256k1, crypto.ECDSA, crypto.RSA} {
		key, _, err := crypto.GenerateKeyPair(kind, 2048)
		if err != nil {
			t.Fatal(err)
		}
		c := dialRaw(t, hostWithKey(t, key), ph, wire.Libp2p)
		c.wantStatus(wire.OK, register("lab", sign(t, key, c.h.ID(), 1, someAddr), 0))
	}
	h := newHost(t)
	know(h, ph)
	page, err := newClient(t, h, rendezvous.ClientConfig{}).Discover(t.Context(), ph.ID(), "lab", rendezvous.Query{})
	if err != nil || len(page.Records) != 4 {
		t.Errorf("found %d, %v", len(page.Records), err)
	}
}

// What a point tells strangers in a status is one line of its own words.
func TestStatusTexts(t *testing.T) {
	_, ph := newPoint(t, rendezvous.Config{})
	c := dialRaw(t, newHost(t), ph, wire.Libp2p)
	for _, m := range []wire.Message{register("", nil, 0), register("lab", nil, 1), register("lab", []byte("x"), 0), discover("lab", 0, []byte("x"))} {
		res := c.ask(m)
		if res.Text == "" || strings.ContainsAny(res.Text, "\n\t%") || strings.HasPrefix(res.Text, "rendezvous") {
			t.Errorf("%v says %q", res.Status, res.Text)
		}
	}
}
