package pgstore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/pgstore"
	"github.com/muster-p2p/muster/rendezvous/storetest"
)

func newConfig(u string) (*pgstore.Store, error) { return pgstore.New(pgstore.Config{URL: u}) }

// openStore opens a store and closes it, without a complaint, at the end.
func openStore(t testing.TB, cfg pgstore.Config) (*pgstore.Store, *storetest.Mirror, rendezvous.Meta) {
	t.Helper()
	s, m := newStore(t, cfg), storetest.NewMirror()
	meta, err := s.Open(t.Context(), rendezvous.Meta{Epoch: rand.Uint64()}, m.Apply)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		for _, f := range m.Faults() {
			t.Error(f)
		}
	})
	return s, m, meta
}

// eventually waits until cond holds; what it looks at does not announce itself.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(30 * time.Second)
	defer end.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func register(ns string, n int, seq uint64) []rendezvous.Change {
	return []rendezvous.Change{storetest.Registration(ns, n, seq, time.Hour)}
}

// TestAway takes the database away. What comes waits, up to a bound; beyond it
// changes are refused as unavailable, at once. When the database is back what
// waited is committed, and what another point wrote meanwhile is there.
func TestAway(t *testing.T) {
	u := place(t)
	wire, through := newProxy(t, u)
	const bound = 20
	s, m, _ := openStore(t, pgstore.Config{URL: through, QueueLimit: bound})
	other, _, _ := openStore(t, pgstore.Config{URL: u})
	if err := s.Commit(t.Context(), register("before", 1, 1)); err != nil {
		t.Fatal(err)
	}
	goroutines := runtime.NumGoroutine()
	wire.setAway(true)
	eventually(t, "the store notices", func() bool { return errors.Is(s.Health(), rendezvous.ErrUnavailable) })

	var wg sync.WaitGroup
	for i := range bound {
		wg.Go(func() {
			if err := s.Commit(t.Context(), register("waited", i, 1)); err != nil {
				t.Errorf("one that waited: %v", err)
			}
		})
	}
	eventually(t, "the queue is full", func() bool { return s.Stats().Waiting == bound })
	for range 100 {
		if err := s.Commit(t.Context(), register("refused", 1, 1)); !errors.Is(err, rendezvous.ErrUnavailable) {
			t.Fatalf("beyond the bound: %v, want ErrUnavailable", err)
		}
	}
	if n := runtime.NumGoroutine(); n > goroutines+bound+10 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	if err := other.Commit(t.Context(), register("other", 1, 1)); err != nil {
		t.Fatal(err)
	}
	if d, err := time.ParseDuration(os.Getenv("MUSTER_TEST_AWAY")); err == nil {
		t.Logf("away for %v", d)
		select {
		case <-time.After(d):
		case <-t.Context().Done():
		}
	}

	wire.setAway(false)
	back := time.Now()
	wg.Wait()
	if d := time.Since(back); d > 6*time.Second {
		t.Errorf("it took %v to come back, want at most the longest pause", d)
	} else {
		t.Logf("back after %v", d)
	}
	if _, ok := m.Get(register("other", 1, 1)[0].Key); !ok {
		t.Error("what another point wrote meanwhile is not there")
	}
	if st := s.Stats(); st.Refused != 100 || st.Reconnects != 1 || s.Health() != nil {
		t.Errorf("%+v, health %v", st, s.Health())
	}
}

// A caller that waits for a database that is away gives up when its context
// ends, and its change is not made behind its back.
func TestAwayGivesUp(t *testing.T) {
	wire, through := newProxy(t, place(t))
	s, m, _ := openStore(t, pgstore.Config{URL: through})
	wire.setAway(true)
	eventually(t, "the store notices", func() bool { return s.Health() != nil })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	c := register("ns", 1, 1)
	if err := s.Commit(ctx, c); !errors.Is(err, rendezvous.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("gave up with %v, want ErrUnavailable and the context's error", err)
	}
	wire.setAway(false)
	if err := s.Commit(t.Context(), register("ns", 2, 1)); err != nil {
		t.Error(err)
	}
	if _, ok := m.Get(c[0].Key); ok {
		t.Error("what was given up was committed")
	}
}

// Close does not wait for a database that is away.
func TestAwayClose(t *testing.T) {
	wire, through := newProxy(t, place(t))
	s, _, _ := openStore(t, pgstore.Config{URL: through})
	wire.setAway(true)
	eventually(t, "the store notices", func() bool { return s.Health() != nil })
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			if err := s.Commit(t.Context(), register("ns", i, 1)); !errors.Is(err, rendezvous.ErrClosed) {
				t.Errorf("while closing: %v, want ErrClosed", err)
			}
		})
	}
	eventually(t, "they wait", func() bool { return s.Stats().Waiting == 5 })
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// A database that is away at the start is an error, soon.
func TestAwayAtStart(t *testing.T) {
	wire, through := newProxy(t, place(t))
	wire.setAway(true)
	s := newStore(t, pgstore.Config{URL: through})
	if _, err := s.Open(t.Context(), rendezvous.Meta{}, storetest.NewMirror().Apply); err == nil {
		t.Error("opened")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// load has writers with keys of their own commit until stop, and returns what
// was acknowledged last under each key. Errors but ErrUnavailable fail. The
// peers are numbered from first.
func load(ctx context.Context, t *testing.T, s rendezvous.Store, first, writers int) func() map[rendezvous.Key]rendezvous.Change {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		done = map[rendezvous.Key]rendezvous.Change{}
	)
	for w := first; w < first+writers; w++ {
		wg.Go(func() {
			for seq := uint64(1); ctx.Err() == nil; seq++ {
				c := register("ns"+strconv.Itoa(int(seq%5)), w, seq)
				err := s.Commit(ctx, c)
				switch {
				case err == nil:
					mu.Lock()
					done[c[0].Key] = c[0]
					mu.Unlock()
				case !errors.Is(err, rendezvous.ErrUnavailable):
					t.Errorf("Commit: %v", err)
					return
				}
			}
		})
	}
	return func() map[rendezvous.Key]rendezvous.Change {
		wg.Wait()
		return done
	}
}

// checkDone compares a mirror with what was acknowledged: as new or newer.
func checkDone(t *testing.T, who string, m *storetest.Mirror, done map[rendezvous.Key]rendezvous.Change) {
	t.Helper()
	for k, c := range done {
		if got, ok := m.Get(k); !ok || got.Seq < c.Seq {
			t.Errorf("%s: %q of %x: seq %d was acknowledged, there is %d", who, k.NS, string(k.Peer), c.Seq, got.Seq)
		}
	}
}

// checkTwice fails if a change was applied at two positions: if a transaction
// that was committed was taken for lost.
func checkTwice(t *testing.T, who string, m *storetest.Mirror) {
	t.Helper()
	type change struct {
		key rendezvous.Key
		seq uint64
	}
	seen := map[change]uint64{}
	log, _ := m.After(0)
	for _, c := range log {
		if before, ok := seen[change{c.Key, c.Seq}]; ok {
			t.Errorf("%s: %q of %x seq %d at %d and at %d", who, c.NS, string(c.Peer), c.Seq, before, c.Pos)
		}
		seen[change{c.Key, c.Seq}] = c.Pos
	}
}

// TestCut cuts the connection of a point under load, again and again, after any
// number of bytes: before, within and after a COMMIT, on its way there or on
// the way of the answer. Nothing acknowledged is lost, nothing is done twice,
// and another point sees the same.
func TestCut(t *testing.T) {
	u := place(t)
	wire, through := newProxy(t, u)
	s, m, _ := openStore(t, pgstore.Config{URL: through})
	_, follower, _ := openStore(t, pgstore.Config{URL: u})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	finish := load(ctx, t, s, 0, 4)
	rng := rand.New(rand.NewPCG(1, 2))
	cuts := 60
	if testing.Short() {
		cuts = 10
	}
	for n := range cuts {
		wire.budget.Store(1 + rng.Int64N(6000))
		eventually(t, "reconnected", func() bool { return s.Stats().Reconnects > uint64(n) })
	}
	stop()
	done := finish()
	if err := s.Commit(t.Context(), register("last", 1, 1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other point has followed", func() bool { return follower.Last() >= m.Last() })
	checkDone(t, "writer", m, done)
	checkDone(t, "follower", follower, done)
	checkTwice(t, "writer", m)
	for k, c := range m.Live() {
		if got, _ := follower.Get(k); got.Pos != c.Pos {
			t.Errorf("%q of %x at %d here and at %d there", k.NS, string(k.Peer), c.Pos, got.Pos)
		}
	}
	st := s.Stats()
	t.Logf("%d cuts, %d commits, %d of them settled", st.Reconnects, st.Commits, st.Settled)
	if !testing.Short() && st.Settled == 0 {
		t.Error("no cut hit a COMMIT")
	}
}

// TestFailServer crashes the server itself under load, and starts it again.
func TestFailServer(t *testing.T) {
	ctl := os.Getenv("MUSTER_TEST_PG_CTL")
	if ctl == "" {
		t.Skip("needs a server that may be stopped: run make test-pg")
	}
	run := func(verb string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), ctl, verb).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v: %s", ctl, verb, err, out)
		}
	}
	u := place(t)
	a, am, _ := openStore(t, pgstore.Config{URL: u})
	b, bm, _ := openStore(t, pgstore.Config{URL: u})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	finishA, finishB := load(ctx, t, a, 0, 4), load(ctx, t, b, 10, 4)
	for n := range 3 {
		commits := a.Stats().Commits
		eventually(t, "load", func() bool { return a.Stats().Commits > commits+20 })
		run("stop")
		eventually(t, "both notice", func() bool { return a.Health() != nil && b.Health() != nil })
		run("start")
		eventually(t, "both are back", func() bool {
			return a.Stats().Reconnects > uint64(n) && b.Stats().Reconnects > uint64(n)
		})
	}
	stop()
	doneA, doneB := finishA(), finishB()
	_, late, _ := openStore(t, pgstore.Config{URL: u})
	eventually(t, "both have caught up", func() bool { return am.Last() >= late.Last() && bm.Last() >= late.Last() })
	for who, m := range map[string]*storetest.Mirror{"a": am, "b": bm, "late": late} {
		checkDone(t, who, m, doneA)
		checkDone(t, who, m, doneB)
		checkTwice(t, who, m)
	}
	for k, c := range late.Live() {
		x, _ := am.Get(k)
		y, _ := bm.Get(k)
		if x.Pos != c.Pos || y.Pos != c.Pos {
			t.Errorf("%q of %x: at %d, %d and, for one that opens now, %d", k.NS, string(k.Peer), x.Pos, y.Pos, c.Pos)
		}
	}
}

// A database whose history went back, as by a restored backup, is not written
// on: it begins a new epoch, and points are restarted.
func TestFailHistoryWentBack(t *testing.T) {
	u := place(t)
	schema := u[strings.LastIndex(u, "=")+1:]
	s, _, before := openStore(t, pgstore.Config{URL: u})
	bystander, _, _ := openStore(t, pgstore.Config{URL: u})
	for i := range 10 {
		if err := s.Commit(t.Context(), register("ns", i, 1)); err != nil {
			t.Fatal(err)
		}
	}
	admin(t, "update "+schema+".muster_rendezvous set pos = 5")
	admin(t, "delete from "+schema+".muster_registration where pos > 5")
	for _, s := range []*pgstore.Store{s, bystander} {
		err := s.Commit(t.Context(), register("ns", 20, 1))
		if err == nil || !strings.Contains(err.Error(), "restart") || s.Health() == nil {
			t.Errorf("on a history that went back: %v, health %v", err, s.Health())
		}
	}
	again, m, after := openStore(t, pgstore.Config{URL: u})
	if after.Epoch == before.Epoch || after.Secret != before.Secret || len(m.Live()) != 5 {
		t.Errorf("opened again: epoch %d after %d, %d rows", after.Epoch, before.Epoch, len(m.Live()))
	}
	if err := again.Commit(t.Context(), register("ns", 20, 1)); err != nil {
		t.Error(err)
	}
}

// Tables of a later version are left alone.
func TestFailLaterTables(t *testing.T) {
	u := place(t)
	s, _, _ := openStore(t, pgstore.Config{URL: u})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	admin(t, "insert into "+u[strings.LastIndex(u, "=")+1:]+".muster_migration (version) values (1000)")
	late := newStore(t, pgstore.Config{URL: u})
	_, err := late.Open(t.Context(), rendezvous.Meta{}, storetest.NewMirror().Apply)
	if err == nil || !strings.Contains(err.Error(), "later") {
		t.Errorf("opened tables of version 1000: %v", err)
	}
}

// A row that was replaced by a shorter-lived one is kept, as a removal, until a
// point that only knows the first would have forgotten it.
func TestFollowsAfterShorterReplacement(t *testing.T) {
	u := place(t)
	wire, through := newProxy(t, u)
	a, _, _ := openStore(t, pgstore.Config{URL: u})
	far, m, _ := openStore(t, pgstore.Config{URL: through})
	long := storetest.Registration("ns", 1, 1, 72*time.Hour)
	if err := a.Commit(t.Context(), []rendezvous.Change{long}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is there", func() bool { _, ok := m.Get(long.Key); return ok })
	wire.setAway(true)
	eventually(t, "it is noticed", func() bool { return far.Health() != nil })

	short := storetest.Registration("ns", 1, 2, time.Second)
	short.Expires = time.Now().Add(-time.Second) // it has expired meanwhile
	if err := a.Commit(t.Context(), []rendezvous.Change{short}); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Expire(t.Context(), time.Now()); n != 0 || err != nil {
		t.Errorf("Expire dropped %d, %v: the other point still holds the state before", n, err)
	}
	wire.setAway(false)
	eventually(t, "it is gone", func() bool { _, ok := m.Get(long.Key); return !ok })
	if n, err := a.Expire(t.Context(), time.Now().Add(73*time.Hour)); n != 1 || err != nil {
		t.Errorf("Expire dropped %d, %v, want 1 when nobody can hold it", n, err)
	}
}

// Once the tables are there a point needs no right to make any.
func TestNeedsNoCreate(t *testing.T) {
	u := place(t)
	schema := u[strings.LastIndex(u, "=")+1:]
	s, _, _ := openStore(t, pgstore.Config{URL: u})
	if err := s.Commit(t.Context(), register("ns", 1, 1)); err != nil {
		t.Fatal(err)
	}
	role := schema + "_role"
	admin(t, "create role "+role)
	t.Cleanup(func() {
		admin(t, "drop owned by "+role)
		admin(t, "drop role "+role)
	})
	admin(t, "grant usage on schema "+schema+" to "+role)
	admin(t, "grant select, insert, update, delete on all tables in schema "+schema+" to "+role)
	humble, m, _ := openStore(t, pgstore.Config{URL: u + "&role=" + role})
	if err := humble.Commit(t.Context(), register("ns", 2, 1)); err != nil {
		t.Error(err)
	}
	if n, err := humble.Expire(t.Context(), time.Now().Add(2*time.Hour)); n != 2 || err != nil {
		t.Errorf("Expire: %d, %v", n, err)
	}
	if len(m.Live()) != 2 {
		t.Errorf("%d registrations, want 2", len(m.Live()))
	}
}

// A point that vanishes within its transaction, without a word, holds up the
// others only until the database ends the transaction, which every point asks
// it to.
func TestFailVanished(t *testing.T) {
	u := place(t)
	schema := u[strings.LastIndex(u, "=")+1:]
	s, _, _ := openStore(t, pgstore.Config{URL: u})
	db, err := pgx.Connect(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(background) }()
	for _, sql := range []string{
		"begin", "set local idle_in_transaction_session_timeout = 100",
		"update " + schema + ".muster_rendezvous set pos = pos + 1",
	} {
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	if err := s.Commit(t.Context(), register("ns", 1, 1)); err != nil {
		t.Errorf("behind a transaction that is not ended: %v", err)
	}
	t.Logf("committed after %v", time.Since(start))
}

// A database that may only be read, as a replica, is told from one that is
// away.
func TestReadOnly(t *testing.T) {
	u := place(t)
	openStore(t, pgstore.Config{URL: u})
	s, err := newConfig(u + "&default_transaction_read_only=on")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Open(t.Context(), rendezvous.Meta{}, func([]rendezvous.Change) {})
	if err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("opened: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A database that takes longer than the Timeout is given up and asked again:
// what waits is committed when it is there, once, and what cannot wait is told.
func TestSlow(t *testing.T) {
	u := place(t)
	schema := u[strings.LastIndex(u, "=")+1:]
	s, m, _ := openStore(t, pgstore.Config{URL: u, Timeout: 200 * time.Millisecond})
	db, err := pgx.Connect(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(background) }()
	for _, sql := range []string{"begin", "select from " + schema + ".muster_rendezvous for update"} {
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	patient := make(chan error, 1)
	go func() { patient <- s.Commit(t.Context(), register("ns", 1, 1)) }()
	eventually(t, "the store has noticed", func() bool { return s.Health() != nil })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Commit(ctx, register("ns", 2, 1)); !errors.Is(err, rendezvous.ErrUnavailable) {
		t.Errorf("who cannot wait is told %v", err)
	}
	if len(m.Live()) != 0 {
		t.Error("applied, and not committed")
	}
	if _, err := db.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	if err := <-patient; err != nil {
		t.Errorf("who waited is told %v", err)
	}
	if _, ok := m.Get(register("ns", 1, 1)[0].Key); !ok {
		t.Error("committed, and not applied")
	}
	checkTwice(t, "the store", m)
}
