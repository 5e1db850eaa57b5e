package groupcommit_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/internal/groupcommit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestGroups holds the committer up: everybody who came meanwhile is in its
// next group, in order.
func TestGroups(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := groupcommit.New[int](10)
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				if err := q.Do(t.Context(), i); err != nil {
					t.Errorf("call %d: %v", i, err)
				}
			})
			synctest.Wait()
		}
		group := q.Next(nil, 3)
		if len(group) != 3 || group[0].Value != 0 || group[2].Value != 2 {
			t.Fatalf("first group: %d calls", len(group))
		}
		group = q.Next(group, 3)
		if len(group) != 5 || group[4].Value != 4 {
			t.Fatalf("second group was appended: %d calls", len(group))
		}
		for _, c := range group {
			c.Finish(nil)
		}
		wg.Wait()
	})
}

func TestFull(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := groupcommit.New[int](2)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := q.Do(ctx, 0); !errors.Is(err, context.Canceled) || !errors.Is(err, groupcommit.ErrWithdrawn) {
					t.Errorf("a call that gave up in the queue: %v", err)
				}
			})
		}
		synctest.Wait()
		if err := q.Do(t.Context(), 0); !errors.Is(err, groupcommit.ErrFull) {
			t.Errorf("third of two: %v, want ErrFull", err)
		}
		cancel()
		wg.Wait()

		// The withdrawn ones are not handed out, and Take does not wait.
		if group := q.Take(nil, 10); len(group) != 0 || q.Len() != 0 {
			t.Errorf("%d withdrawn calls were handed out", len(group))
		}
		wg.Go(func() {
			group := q.Next(nil, 10)
			if len(group) != 1 || group[0].Value != 7 {
				t.Errorf("group of %d calls, want the one that still waits", len(group))
			}
			group[0].Finish(nil)
		})
		synctest.Wait() // Next has drained the withdrawn
		if err := q.Do(t.Context(), 7); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
}

// A call that has been taken may yet be committed: its caller is not told that
// it was withdrawn.
func TestGiveUpAfterTaken(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := groupcommit.New[int](2)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := q.Do(ctx, 0); !errors.Is(err, context.Canceled) || errors.Is(err, groupcommit.ErrWithdrawn) {
				t.Errorf("got %v, want context.Canceled alone", err)
			}
		})
		group := q.Next(nil, 1)
		if group[0].Left() {
			t.Error("its caller still waits")
		}
		cancel()
		wg.Wait()
		if !group[0].Left() {
			t.Error("its caller has left")
		}
		group[0].Finish(nil) // does not block
	})
}

func TestWait(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := groupcommit.New[int](2)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		q.Wait(ctx)
		if d := time.Since(start); d != time.Second {
			t.Errorf("nobody came, and Wait returned after %v", d)
		}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { _ = q.Do(t.Context(), 0) })
		}
		synctest.Wait()
		for n := range 2 { // the token of the second is that of the first
			q.Wait(t.Context())
			q.Wait(t.Context())
			group := q.Next(nil, 1)
			if len(group) != 1 {
				t.Fatalf("call %d is not there", n)
			}
			group[0].Finish(nil)
		}
		wg.Go(func() { q.Wait(t.Context()) })
		synctest.Wait()
		q.Close()
		wg.Wait()
	})
}

func TestClose(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := groupcommit.New[int](4)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := q.Do(t.Context(), 0); !errors.Is(err, groupcommit.ErrClosed) {
					t.Errorf("waiting call: %v, want ErrClosed", err)
				}
			})
		}
		synctest.Wait()
		q.Close()
		q.Close()
		if group := q.Next(nil, 10); len(group) != 0 {
			t.Errorf("a closing queue hands out %d calls", len(group))
		}
		q.Done()
		wg.Wait()
		if err := q.Do(t.Context(), 0); !errors.Is(err, groupcommit.ErrClosed) {
			t.Errorf("after Close: %v, want ErrClosed", err)
		}
	})
}

// TestGather has callers that come back some time after they were answered, and
// a commit that takes a millisecond: whoever comes back within it shares the
// next one, and a single caller never waits.
// A single caller is not waited for as if it were two, however soon it is back:
// here before the committing goroutine has looked.
func TestGatherWhoIsBackAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := groupcommit.New[int](100)
		g := groupcommit.NewGatherer(q, time.Second)
		const calls = 10
		ended := make(chan error, 1)
		go func() {
			var errs []error
			for n := range calls {
				errs = append(errs, q.Do(t.Context(), n))
			}
			ended <- errors.Join(errs...)
		}()
		for n := range calls {
			start := time.Now()
			for _, c := range g.Next(nil, 50) {
				if waited := time.Since(start); waited != 0 {
					t.Errorf("call %d waited %v for company", n, waited)
				}
				c.Finish(nil)
			}
			synctest.Wait() // the next call is there
			g.Observe(1, time.Millisecond)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestGather(t *testing.T) {
	const commit = time.Millisecond
	for _, tc := range []struct {
		name    string
		callers int
		back    time.Duration // from answer to next call, times 1, 2, 3 …
		rows    float64       // per commit, at least
		wait    time.Duration // from call to answer, at most
	}{
		{"alone", 1, 0, 1, commit},
		{"alone, slow", 1, 5 * time.Millisecond, 1, commit},
		{"eight", 8, 10 * time.Microsecond, 7.9, 2 * commit}, // the first to end is waited for
		{"eight, slow", 8, time.Millisecond, 1, 3 * commit},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				q := groupcommit.New[int](100)
				g := groupcommit.NewGatherer(q, time.Second)
				var wg sync.WaitGroup
				var worst time.Duration
				var mu sync.Mutex
				const each = 200
				for i := range tc.callers {
					wg.Go(func() {
						for n := range each {
							time.Sleep(tc.back * time.Duration(i+1))
							start := time.Now()
							if err := q.Do(t.Context(), n); err != nil {
								t.Error(err)
							}
							mu.Lock()
							if n > 50 { // once it has learnt what a commit takes
								worst = max(worst, time.Since(start))
							}
							mu.Unlock()
						}
					})
				}
				commits := 0
				var committer sync.WaitGroup
				committer.Go(func() {
					for {
						group := g.Next(nil, 50)
						if len(group) == 0 {
							return
						}
						commits++
						time.Sleep(commit)
						for _, c := range group {
							c.Finish(nil)
						}
						g.Observe(len(group), commit)
					}
				})
				wg.Wait()
				q.Close()
				committer.Wait()
				if rows := float64(tc.callers*each) / float64(commits); rows < tc.rows {
					t.Errorf("%.1f rows a commit, want %.1f", rows, tc.rows)
				}
				if worst > tc.wait {
					t.Errorf("a caller waited %v, want at most %v", worst, tc.wait)
				}
			})
		})
	}
}
