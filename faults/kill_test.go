package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// envInt is a number from the environment.
func envInt(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return def
}

// TestKill kills the daemon under load, at any moment, again and again: each
// registration that was acknowledged is there after the next start, which takes
// two seconds at most.
func TestKill(t *testing.T) {
	rounds := envInt("FAULTS_ROUNDS", 50)
	const writers, names = 8, 400
	var cs []*client
	for range writers {
		cs = append(cs, newClient(t, "127.0.0.1"))
	}
	s := setup{dir: t.TempDir() + "/data"}
	var acked [writers][names]bool
	total, slowest, lost := atomic.Int64{}, time.Duration(0), 0
	for round := range rounds {
		d := start(t, s)
		slowest = max(slowest, d.took)
		for _, c := range cs {
			c.use(t, d)
		}
		missing := check(t, cs, names, func(w, n int) bool { return acked[w][n] })
		if lost += missing; missing > 0 {
			t.Errorf("round %d: %d acknowledged registrations are lost", round, missing)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for w, c := range cs {
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					n := (round*37 + i) % names
					if c.register(ctx, fmt.Sprintf("kill/%d", n)) != nil {
						return
					}
					acked[w][n] = true
					total.Add(1)
				}
			})
		}
		wait(t, 50*time.Millisecond+rand.N(300*time.Millisecond))
		d.signal(syscall.SIGKILL)
		cancel()
		wg.Wait()
	}
	if slowest > 2*time.Second {
		t.Errorf("the slowest start took %v", slowest)
	}
	verdict(t, "%d rounds of kill -9, %d registrations acknowledged, %d lost, slowest start %v",
		rounds, total.Load(), lost, slowest.Round(time.Millisecond))
}

// check counts the acknowledged registrations that are not there.
func check(t *testing.T, cs []*client, names int, acked func(w, n int) bool) (missing int) {
	t.Helper()
	var count atomic.Int64
	var wg sync.WaitGroup
	for w := range cs {
		wg.Go(func() {
			for n := w; n < names; n += len(cs) {
				var want []*client
				for v := range cs {
					if acked(v, n) {
						want = append(want, cs[v])
					}
				}
				if len(want) == 0 {
					continue
				}
				ok, err := cs[w].has(t.Context(), fmt.Sprintf("kill/%d", n), want...)
				if err != nil {
					t.Errorf("discover: %v", err)
				}
				if !ok {
					count.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return int(count.Load())
}
