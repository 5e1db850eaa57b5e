package pgstore_test

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/pgstore"
	"github.com/muster-p2p/muster/rendezvous/storetest"
)

func null([]rendezvous.Change) {}

// BenchmarkCommit is the cost of one acknowledged registration, with as many
// clients at once, each waiting for its OK.
func BenchmarkCommit(b *testing.B) {
	for _, clients := range []int{1, 8, 64, 512} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			s := newStore(b, pgstore.Config{URL: place(b)})
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

// BenchmarkOpen is what a restart costs with as many registrations kept.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			u := place(b)
			fill(b, u, n)
			var rows atomic.Int64
			for b.Loop() {
				rows.Store(0)
				s := newStore(b, pgstore.Config{URL: u})
				if _, err := s.Open(b.Context(), rendezvous.Meta{}, func(c []rendezvous.Change) { rows.Add(int64(len(c))) }); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			if rows.Load() != int64(n) {
				b.Fatalf("%d rows of %d", rows.Load(), n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/row")
		})
	}
}

func fill(b *testing.B, u string, n int) {
	b.Helper()
	s := newStore(b, pgstore.Config{URL: u})
	if _, err := s.Open(b.Context(), rendezvous.Meta{}, null); err != nil {
		b.Fatal(err)
	}
	const group = 1000
	for at := 0; at < n; at += group {
		changes := make([]rendezvous.Change, 0, group)
		for i := at; i < min(n, at+group); i++ {
			changes = append(changes, storetest.Registration("ns"+strconv.Itoa(i%1000), i, 1, 72*time.Hour))
		}
		if err := s.Commit(b.Context(), changes); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
