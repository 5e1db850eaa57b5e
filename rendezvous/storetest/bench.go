package storetest

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-p2p/muster/rendezvous"
)

// Bench registers b.N times with as many clients at once, each waiting for its
// acknowledgement before its next registration, over 100,000 keys in a thousand
// namespaces. The store is open. It reports registrations per second and the
// 99th percentile of the time a client waited.
func Bench(b *testing.B, s rendezvous.Store, clients int) {
	b.Helper()
	const keys = 100_000
	template := make([]rendezvous.Change, keys)
	for i := range template {
		template[i] = Registration("ns"+strconv.Itoa(i%1000), i, 1, 2*time.Hour)
	}
	var (
		next  atomic.Int64
		wg    sync.WaitGroup
		waits = make([][]time.Duration, clients)
	)
	b.ReportAllocs()
	b.ResetTimer()
	for c := range clients {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(b.N) {
					return
				}
				change := template[i*7919%keys]
				change.Seq = uint64(i)
				start := time.Now()
				if err := s.Commit(b.Context(), []rendezvous.Change{change}); err != nil {
					b.Error(err)
					return
				}
				waits[c] = append(waits[c], time.Since(start))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(waits...)
	slices.Sort(all)
	if len(all) > 0 {
		b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "rows/s")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
	}
}
