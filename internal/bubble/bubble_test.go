package bubble_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/internal/bubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestTimersAtOnce crashes in most runs under the race detector if the bubble is
// synctest's own.
func TestTimersAtOnce(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(*testing.T) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				timer := time.NewTimer(time.Hour)
				defer timer.Stop()
				for range 2000 {
					timer.Reset(0)
					<-timer.C
				}
			})
		}
		wg.Wait()
	})
}

// TestBubblesAtOnce: the last of them gives back what the first one took.
func TestBubblesAtOnce(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Run("all", func(t *testing.T) {
		for range 4 {
			t.Run("one", func(t *testing.T) {
				t.Parallel()
				bubble.Test(t, func(*testing.T) { time.Sleep(time.Hour) })
			})
		}
	})
	if after := runtime.GOMAXPROCS(0); after != before {
		t.Errorf("GOMAXPROCS is %d, and was %d", after, before)
	}
}
