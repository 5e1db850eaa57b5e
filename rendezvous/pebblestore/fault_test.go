package pebblestore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/pebblestore"
	"github.com/muster-p2p/muster/rendezvous/storetest"
)

// openStore opens a store and closes it, without a complaint, at the end.
func openStore(t testing.TB, cfg pebblestore.Config, proposal rendezvous.Meta) (*pebblestore.Store, *storetest.Mirror, rendezvous.Meta) {
	t.Helper()
	s, m := newStore(t, cfg), storetest.NewMirror()
	meta, err := s.Open(t.Context(), proposal, m.Apply)
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

// writers register until a Commit fails, and tell what was acknowledged.
type writers struct {
	wg   sync.WaitGroup
	mu   sync.Mutex
	done map[rendezvous.Key]uint64 // seq acknowledged
	errs []error
}

func (w *writers) start(ctx context.Context, s rendezvous.Store, n int) {
	w.done = map[rendezvous.Key]uint64{}
	for i := range n {
		w.wg.Go(func() {
			for seq := uint64(1); ; seq++ {
				c := storetest.Registration("ns"+strconv.Itoa(int(seq%3)), i*10+int(seq%7), seq, time.Hour)
				err := s.Commit(ctx, []rendezvous.Change{c})
				w.mu.Lock()
				if err != nil {
					w.errs = append(w.errs, err)
					w.mu.Unlock()
					return
				}
				w.done[c.Key] = seq
				w.mu.Unlock()
			}
		})
	}
}

func (w *writers) acknowledged() map[rendezvous.Key]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	done := make(map[rendezvous.Key]uint64, len(w.done))
	for k, seq := range w.done {
		done[k] = seq
	}
	return done
}

// TestPowerLoss cuts the power under load: a disk that keeps what was synced
// and some of the rest keeps what was acknowledged.
func TestPowerLoss(t *testing.T) {
	for _, d := range []pebblestore.Durability{pebblestore.Group, pebblestore.Sync, pebblestore.None} {
		t.Run(d.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, uint64(d)))
			for round := range 20 {
				powerLoss(t, d, rng, round)
				if t.Failed() {
					return
				}
			}
		})
	}
}

func powerLoss(t *testing.T, d pebblestore.Durability, rng *rand.Rand, round int) {
	disk := vfs.NewCrashableMem()
	cfg := pebblestore.Config{Dir: "/data", Durability: d}.WithFS(disk)
	s := newStore(t, cfg)
	m := storetest.NewMirror()
	meta, err := s.Open(t.Context(), rendezvous.Meta{Epoch: 1, Secret: [32]byte{7}}, m.Apply)
	if err != nil {
		t.Fatal(err)
	}
	var w writers
	w.start(t.Context(), s, 4)
	waitFor(t, m, uint64(rng.IntN(300)))
	acknowledged, applied := w.acknowledged(), m.Last()
	after := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	if err := s.Close(); err != nil { // the old disk is gone; only to end the goroutines
		t.Error(err)
	}
	w.wg.Wait()

	s, m, again := openStore(t, cfg.WithFS(after), rendezvous.Meta{Epoch: 2, Secret: [32]byte{8}})
	defer func() { _ = s.Close() }()
	if s.Quarantined() != "" {
		t.Fatalf("round %d: %s", round, s.Quarantined())
	}
	if d == pebblestore.None {
		if again.Epoch == meta.Epoch || again.Secret != meta.Secret {
			t.Errorf("round %d: after a crash without durability: %v after %v, want another epoch and the same secret", round, again, meta)
		}
		return
	}
	if again.Epoch != meta.Epoch || again.Secret != meta.Secret {
		t.Errorf("round %d: %v after %v", round, again, meta)
	}
	for k, seq := range acknowledged {
		if got, ok := m.Get(k); !ok || got.Seq < seq {
			t.Errorf("round %d: %q seq %d was acknowledged; there is seq %d", round, k.NS, seq, got.Seq)
		}
	}
	c := storetest.Registration("next", 1, 1, time.Hour)
	if err := s.Commit(t.Context(), []rendezvous.Change{c}); err != nil {
		t.Fatal(err)
	}
	if got, _ := m.Get(c.Key); got.Pos <= applied {
		t.Errorf("round %d: position %d is used again: %d had been applied", round, got.Pos, applied)
	}
}

// waitFor waits until the mirror has seen a position.
func waitFor(t testing.TB, m *storetest.Mirror, pos uint64) {
	t.Helper()
	for {
		_, grown := m.After(m.Last())
		if m.Last() >= pos {
			return
		}
		select {
		case <-grown:
		case <-t.Context().Done():
			t.Fatal("the test ended before")
		}
	}
}

// Closed in order, a store without durability has lost nothing: the epoch goes
// on.
func TestNoneKeepsEpochWhenClosed(t *testing.T) {
	cfg := pebblestore.Config{Dir: t.TempDir(), Durability: pebblestore.None}
	s, _, first := openStore(t, cfg, rendezvous.Meta{Epoch: 1})
	if err := s.Commit(t.Context(), []rendezvous.Change{storetest.Registration("ns", 1, 1, time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Durability = pebblestore.Group
	_, m, second := openStore(t, cfg, rendezvous.Meta{Epoch: 2})
	if second.Epoch != first.Epoch || len(m.Live()) != 1 {
		t.Errorf("%v with %d rows after %v with 1", second, len(m.Live()), first)
	}
}

// What was removed last has a position too, which no row tells of.
func TestHead(t *testing.T) {
	cfg := pebblestore.Config{Dir: t.TempDir()}
	for round := range uint64(3) {
		s, _, meta := openStore(t, cfg, rendezvous.Meta{Epoch: 1})
		if meta.Head != round*3 || !meta.Sole {
			t.Errorf("opened at %d, want %d", meta.Head, round*3)
		}
		c := storetest.Registration("ns", 1, 1, time.Hour)
		for _, changes := range [][]rendezvous.Change{{c}, {storetest.Removal(c.Key), storetest.Removal(c.Key)}} {
			if err := s.Commit(t.Context(), changes); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// smallDisk is a disk in memory with a quota. What is removed gives no space
// back; the test does, with quota.
type smallDisk struct {
	vfs.FS
	free  atomic.Int64
	total uint64
	tell  bool // whether GetDiskUsage knows
}

type smallFile struct {
	vfs.File
	d *smallDisk
}

func (d *smallDisk) take(n int) error {
	if d.free.Add(-int64(n)) < 0 {
		d.free.Add(int64(n))
		return syscall.ENOSPC
	}
	return nil
}

func (d *smallDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.take(1); err != nil {
		return nil, err
	}
	f, err := d.FS.Create(name, c)
	return smallFile{f, d}, err
}

func (d *smallDisk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(from, to, c)
	return smallFile{f, d}, err
}

func (d *smallDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	if !d.tell {
		return vfs.DiskUsage{}, errors.ErrUnsupported
	}
	free := max(0, d.free.Load())
	return vfs.DiskUsage{TotalBytes: d.total, AvailBytes: uint64(free), UsedBytes: d.total - uint64(free)}, nil
}

// Write writes what fits, as a full disk does.
func (f smallFile) Write(p []byte) (int, error) {
	n := len(p)
	for n > 0 && f.d.take(n) != nil {
		n /= 2
	}
	written, err := f.File.Write(p[:n])
	if err == nil && n < len(p) {
		err = &os.PathError{Op: "write", Path: "small", Err: syscall.ENOSPC}
	}
	return written, err
}

// TestDiskFull fills the disk under load: changes are refused as unavailable,
// and taken again, by themselves, when there is space. Nothing acknowledged is
// lost, whether the file system tells how much is left or not.
func TestDiskFull(t *testing.T) {
	for _, tell := range []bool{true, false} {
		t.Run("tell="+strconv.FormatBool(tell), func(t *testing.T) {
			mem := vfs.NewMem()
			disk := &smallDisk{FS: mem, total: 8 << 20, tell: tell}
			disk.free.Store(1 << 20)
			cfg := pebblestore.Config{Dir: "/data"}.WithFS(disk)
			if tell {
				disk.free.Store(2 << 20)
			}
			s, _, _ := openStore(t, cfg, rendezvous.Meta{})

			ctx, cancel := context.WithCancel(t.Context())
			var w writers
			w.start(ctx, s, 4)
			if tell { // refused before it is full
				w.wg.Wait()
			} else { // a write waits, and the callers with it until they give up
				awaitHealth(t, s, false)
				cancel()
				w.wg.Wait()
			}
			for _, err := range w.errs {
				if !errors.Is(err, rendezvous.ErrUnavailable) {
					t.Errorf("on a full disk: %v, want ErrUnavailable", err)
				}
			}
			if err := s.Health(); !errors.Is(err, rendezvous.ErrUnavailable) {
				t.Errorf("Health on a full disk: %v", err)
			}
			cancel()

			disk.free.Store(4 << 20)
			awaitHealth(t, s, true)
			c := storetest.Registration("after", 1, 1, time.Hour)
			if err := s.Commit(t.Context(), []rendezvous.Change{c}); err != nil {
				t.Fatalf("with space again: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			_, m, _ := openStore(t, cfg, rendezvous.Meta{})
			for k, seq := range w.acknowledged() {
				if got, ok := m.Get(k); !ok || got.Seq < seq {
					t.Errorf("%q seq %d was acknowledged; there is seq %d", k.NS, seq, got.Seq)
				}
			}
			if _, ok := m.Get(c.Key); !ok {
				t.Error("lost what was committed when there was space again")
			}
		})
	}
}

// awaitHealth polls Health, which nothing announces; a timer paces it.
func awaitHealth(t testing.TB, s *pebblestore.Store, well bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for (s.Health() == nil) != well {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("Health: %v", s.Health())
		}
	}
}

// Expire may use the reserve: without it a store that filled the disk by
// itself would never free it.
func TestExpireOnFullDisk(t *testing.T) {
	disk := &smallDisk{FS: vfs.NewMem(), total: 8 << 20, tell: true}
	disk.free.Store(4 << 20)
	s, _, _ := openStore(t, pebblestore.Config{Dir: "/data"}.WithFS(disk), rendezvous.Meta{})
	if err := s.Commit(t.Context(), []rendezvous.Change{storetest.Registration("ns", 1, 1, time.Minute)}); err != nil {
		t.Fatal(err)
	}
	disk.free.Store(1<<20 - 1)
	var err error
	for i := uint64(1); err == nil; i++ { // the disk is not asked each time
		err = s.Commit(t.Context(), []rendezvous.Change{storetest.Registration("ns", 1, i, time.Minute)})
	}
	if !errors.Is(err, rendezvous.ErrUnavailable) {
		t.Fatalf("within the reserve: %v", err)
	}
	if n, err := s.Expire(t.Context(), time.Now().Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("Expire within the reserve: %d, %v", n, err)
	}
	if st := s.Stats(); st.RefusedDisk != 1 || st.Dropped != 1 {
		t.Errorf("%+v, want one refused and one dropped", st)
	}
}

// TestDamaged flips a byte, or cuts, in each kind of file. The store opens,
// empty or whole but never with something that was not written; what was
// damaged is kept; and the next start finds the new store.
func TestDamaged(t *testing.T) {
	origin := t.TempDir()
	s, _, meta := openStore(t, pebblestore.Config{Dir: origin}, rendezvous.Meta{Epoch: 1})
	for i := range 2000 {
		if err := s.Commit(t.Context(), []rendezvous.Change{storetest.Registration("ns", i, 1, time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Some rows in tables, some in the log.
	s, m, _ := openStore(t, pebblestore.Config{Dir: origin}, rendezvous.Meta{})
	if err := s.Commit(t.Context(), []rendezvous.Change{storetest.Registration("log", 1, 1, time.Hour)}); err != nil {
		t.Fatal(err)
	}
	crashed := t.TempDir()
	copyTree(t, origin, crashed)
	want := m.Live()

	entries, err := os.ReadDir(filepath.Join(crashed, "db"))
	if err != nil {
		t.Fatal(err)
	}
	quarantined := 0
	for _, e := range entries {
		for _, damage := range []string{"flip", "cut", "remove"} {
			t.Run(e.Name()+"/"+damage, func(t *testing.T) {
				dir := t.TempDir()
				copyTree(t, crashed, dir)
				spoil(t, filepath.Join(dir, "db", e.Name()), damage)
				s, m, again := openStore(t, pebblestore.Config{Dir: dir}, rendezvous.Meta{Epoch: 2})
				live := m.Live()
				for k := range live {
					if _, ok := want[k]; !ok {
						t.Errorf("risen: %v", k)
					}
				}
				if q := s.Quarantined(); q != "" {
					quarantined++
					if len(live) != 0 || again.Epoch == meta.Epoch || s.Health() == nil {
						t.Errorf("begun anew with %d rows, epoch %d, health %v", len(live), again.Epoch, s.Health())
					}
					if !strings.Contains(q, "damaged") {
						t.Errorf("Quarantined: %q", q)
					}
					if kept, _ := filepath.Glob(filepath.Join(dir, "corrupt-*")); len(kept) != 1 {
						t.Errorf("kept aside: %v", kept)
					}
				} else if len(live) < len(want)-1 { // a log's torn end may be lost
					t.Errorf("%d rows of %d, and nobody was told", len(live), len(want))
				}
				if err := s.Commit(t.Context(), []rendezvous.Change{storetest.Registration("new", 1, 1, time.Hour)}); err != nil {
					t.Error(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				s, _, third := openStore(t, pebblestore.Config{Dir: dir}, rendezvous.Meta{Epoch: 3})
				if s.Quarantined() != "" || third.Epoch != again.Epoch || third.Secret != again.Secret {
					t.Errorf("next start: %q, epoch %d", s.Quarantined(), third.Epoch)
				}
			})
		}
	}
	if quarantined == 0 {
		t.Error("no damage was noticed")
	}
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func spoil(t testing.TB, name, damage string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if damage == "remove" || len(b) == 0 {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		return
	}
	if damage == "flip" {
		b[len(b)/3] ^= 0x40
	} else {
		b = b[:len(b)/2]
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// One process has a store open at a time, and the second is told why it fails.
func TestInUse(t *testing.T) {
	cfg := pebblestore.Config{Dir: t.TempDir()}
	openStore(t, cfg, rendezvous.Meta{})
	second := newStore(t, cfg)
	_, err := second.Open(t.Context(), rendezvous.Meta{}, func([]rendezvous.Change) {})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second open: %v", err)
	}
	if moved, _ := filepath.Glob(filepath.Join(cfg.Dir, "corrupt-*")); len(moved) != 0 {
		t.Errorf("it moved %v aside", moved)
	}
}

// What may not be touched is not damaged.
func TestNotDamaged(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{file, filepath.Join(file, "below")} {
		s := newStore(t, pebblestore.Config{Dir: at})
		if _, err := s.Open(t.Context(), rendezvous.Meta{}, func([]rendezvous.Change) {}); err == nil {
			t.Errorf("%s: a file was opened as a store", at)
		}
	}
}
