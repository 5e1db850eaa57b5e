package pebblestore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/pebblestore"
	"github.com/muster-p2p/muster/rendezvous/storetest"
)

func null([]rendezvous.Change) {}

// BenchmarkCommit is the cost of one acknowledged registration, with as many
// clients at once, each waiting for its OK.
func BenchmarkCommit(b *testing.B) {
	for _, d := range []pebblestore.Durability{pebblestore.Sync, pebblestore.Group, pebblestore.None} {
		for _, clients := range []int{1, 8, 64, 512} {
			b.Run(fmt.Sprintf("%s/clients=%d", d, clients), func(b *testing.B) {
				s := newStore(b, pebblestore.Config{Dir: b.TempDir(), Durability: d})
				if _, err := s.Open(b.Context(), rendezvous.Meta{}, null); err != nil {
					b.Fatal(err)
				}
				storetest.Bench(b, s, clients)
				b.ReportMetric(float64(b.N)/float64(max(1, s.Stats().Commits)), "rows/commit")
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// BenchmarkOpen is what a restart costs with as many registrations kept: time
// for each of them, and the memory that is left when all are read and none is
// kept by the reader.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			dir := b.TempDir()
			fill(b, dir, n)
			b.ReportMetric(float64(size(b, dir))/float64(n), "disk-B/row")
			var rows atomic.Int64
			for b.Loop() {
				rows.Store(0)
				s := newStore(b, pebblestore.Config{Dir: dir})
				if _, err := s.Open(b.Context(), rendezvous.Meta{}, func(c []rendezvous.Change) { rows.Add(int64(len(c))) }); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				runtime.GC()
				b.StartTimer()
			}
			if rows.Load() != int64(n) {
				b.Fatalf("%d rows of %d", rows.Load(), n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/row")
		})
	}
}

// BenchmarkPointOpen is how long a point takes to start over as many kept
// registrations, and the heap that each of them takes then, all told.
func BenchmarkPointOpen(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			dir := b.TempDir()
			fill(b, dir, n)
			h := newHost(b)
			heap := func() uint64 {
				runtime.GC()
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return m.HeapAlloc
			}
			before := heap()
			var cpu time.Duration
			for b.Loop() {
				start := processor()
				p, err := rendezvous.NewPoint(h, rendezvous.Config{Store: newStore(b, pebblestore.Config{Dir: dir})})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				cpu += processor() - start
				if got := p.Stats().Registrations; got != n {
					b.Fatalf("%d registrations of %d", got, n)
				}
				b.ReportMetric(float64(heap()-before)/float64(n), "heap-B/row")
				if err := p.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(cpu.Seconds()/float64(b.N), "cpu-s/op")
		})
	}
}

// processor returns the CPU time that the process has used.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func fill(b *testing.B, dir string, n int) {
	b.Helper()
	s := newStore(b, pebblestore.Config{Dir: dir, Durability: pebblestore.None})
	if _, err := s.Open(b.Context(), rendezvous.Meta{}, null); err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	const writers, group = 4, 250
	for w := range writers {
		wg.Go(func() {
			for at := w * group; at < n; at += writers * group {
				changes := make([]rendezvous.Change, 0, group)
				for i := at; i < min(n, at+group); i++ {
					changes = append(changes, storetest.Registration("ns"+strconv.Itoa(i%1000), i, 1, 72*time.Hour))
				}
				if err := s.Commit(b.Context(), changes); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

func size(b *testing.B, dir string) (bytes int64) {
	b.Helper()
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return bytes
}
