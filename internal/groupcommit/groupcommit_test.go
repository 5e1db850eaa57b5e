package groupcommit_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/internal/groupcommit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestGroups holds the committer up: everybody who came meanwhile is in its
// next group, in order.
func TestGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
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
