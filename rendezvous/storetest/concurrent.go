package storetest

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/muster-p2p/muster/rendezvous"
)

// A poller is a client that polls with a cookie, at one point or at several in
// turn, and holds what it is given to the promise: every registration once per
// change, none missed.
type poller struct {
	cookie uint64
	seen   map[rendezvous.Key]rendezvous.Change
}

// poll asks one point and takes over what is new.
func (p *poller) poll(t testing.TB, at opened) {
	changes, _ := at.After(p.cookie)
	for _, c := range changes {
		if c.Pos <= p.cookie {
			t.Errorf("position %d again", c.Pos)
		}
		p.cookie = c.Pos
		if c.Removed {
			delete(p.seen, c.Key)
			continue
		}
		if before, ok := p.seen[c.Key]; ok && c.Seq <= before.Seq {
			t.Errorf("%q of %x: seq %d at %d, after %d at %d", c.NS, string(c.Peer), c.Seq, c.Pos, before.Seq, before.Pos)
		}
		p.seen[c.Key] = c
	}
}

// write has several writers register, refresh and remove at the points until
// each has made n commits. Every writer has keys of its own, and checks that a
// poll with the cookie from before its Commit finds the change after it. It
// returns what must be there in the end.
func write(t testing.TB, points []opened, writers, n int) map[rendezvous.Key]rendezvous.Change {
	t.Helper()
	var (
		mu   sync.Mutex
		want = map[rendezvous.Key]rendezvous.Change{}
		wg   sync.WaitGroup
	)
	for w := range writers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			mine := map[rendezvous.Key]rendezvous.Change{}
			for i := range n {
				at := points[rng.IntN(len(points))]
				c := Registration("ns"+strconv.Itoa(rng.IntN(3)), w*100+rng.IntN(8), uint64(i+1), time.Hour)
				if rng.IntN(5) == 0 {
					c = Removal(c.Key)
				}
				cookie := at.Last()
				if err := at.Commit(t.Context(), []rendezvous.Change{c}); err != nil {
					t.Errorf("Commit: %v", err)
					return
				}
				if c.Removed {
					delete(mine, c.Key)
					continue
				}
				mine[c.Key] = c
				if !found(at, cookie, c) {
					t.Errorf("a poll after OK misses %q of %x", c.NS, string(c.Peer))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for k, c := range mine {
				want[k] = c
			}
		})
	}
	wg.Wait()
	return want
}

func found(at opened, cookie uint64, c rendezvous.Change) bool {
	changes, _ := at.After(cookie)
	for _, got := range changes {
		if same(got, c) {
			return true
		}
	}
	return false
}

// pollWhile runs pollers beside do and returns what each has seen when do has
// returned and settled has been given the chance to bring all points up.
func pollWhile(t testing.TB, points []opened, n int, do func(), settled func()) []*poller {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	pollers := make([]*poller, n)
	var wg sync.WaitGroup
	for i := range pollers {
		p := &poller{seen: map[rendezvous.Key]rendezvous.Change{}}
		pollers[i] = p
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 2))
			for ctx.Err() == nil {
				at := points[rng.IntN(len(points))]
				_, grown := at.After(at.Last())
				p.poll(t, at)
				select {
				case <-grown:
				case <-ctx.Done():
				}
			}
		})
	}
	do()
	settled()
	stop()
	wg.Wait()
	for _, p := range pollers {
		p.poll(t, points[0])
	}
	return pollers
}

// Writers register while readers poll: the union of the polls is the set of
// registrations.
func testPollers(t *testing.T, m Maker) {
	o := open(t, m.Place(t)(), rendezvous.Meta{})
	points := []opened{o}
	var want map[rendezvous.Key]rendezvous.Change
	pollers := pollWhile(t, points, 4, func() { want = write(t, points, 8, 100) }, func() {})
	sameLive(t, o.Live(), want, false)
	for _, p := range pollers {
		sameLive(t, p.seen, o.Live(), true)
	}
}

// openMany opens several points over one place.
func openMany(t testing.TB, place func() rendezvous.Store, n int) []opened {
	t.Helper()
	points := make([]opened, n)
	for i := range points {
		points[i] = open(t, place(), rendezvous.Meta{Epoch: uint64(i + 1)})
	}
	return points
}

// level waits until every point has applied what the others have. Positions do
// not tell: the history may have gaps. So it commits a last registration, and
// returns it when all points have it.
func level(t testing.TB, points []opened) rendezvous.Change {
	t.Helper()
	c := Registration("level", 1, 1, time.Hour)
	points[0].commit(t, c)
	for _, p := range points {
		p.wait(t, "a point that has caught up", func() bool { _, ok := p.Get(c.Key); return ok })
	}
	return c
}

func testSharedMeta(t *testing.T, m Maker) {
	place := m.Place(t)
	var wg sync.WaitGroup
	points := make([]opened, 3)
	for i := range points { // all at once: one proposal wins
		wg.Go(func() {
			points[i] = open(t, place(), rendezvous.Meta{Epoch: uint64(i + 1), Secret: [32]byte{byte(i)}})
		})
	}
	wg.Wait()
	for _, p := range points {
		if !sameStore(p.meta, points[0].meta) {
			t.Errorf("points differ: %v and %v", p.meta, points[0].meta)
		}
	}
}

// "A shared store calls apply with other points' changes within a second"
func testSharedFollow(t *testing.T, m Maker) {
	points := openMany(t, m.Place(t), 2)
	a, b := points[0], points[1]
	c := Registration("ns", 1, 1, time.Hour)
	var worst time.Duration
	for seq := range uint64(5) {
		c.Seq = seq
		a.commit(t, c)
		start := time.Now()
		b.wait(t, "the other point's change", func() bool { got, ok := b.Get(c.Key); return ok && got.Seq == seq })
		worst = max(worst, time.Since(start))
		got, _ := b.Get(c.Key)
		notLonger(t, got, c)
	}
	b.commit(t, Removal(c.Key)) // removed by a point that did not register it
	a.wait(t, "the other point's removal", func() bool { _, ok := a.Get(c.Key); return !ok })
	t.Logf("slowest of 5: %v", worst)
	if worst > time.Second {
		t.Errorf("it took %v, want at most a second", worst)
	}
}

// Writers at every point, in parallel transactions, and readers that go from
// point to point with one cookie: nothing missed, nothing twice.
func testSharedPollers(t *testing.T, m Maker) {
	for _, n := range []int{2, 3} {
		t.Run(strconv.Itoa(n)+"points", func(t *testing.T) {
			points := openMany(t, m.Place(t), n)
			var want map[rendezvous.Key]rendezvous.Change
			pollers := pollWhile(t, points, 4,
				func() { want = write(t, points, 12, 60) },
				func() { c := level(t, points); want[c.Key] = c })
			for _, p := range points {
				sameLive(t, p.Live(), want, false)
			}
			for _, p := range pollers {
				sameLive(t, p.seen, points[0].Live(), true)
			}
		})
	}
}

// All points apply the same history, whoever wrote it, also when they fight
// over the same keys; a point that opens later holds the same.
func testSharedSameHistory(t *testing.T, m Maker) {
	place := m.Place(t)
	points := openMany(t, place, 3)
	var wg sync.WaitGroup
	for w, p := range points {
		for v := range 4 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(w), uint64(v)))
				for i := range 50 {
					c := Registration("ns", rng.IntN(5), uint64(w<<32|v<<16|i), time.Hour)
					if rng.IntN(4) == 0 {
						c = Removal(c.Key)
					}
					if err := p.Commit(t.Context(), []rendezvous.Change{c}); err != nil {
						t.Errorf("Commit: %v", err)
					}
				}
			})
		}
	}
	wg.Wait()
	level(t, points)
	points = append(points, openMany(t, place, 1)...)
	at := map[uint64]rendezvous.Change{}
	for i, p := range points {
		log, _ := p.After(0)
		for _, c := range log {
			if before, ok := at[c.Pos]; ok && (before.Key != c.Key || before.Seq != c.Seq && !c.Removed && !before.Removed) {
				t.Errorf("position %d is %v seq %d at one point and %v seq %d at another", c.Pos, before.Key, before.Seq, c.Key, c.Seq)
			}
			at[c.Pos] = c
		}
		if i > 0 {
			sameLive(t, p.Live(), points[0].Live(), true)
		}
	}
}
