package storetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-p2p/muster/rendezvous"
)

func testMeta(t *testing.T, m Maker) {
	place := m.Place(t)
	first := rendezvous.Meta{Epoch: 1<<63 + 7, Secret: [32]byte{0, 1, 2, 31: 255}}
	o := open(t, place(), first)
	if !sameStore(o.meta, first) {
		t.Errorf("a new store keeps %v, want the proposal %v", o.meta, first)
	}
	o.close(t)
	second := rendezvous.Meta{Epoch: 8, Secret: [32]byte{9}}
	want := first
	if m.Forgets {
		want = second
	}
	if o := open(t, place(), second); !sameStore(o.meta, want) {
		t.Errorf("opened again: %v, want %v", o.meta, want)
	}
}

// sameStore compares who two stores are.
func sameStore(a, b rendezvous.Meta) bool { return a.Epoch == b.Epoch && a.Secret == b.Secret }

// "It returns nil only after ... apply has returned from the call with them"
func testCommitIsApplied(t *testing.T, m Maker) {
	o := open(t, m.Place(t)(), rendezvous.Meta{})
	k := Registration("ns", 1, 0, time.Hour).Key
	for seq := range uint64(20) {
		c := Registration("ns", 1, seq, time.Hour)
		o.commit(t, c)
		got, ok := o.Get(k)
		if !ok || !same(got, c) {
			t.Fatalf("after Commit: %s, want %s", show(got), show(c))
		}
		if !got.Expires.Equal(c.Expires) {
			t.Fatalf("Expires %v of an own change, want the very %v", got.Expires, c.Expires)
		}
	}
	o.commit(t, Removal(k))
	if _, ok := o.Get(k); ok {
		t.Error("there after its removal")
	}
	if len(o.Live()) != 0 {
		t.Error("something is left")
	}
}

func testVerbatim(t *testing.T, m Maker) {
	place := m.Place(t)
	o := open(t, place(), rendezvous.Meta{})
	want := map[rendezvous.Key]rendezvous.Change{}
	for _, c := range odd() {
		o.commit(t, c)
		want[c.Key] = c
	}
	sameLive(t, o.Live(), want, false)
	want = o.Live()
	o.close(t)
	if m.Forgets {
		return
	}
	o = open(t, place(), rendezvous.Meta{})
	sameLive(t, o.Live(), want, true)
	for k := range want {
		o.commit(t, Removal(k))
	}
	o.close(t)
	o = open(t, place(), rendezvous.Meta{})
	sameLive(t, o.Live(), nil, true)
}

// "Commit adds changes to the history, all or none and next to each other"
func testGroups(t *testing.T, m Maker) {
	o := open(t, m.Place(t)(), rendezvous.Meta{})
	const writers, groups, size = 4, 10, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for g := range groups {
				var changes []rendezvous.Change
				for i := range size {
					changes = append(changes, Registration("ns"+strconv.Itoa(g), w*size+i, uint64(g), time.Hour))
				}
				before := slices.Clone(changes)
				if err := o.Commit(t.Context(), changes); err != nil {
					t.Errorf("Commit: %v", err)
				}
				if !slices.EqualFunc(before, changes, same) || changes[0].Pos != 0 {
					t.Error("Commit changed its argument")
				}
			}
		})
	}
	wg.Wait()
	log, _ := o.After(0)
	if len(log) != writers*groups*size {
		t.Fatalf("%d changes applied, want %d", len(log), writers*groups*size)
	}
	for i := 0; i < len(log); i += size {
		for j, c := range log[i : i+size] {
			if c.NS != log[i].NS || c.Peer != PeerID(int(log[i].Peer[37])+j) {
				t.Fatalf("position %d: another commit's change amid a group", c.Pos)
			}
		}
	}

	// Within one commit the last change of a key counts.
	a, b := Registration("twice", 1, 1, time.Hour), Registration("twice", 1, 2, time.Hour)
	o.commit(t, a, Removal(a.Key), b)
	if got, _ := o.Get(a.Key); got.Seq != 2 {
		t.Errorf("register, remove, register: seq %d, want 2", got.Seq)
	}
	o.commit(t, a, b, Removal(a.Key))
	if _, ok := o.Get(a.Key); ok {
		t.Error("register, register, remove: still there")
	}
	o.commit(t) // nothing to do is no error
}

// A peer that leaves all of its names is one Commit of a thousand changes; many
// may do so at once.
func testLarge(t *testing.T, m Maker) {
	o := open(t, m.Place(t)(), rendezvous.Meta{})
	const peers, names = 16, 1000
	var wg sync.WaitGroup
	for p := range peers {
		wg.Go(func() {
			var in, out []rendezvous.Change
			for i := range names {
				c := Registration("ns"+strconv.Itoa(i), p, 1, time.Hour)
				in, out = append(in, c), append(out, Removal(c.Key))
			}
			for _, changes := range [][]rendezvous.Change{in, out[:names-1]} {
				if err := o.Commit(t.Context(), changes); err != nil {
					t.Errorf("Commit of %d changes: %v", len(changes), err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(o.Live()); n != peers {
		t.Errorf("%d registrations are left, want %d", n, peers)
	}
}

func testRemoveUnknown(t *testing.T, m Maker) {
	place := m.Place(t)
	o := open(t, place(), rendezvous.Meta{})
	o.commit(t, Removal(Registration("ns", 1, 1, time.Hour).Key))
	keep := Registration("ns", 2, 1, time.Hour)
	o.commit(t, Removal(Registration("ns", 1, 1, time.Hour).Key), keep)
	if got := o.Live(); len(got) != 1 {
		t.Errorf("%d registrations, want 1", len(got))
	}
}

// expireAll calls Expire until it drops nothing for a whole round: a call may
// look at a part of the rows only.
func expireAll(t testing.TB, o opened, before time.Time) int {
	t.Helper()
	total := 0
	for idle := 0; idle < 20; idle++ {
		n, err := o.Expire(t.Context(), before)
		if err != nil {
			t.Fatalf("Expire: %v", err)
		}
		if n > 0 {
			idle = 0
		}
		total += n
	}
	return total
}

func testExpire(t *testing.T, m Maker) {
	place := m.Place(t)
	o := open(t, place(), rendezvous.Meta{})
	want := map[rendezvous.Key]rendezvous.Change{}
	const n = 200
	for i := range n {
		short := Registration("short", i, 1, time.Minute)
		long := Registration("long", i, 1, time.Hour)
		o.commit(t, short, long)
		want[long.Key] = long
	}
	again := Registration("short", 0, 2, time.Hour) // refreshed: not to be dropped
	o.commit(t, again)
	want[again.Key] = again

	if dropped := expireAll(t, o, time.Now().Add(30*time.Second)); dropped != 0 {
		t.Errorf("%d dropped before their time", dropped)
	}
	dropped := expireAll(t, o, time.Now().Add(2*time.Minute))
	if m.Forgets {
		return
	}
	if dropped != n-1 {
		t.Errorf("%d dropped, want %d", dropped, n-1)
	}
	o.close(t)
	o = open(t, place(), rendezvous.Meta{})
	sameLive(t, o.Live(), want, false)
}

// A registration that is refreshed while Expire runs is not dropped with the
// state that had expired.
func testExpireBesideRefresh(t *testing.T, m Maker) {
	place := m.Place(t)
	o := open(t, place(), rendezvous.Meta{})
	const peers, rounds = 50, 20
	want := map[rendezvous.Key]rendezvous.Change{}
	for round := range rounds {
		ns := "ns" + strconv.Itoa(round) // of its own: what is lost stays lost
		for i := range peers {
			o.commit(t, Registration(ns, i, 1, time.Minute))
		}
		var wg sync.WaitGroup
		began := make(chan struct{})
		wg.Go(func() {
			close(began)
			if _, err := o.Expire(t.Context(), time.Now().Add(30*time.Minute)); err != nil {
				t.Errorf("Expire: %v", err)
			}
		})
		<-began
		for i := range peers {
			c := Registration(ns, i, 2, time.Hour)
			o.commit(t, c)
			want[c.Key] = c
		}
		wg.Wait()
	}
	o.close(t)
	if m.Forgets {
		return
	}
	o = open(t, place(), rendezvous.Meta{})
	sameLive(t, o.Live(), want, false)
}

func testCancelled(t *testing.T, m Maker) {
	o := open(t, m.Place(t)(), rendezvous.Meta{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := o.Commit(ctx, []rendezvous.Change{Registration("ns", 1, 1, time.Hour)})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Commit: %v, want nil or context.Canceled", err)
	}
	o.commit(t, Registration("ns", 2, 1, time.Hour))
}

func testClosed(t *testing.T, m Maker) {
	place := m.Place(t)
	o := open(t, place(), rendezvous.Meta{})
	var wg sync.WaitGroup
	var closed atomic.Bool
	acknowledged := make([]rendezvous.Change, 8)
	for w := range acknowledged {
		wg.Go(func() {
			for seq := uint64(1); ; seq++ {
				c := Registration("ns", w, seq, time.Hour)
				late := closed.Load()
				if err := o.Commit(t.Context(), []rendezvous.Change{c}); err != nil {
					refused(t, err, rendezvous.ErrClosed)
					return
				}
				if late {
					t.Error("Commit after Close succeeded")
					return
				}
				acknowledged[w] = c
			}
		})
	}
	o.wait(t, "100 changes", func() bool { return o.Last() > 100 })
	o.close(t)
	closed.Store(true)
	wg.Wait()
	o.close(t)
	refused(t, o.Commit(t.Context(), []rendezvous.Change{Registration("ns", 1, 1, time.Hour)}), rendezvous.ErrClosed)
	if _, err := o.Expire(t.Context(), time.Now()); !m.Forgets {
		refused(t, err, rendezvous.ErrClosed)
	}
	if m.Forgets {
		return
	}
	o = open(t, place(), rendezvous.Meta{})
	for w, c := range acknowledged {
		if got, ok := o.Get(c.Key); c.Seq > 0 && (!ok || got.Seq < c.Seq) {
			t.Errorf("writer %d: seq %d acknowledged, %d there after Close", w, c.Seq, got.Seq)
		}
	}
	// Close is fine on a store that was never opened.
	o.close(t)
	if err := place().Close(); err != nil {
		t.Errorf("Close before Open: %v", err)
	}
}

func testOpenCancelled(t *testing.T, m Maker) {
	place := m.Place(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := place()
	if _, err := s.Open(ctx, rendezvous.Meta{}, NewMirror().Apply); err == nil {
		t.Error("Open with a cancelled context succeeded")
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	open(t, place(), rendezvous.Meta{}) // and did no harm
}

func testRestart(t *testing.T, m Maker) {
	place := m.Place(t)
	o := open(t, place(), rendezvous.Meta{})
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 5 {
		for range 200 {
			c := Registration("ns"+strconv.Itoa(rng.IntN(5)), rng.IntN(40), uint64(round), time.Hour)
			if rng.IntN(4) == 0 {
				c = Removal(c.Key)
			}
			o.commit(t, c)
		}
		want, last := o.Live(), o.Last()
		o.close(t)
		o = open(t, place(), rendezvous.Meta{})
		sameLive(t, o.Live(), want, true)
		if o.Last() > last {
			t.Fatalf("positions up to %d after a restart at %d", o.Last(), last)
		}
	}
}

// "A position that apply was called with is never used for another change":
// also when the change with the highest position is gone.
func testPositionsAcrossRestart(t *testing.T, m Maker) {
	place := m.Place(t)
	var last uint64
	for range 3 {
		o := open(t, place(), rendezvous.Meta{})
		if o.meta.Sole && o.meta.Head != last {
			t.Errorf("opened at position %d after %d had been used", o.meta.Head, last)
		}
		c := Registration("ns", 1, 1, time.Hour)
		o.commit(t, c)
		if got, _ := o.Get(c.Key); got.Pos <= last {
			t.Fatalf("position %d after %d had been used", got.Pos, last)
		}
		o.commit(t, Removal(c.Key))
		if o.Last() <= last+1 {
			t.Fatalf("removal at %d after %d had been used", o.Last(), last+1)
		}
		last = o.Last()
		o.close(t)
	}
}

func testExpiredAcrossRestart(t *testing.T, m Maker) {
	place := m.Place(t)
	o := open(t, place(), rendezvous.Meta{})
	c := Registration("ns", 1, 1, time.Second)
	c.Expires = time.Now().Add(-time.Minute)
	long := Registration("ns", 2, 1, time.Hour)
	o.commit(t, c, long)
	o.close(t)
	o = open(t, place(), rendezvous.Meta{})
	if got, ok := o.Get(c.Key); ok { // it may be left out
		notLonger(t, got, c)
	}
	got, ok := o.Get(long.Key)
	if !ok {
		t.Fatal("lost")
	}
	notLonger(t, got, long)
}

// seedVar is the variable of the environment that a walk is taken again by.
const seedVar = "MUSTER_TEST_SEED"

// testModel runs random changes against a map, with restarts.
func testModel(t *testing.T, m Maker) {
	place := m.Place(t)
	seed := uint64(time.Now().UnixNano())
	if again, err := strconv.ParseUint(os.Getenv(seedVar), 10, 64); err == nil {
		seed = again
	}
	t.Logf("seed %d; for the same walk set %s", seed, seedVar)
	rng := rand.New(rand.NewPCG(seed, 0))
	model := map[rendezvous.Key]rendezvous.Change{}
	o := open(t, place(), rendezvous.Meta{})
	for step := range 400 {
		switch n := rng.IntN(100); {
		case n < 2 && !m.Forgets:
			o.close(t)
			o = open(t, place(), rendezvous.Meta{})
		case n < 10:
			expired := time.Now().Add(time.Duration(rng.IntN(120)) * time.Minute)
			if _, err := o.Expire(t.Context(), expired); err != nil {
				t.Fatal(err)
			}
			// A store may have dropped them; from here on nobody asks.
			for k, c := range model {
				if c.Expires.Before(expired.Add(time.Second)) {
					o.commit(t, Removal(k))
					delete(model, k)
				}
			}
		default:
			var changes []rendezvous.Change
			for range 1 + rng.IntN(4) {
				c := Registration("ns"+strconv.Itoa(rng.IntN(3)), rng.IntN(10), uint64(step), time.Duration(1+rng.IntN(180))*time.Minute)
				if rng.IntN(3) == 0 {
					c = Removal(c.Key)
					delete(model, c.Key)
				} else {
					model[c.Key] = c
				}
				changes = append(changes, c)
			}
			o.commit(t, changes...)
		}
		if step%50 == 0 {
			sameLive(t, o.Live(), model, false)
		}
	}
	sameLive(t, o.Live(), model, false)
}
