// Package bubble runs tests in virtual time, as testing/synctest does, and keeps
// them clear of a fault of the Go runtime.
//
// With the race detector, a bubble has one context for all its timers, and a
// goroutine that looks at the channel of a timer that is due runs the timer
// itself. When two do so at once, the detector's memory is corrupted and the test
// binary crashes now and then: https://go.dev/issue/78156. [Test] has one
// goroutine run at a time then. That takes nothing from the race detector, which
// goes by what is ordered and not by what happens at once.
package bubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Test is [synctest.Test]. It may be called by parallel tests.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if raceEnabled {
		defer alone()()
	}
	synctest.Test(t, f)
}

//nolint:gochecknoglobals // GOMAXPROCS is the process's
var places struct {
	mu      sync.Mutex
	bubbles int
	procs   int // what GOMAXPROCS was before the first of them
}

// alone has one goroutine run at a time until the returned function is called.
func alone() func() {
	places.mu.Lock()
	defer places.mu.Unlock()
	if places.bubbles++; places.bubbles == 1 {
		places.procs = runtime.GOMAXPROCS(1)
	}
	return func() {
		places.mu.Lock()
		defer places.mu.Unlock()
		if places.bubbles--; places.bubbles == 0 {
			runtime.GOMAXPROCS(places.procs)
		}
	}
}
