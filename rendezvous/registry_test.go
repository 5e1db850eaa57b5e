package rendezvous

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"
)

// testRegistry drives a registry as a point with a [Memory] store would.
type testRegistry struct {
	*registry
	t   testing.TB
	now time.Time
	pos uint64
	rng *rand.Rand
}

func newTestRegistry(t testing.TB, lim Limits) *testRegistry {
	base := time.Now()
	return &testRegistry{
		registry: newRegistry(registryConfig{limits: lim, all: true, base: base}),
		t:        t, now: base, rng: rand.New(rand.NewPCG(1, 2)),
	}
}

func (r *testRegistry) registration(ns string, id peer.ID, ttl time.Duration) Registration {
	return Registration{
		Key: Key{Realm: RealmLibp2p, NS: ns, Peer: id}, Record: []byte(ns + "/" + string(id)),
		Form: FormSigned, Seq: 1, TTL: ttl, Expires: r.now.Add(ttl),
	}
}

func (r *testRegistry) register(reg Registration) error {
	t, err := r.admit(r.now, &reg)
	if err != nil {
		return err
	}
	r.commit(Change{Registration: reg})
	r.release(t)
	return nil
}

func (r *testRegistry) commit(changes ...Change) {
	for i := range changes {
		r.pos++
		changes[i].Pos = r.pos
	}
	r.apply(r.now, changes)
}

// page reads up to limit entries.
func (r *testRegistry) page(ns string, l listing, limit int) ([]string, listing) {
	o, _ := r.orderOf(RealmLibp2p, ns)
	var got []string
	l = r.list(r.now, RealmLibp2p, o, l, r.rng, func(e *entry) bool {
		if len(got) == limit {
			return false
		}
		got = append(got, fmt.Sprintf("%s/%s@%d", e.ns.name, string(e.peer.id), e.pos))
		return true
	})
	return got, l
}

// check compares the registry's counts with what it holds.
func (r *testRegistry) check() {
	r.t.Helper()
	live, bytesUsed, inWheel := 0, int64(0), 0
	for _, realm := range r.realms {
		n := 0
		for name, ns := range realm.namespaces {
			if ns.order.n == 0 && ns.pending == 0 {
				r.t.Errorf("empty namespace %q kept", name)
			}
			last := uint64(0)
			size := 0
			for _, c := range ns.order.chunks {
				for _, e := range c {
					if e.pos <= last {
						r.t.Errorf("order of %q broken", name)
					}
					last = e.pos
					size++
					bytesUsed += cost(name, e.record)
				}
			}
			if size != ns.order.n {
				r.t.Errorf("order of %q counts %d, holds %d", name, ns.order.n, size)
			}
			n += size
		}
		peers := 0
		for id, p := range realm.peers {
			count, most := 0, uint64(0)
			for e := range p.entries {
				count++
				most = max(most, e.seq)
			}
			if count != int(p.n) || count == 0 {
				r.t.Errorf("peer %q counts %d, has %d", id, p.n, count)
			}
			if most != p.maxSeq {
				r.t.Errorf("peer %q: maxSeq %d, is %d", id, p.maxSeq, most)
			}
			peers += count
		}
		if n != realm.live || peers != n || realm.all.n != n {
			r.t.Errorf("%d live, %d in namespaces, %d of peers, %d in all", realm.live, n, peers, realm.all.n)
		}
		live += n
	}
	for _, e := range r.wheel.seconds {
		for ; e != nil; e = e.next {
			inWheel++
		}
	}
	if live != r.live || inWheel != live || bytesUsed != r.bytes || r.pending != 0 {
		r.t.Errorf("live %d, counted %d, in wheel %d; bytes %d, counted %d; pending %d",
			r.live, live, inWheel, r.bytes, bytesUsed, r.pending)
	}
}

// A model is the registry as the spec tells it.
type model map[[2]string]modelEntry

type modelEntry struct {
	deadline time.Time
	pos      uint64
	seq      uint64
}

func (m model) live(now time.Time, ns string) (out []string) {
	for k, e := range m {
		if (ns == "" || k[0] == ns) && e.deadline.After(now) {
			out = append(out, fmt.Sprintf("%s/%s@%d", k[0], k[1], e.pos))
		}
	}
	slices.Sort(out)
	return out
}

// A poller follows a namespace with its cookie.
type poller struct {
	ns   string
	l    listing
	seen map[string]bool // ns/peer@pos
	full bool            // the last page was cut
}

func TestRegistryAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newTestRegistry(t, Limits{})
		m := model{}
		namespaces := []string{"a", "b", ""}
		var pollers []*poller
		for _, ns := range namespaces {
			for range 2 {
				pollers = append(pollers, &poller{ns: ns, seen: map[string]bool{}})
			}
		}
		peers := make([]peer.ID, 8)
		for i := range peers {
			peers[i] = peer.ID(fmt.Sprintf("p%d", i))
		}
		key := func(rt *rapid.T) (string, peer.ID) {
			return rapid.SampledFrom(namespaces[:2]).Draw(rt, "ns"), rapid.SampledFrom(peers).Draw(rt, "peer")
		}
		rt.Repeat(map[string]func(*rapid.T){
			"register": func(rt *rapid.T) {
				ns, id := key(rt)
				reg := r.registration(ns, id, time.Duration(rapid.IntRange(1, 20).Draw(rt, "ttl"))*time.Second)
				reg.Seq = uint64(rapid.IntRange(1, 3).Draw(rt, "seq"))
				stale := false
				for k, e := range m {
					if k[1] == string(id) && e.deadline.After(r.now) && e.seq > reg.Seq {
						stale = true
					}
				}
				if err := r.register(reg); (err != nil) != stale {
					rt.Fatalf("register: %v, stale %v", err, stale)
				} else if err == nil {
					m[[2]string{ns, string(id)}] = modelEntry{deadline: reg.Expires, pos: r.pos, seq: reg.Seq}
				}
			},
			"unregister": func(rt *rapid.T) {
				ns, id := key(rt)
				r.commit(r.removals(RealmLibp2p, id, ns)...)
				delete(m, [2]string{ns, string(id)})
			},
			"unregister all": func(rt *rapid.T) {
				_, id := key(rt)
				r.commit(r.removals(RealmLibp2p, id, "")...)
				for _, ns := range namespaces {
					delete(m, [2]string{ns, string(id)})
				}
			},
			"wait": func(rt *rapid.T) {
				r.now = r.now.Add(time.Duration(rapid.IntRange(1, 5000).Draw(rt, "ms")) * time.Millisecond)
			},
			"expire": func(rt *rapid.T) {
				r.expire(r.now, rapid.IntRange(0, 4).Draw(rt, "most"))
			},
			"poll": func(rt *rapid.T) {
				p := rapid.SampledFrom(pollers).Draw(rt, "poller")
				limit := rapid.IntRange(1, 5).Draw(rt, "limit")
				var got []string
				got, p.l = r.page(p.ns, p.l, limit)
				p.full = len(got) == limit
				live := m.live(r.now, p.ns)
				for _, g := range got {
					if p.seen[g] {
						rt.Fatalf("%s came twice", g)
					}
					if !slices.Contains(live, g) {
						rt.Fatalf("%s is not registered, %v is", g, live)
					}
					p.seen[g] = true
				}
				if p.full {
					return
				}
				for _, want := range live {
					if !p.seen[want] {
						rt.Fatalf("%q: %s never came", p.ns, want)
					}
				}
			},
			"": func(*rapid.T) { r.check() },
		})
	})
}

// A poller that reads pages of any size while writers go on sees, once they
// stop, exactly what is registered.
func TestListingIsExact(t *testing.T) {
	r := newTestRegistry(t, Limits{})
	for i := range 2000 {
		if err := r.register(r.registration("ns", peer.ID(fmt.Sprint(i)), time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]int{}
	var l listing
	for n := 0; ; n++ {
		var got []string
		got, l = r.page("ns", l, 1+r.rng.IntN(100))
		for _, g := range got {
			seen[g]++
		}
		if n < 60 {
			for range 20 {
				id := peer.ID(fmt.Sprint(r.rng.IntN(3000)))
				if r.rng.IntN(4) == 0 {
					r.commit(r.removals(RealmLibp2p, id, "ns")...)
				} else if err := r.register(r.registration("ns", id, time.Hour)); err != nil {
					t.Fatal(err)
				}
			}
		} else if len(got) == 0 {
			break
		}
	}
	for g, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", g, n)
		}
	}
	o, _ := r.orderOf(RealmLibp2p, "ns")
	o.each(0, 1<<63, func(e *entry) bool {
		if seen[fmt.Sprintf("ns/%s@%d", string(e.peer.id), e.pos)] == 0 {
			t.Errorf("%s@%d never came", e.peer.id, e.pos)
		}
		return true
	})
	r.check()
}

// Every registration is as likely to be on a first page as any other.
func TestFirstPageIsFair(t *testing.T) {
	const peers, pages, limit = 1000, 4000, 10
	r := newTestRegistry(t, Limits{})
	for i := range 3 * peers { // leave holes of all sizes
		if err := r.register(r.registration("ns", peer.ID(fmt.Sprint(i)), time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 * peers {
		if i%3 != 0 || i > 1500 && i < 2000 {
			r.commit(r.removals(RealmLibp2p, peer.ID(fmt.Sprint(i)), "ns")...)
		}
	}
	o, _ := r.orderOf(RealmLibp2p, "ns")
	count := map[string]int{}
	for range pages {
		got, _ := r.page("ns", listing{}, limit)
		for _, g := range got {
			count[g]++
		}
	}
	want := float64(pages*limit) / float64(o.n)
	if len(count) != o.n {
		t.Errorf("%d of %d ever on a first page", len(count), o.n)
	}
	for g, n := range count {
		if f := float64(n); f < want/3 || f > want*3 {
			t.Errorf("%s: %d times on a first page, want about %.0f", g, n, want)
		}
	}
}

func TestSample(t *testing.T) {
	r := newTestRegistry(t, Limits{})
	for i := range 1000 {
		if err := r.register(r.registration("ns", peer.ID(fmt.Sprint(i)), time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	o, _ := r.orderOf(RealmLibp2p, "ns")
	count := map[peer.ID]int{}
	for _, limit := range []int{1, 10, 499, 500, 501, 999, 1000, 2000} {
		seen := map[peer.ID]bool{}
		r.sample(r.now, o, limit, r.rng, func(e *entry) bool {
			if seen[e.peer.id] {
				t.Errorf("limit %d: %s twice", limit, e.peer.id)
			}
			seen[e.peer.id] = true
			return true
		})
		if want := min(limit, 1000); len(seen) < want*9/10 {
			t.Errorf("limit %d: %d", limit, len(seen))
		}
	}
	for range 4000 {
		r.sample(r.now, o, 10, r.rng, func(e *entry) bool { count[e.peer.id]++; return true })
	}
	for i := range 1000 {
		if n := count[peer.ID(fmt.Sprint(i))]; n < 10 || n > 100 {
			t.Errorf("peer %d drawn %d times, want about 40", i, n)
		}
	}
}

func TestLimits(t *testing.T) {
	source := func(s string) netip.Addr { return sourceOf(netip.MustParseAddr(s)) }
	tests := []struct {
		name   string
		limits Limits
		reg    func(i int, reg *Registration)
		want   error
		admits int
	}{
		{"per peer", Limits{PerPeer: 3}, func(i int, reg *Registration) { reg.NS = fmt.Sprint(i) }, errPeerFull, 3},
		{"per namespace", Limits{PerNamespace: 4}, func(i int, reg *Registration) { reg.Peer = peer.ID(fmt.Sprint(i)) }, errNamespaceFull, 4},
		{"total", Limits{Total: 5}, func(i int, reg *Registration) { reg.Peer, reg.NS = peer.ID(fmt.Sprint(i)), fmt.Sprint(i) }, errFull, 5},
		{"bytes", Limits{Bytes: 1000}, func(i int, reg *Registration) { reg.Peer, reg.Record = peer.ID(fmt.Sprint(i)), nil }, errFull, 3},
		{"per source", Limits{PerSource: 6}, func(i int, reg *Registration) {
			reg.Peer, reg.Source = peer.ID(fmt.Sprint(i)), source("192.0.2.1")
		}, errSourceFull, 6},
		{"per source, IPv6", Limits{PerSource: 6}, func(i int, reg *Registration) {
			reg.Peer, reg.Source = peer.ID(fmt.Sprint(i)), source(fmt.Sprintf("2001:db8::%x", i))
		}, errSourceFull, 6},
		{"per net", Limits{PerNet: 7}, func(i int, reg *Registration) {
			reg.Peer, reg.Source = peer.ID(fmt.Sprint(i)), source(fmt.Sprintf("192.0.2.%d", i))
		}, errSourceFull, 7},
		{"per net, IPv6", Limits{PerNet: 7}, func(i int, reg *Registration) {
			reg.Peer, reg.Source = peer.ID(fmt.Sprint(i)), source(fmt.Sprintf("2001:db8:0:%x::1", i))
		}, errSourceFull, 7},
		{"this machine is no source", Limits{PerSource: 1, PerNet: 1}, func(i int, reg *Registration) {
			reg.Peer, reg.Source = peer.ID(fmt.Sprint(i)), source("127.0.0.1")
		}, nil, 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newTestRegistry(t, tt.limits)
			reg := func(i int) Registration {
				reg := r.registration("ns", "peer", 10*time.Second)
				tt.reg(i, &reg)
				return reg
			}
			for i := range 20 {
				want := tt.want
				if i < tt.admits {
					want = nil
				}
				if err := r.register(reg(i)); !errors.Is(err, want) {
					t.Fatalf("registration %d: %v, want %v", i, err, want)
				}
			}
			if err := r.register(reg(0)); err != nil {
				t.Errorf("a refresh at the limit: %v", err)
			}
			r.check()
			// What has expired does not count, collected or not.
			r.now = r.now.Add(10 * time.Second)
			if err := r.register(reg(15)); err != nil {
				t.Errorf("after all have expired: %v", err)
			}
			r.expire(r.now.Add(time.Second), 1000)
			if r.live != 1 {
				t.Errorf("%d live, want 1", r.live)
			}
			r.check()
		})
	}
}

// Room is reserved while a registration is on its way through the store.
func TestReservation(t *testing.T) {
	r := newTestRegistry(t, Limits{PerPeer: 1, PerSource: 1})
	reg := r.registration("ns", "peer", time.Hour)
	reg.Source = netip.MustParseAddr("192.0.2.1")
	first, err := r.admit(r.now, &reg)
	if err != nil {
		t.Fatal(err)
	}
	other := r.registration("other", "peer", time.Hour)
	if _, err := r.admit(r.now, &other); !errors.Is(err, errPeerFull) {
		t.Errorf("a second one of the peer: %v", err)
	}
	stranger := r.registration("ns", "stranger", time.Hour)
	stranger.Source = reg.Source
	if _, err := r.admit(r.now, &stranger); !errors.Is(err, errSourceFull) {
		t.Errorf("a second peer of the source: %v", err)
	}
	r.release(first) // the store failed
	r.check()
	if len(r.sources)+len(r.nets) != 0 {
		t.Error("source kept")
	}
	if err := r.register(stranger); err != nil {
		t.Error(err)
	}
}

// After a restart nothing lives longer than its TTL, whatever the wall clock.
func TestApplyBoundsLife(t *testing.T) {
	r := newTestRegistry(t, Limits{})
	reg := r.registration("ns", "peer", time.Minute)
	reg.Expires = r.now.Add(1000 * time.Hour).Round(0) // no monotonic reading
	r.commit(Change{Registration: reg})
	e := r.entry(reg.Key)
	if left := r.left(r.now, e); left != time.Minute {
		t.Errorf("left %v, want the TTL of a minute", left)
	}
	gone := r.registration("ns", "gone", time.Minute)
	gone.Expires = r.now.Add(-time.Second)
	r.commit(Change{Registration: gone})
	if r.entry(gone.Key) != nil {
		t.Error("an expired one was applied")
	}
	r.check()
}

// A point that is behind another one of the same store skips nothing.
func TestListingOnLaggingPoint(t *testing.T) {
	var changes []Change
	ahead, behind := newTestRegistry(t, Limits{}), newTestRegistry(t, Limits{})
	behind.base, behind.now = ahead.base, ahead.now
	for i := range 100 {
		c := Change{Pos: uint64(i + 1), Registration: ahead.registration("ns", peer.ID(fmt.Sprint(i)), time.Hour)}
		changes = append(changes, c)
	}
	ahead.apply(ahead.now, changes)
	for lag := range 100 {
		behind := newTestRegistry(t, Limits{})
		behind.base, behind.now = ahead.base, ahead.now
		behind.apply(behind.now, changes[:100-lag])
		seen := map[string]int{}
		var l listing
		for page := range 60 {
			r := ahead
			if page%2 == 1 {
				r = behind
			}
			if page == 50 { // it catches up
				behind.apply(behind.now, changes)
			}
			var got []string
			got, l = r.page("ns", l, 7)
			for _, g := range got {
				seen[g]++
			}
		}
		for _, g := range seen {
			if g != 1 {
				t.Fatalf("lag %d: a record came %d times", lag, g)
			}
		}
		if len(seen) != 100 {
			t.Fatalf("lag %d: %d records, want 100", lag, len(seen))
		}
	}
}

func TestCookies(t *testing.T) {
	c := cookies{epoch: 7, secrets: [][32]byte{{1}, {2}}}
	tag := tagOf(RealmLibp2p, "ns")
	l := listing{phase: phaseRound, hi: 1 << 60, start: 12345, cur: 99}
	b := c.seal(nil, tag, l)
	if len(b) != cookieSize {
		t.Errorf("%d bytes, want %d", len(b), cookieSize)
	}
	for _, x := range b[8:] {
		if x < ' ' || x > '~' {
			t.Errorf("byte %#x after the eighth is not printable", x)
		}
	}
	if got, fit := c.open(b, tag); fit != cookieGood || got != l {
		t.Errorf("got %+v, %v", got, fit)
	}
	if _, fit := c.open(b, tagOf(RealmLibp2p, "other")); fit != cookieOther {
		t.Errorf("in another namespace: %v", fit)
	}
	if _, fit := c.open(b, tagOf(RealmWaku, "ns")); fit != cookieOther {
		t.Errorf("in another realm: %v", fit)
	}
	lost := cookies{epoch: 8, secrets: [][32]byte{{3}, {1}}}
	if _, fit := lost.open(b, tag); fit != cookieOther {
		t.Errorf("after the store was lost: %v", fit)
	}
	stranger := cookies{epoch: 7, secrets: [][32]byte{{4}}}
	if _, fit := stranger.open(b, tag); fit != cookieBad {
		t.Errorf("with another secret: %v", fit)
	}
	for i := range len(b) * 8 {
		bad := bytes.Clone(b)
		bad[i/8] ^= 1 << (i % 8)
		if _, fit := c.open(bad, tag); fit != cookieBad {
			t.Errorf("bit %d flipped: %v", i, fit)
		}
	}
	for _, bad := range [][]byte{nil, {}, b[:71], append(bytes.Clone(b), 'A'), bytes.Repeat([]byte{'\n'}, 72)} {
		if _, fit := c.open(bad, tag); fit != cookieBad {
			t.Errorf("%q: %v", bad, fit)
		}
	}
}

func TestOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var o order
		var want []*entry
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		for pos := uint64(1); pos < 3000; pos++ {
			if len(want) > 0 && rng.IntN(5) < 2 {
				// Removals come in runs, as of a group that expires.
				i := rng.IntN(len(want))
				for range min(rng.IntN(40), len(want)-i) {
					o.remove(want[i])
					want = slices.Delete(want, i, i+1)
				}
			}
			e := &entry{pos: pos}
			o.push(e)
			want = append(want, e)
		}
		from := rapid.Uint64Range(0, 3000).Draw(rt, "from")
		to := from + rapid.Uint64Range(0, 3000).Draw(rt, "length")
		var got []*entry
		o.each(from, to, func(e *entry) bool { got = append(got, e); return true })
		i, _ := slices.BinarySearchFunc(want, from+1, func(e *entry, p uint64) int { return cmp.Compare(e.pos, p) })
		j, _ := slices.BinarySearchFunc(want, to+1, func(e *entry, p uint64) int { return cmp.Compare(e.pos, p) })
		if !slices.Equal(got, want[i:j]) {
			rt.Fatalf("%d < pos <= %d: got %d entries, want %d", from, to, len(got), j-i)
		}
	})
}
