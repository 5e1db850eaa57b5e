package link

import (
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/muster-p2p/muster/internal/bubble"
)

// cut breaks pipes from now on.
func cut(silent bool, pipes ...[2]*pipe) {
	for _, both := range pipes {
		for _, p := range both {
			p.mu.Lock()
			p.breaks, p.silent = p.sent, silent
			if p.queue = nil; !silent {
				p.closed = true
			}
			p.cond.Broadcast()
			p.mu.Unlock()
		}
	}
}

// A meter writes 1 KiB every 20 ms from a to b, and notes the longest time in
// which nothing arrived.
type meter struct {
	stop chan struct{}
	done chan struct{}
	gap  time.Duration
	err  error
}

func newMeter(a, b *Conn) *meter {
	m := &meter{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer a.CloseWrite() //nolint:errcheck // the reader sees
		for {
			if _, err := a.Write(make([]byte, 1024)); err != nil {
				return
			}
			select {
			case <-m.stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	go func() {
		defer close(m.done)
		buf := make([]byte, 64<<10)
		last := time.Time{}
		for {
			_, err := b.Read(buf)
			now := time.Now()
			if err == nil && !last.IsZero() {
				m.gap = max(m.gap, now.Sub(last))
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					m.err = err
				}
				return
			}
			last = now
		}
	}()
	return m
}

func (m *meter) end(t *testing.T) time.Duration {
	t.Helper()
	close(m.stop)
	<-m.done
	if m.err != nil {
		t.Error(m.err)
	}
	return m.gap
}

// closing closes both ends at once.
func closing(t *testing.T, a, b *Conn) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- a.Close() }()
	for _, err := range []error{b.Close(), <-done} {
		if err != nil && !errors.Is(err, ErrPeerClosed) {
			t.Errorf("close: %v", err)
		}
	}
}

// TestSwitchWithoutStall: the way from the relay to a direct path, whichever is
// the faster.
func TestSwitchWithoutStall(t *testing.T) {
	t.Parallel()
	for _, delay := range []time.Duration{time.Millisecond, 25 * time.Millisecond, 60 * time.Millisecond} {
		bubble.Test(t, func(t *testing.T) {
			direct := both(delay)
			w := newWorld(t, Config{}, func(int) (r, d [2]*pipe) { return both(50 * time.Millisecond), d })
			defer w.close()
			a, b := w.link()
			m := newMeter(a, b)
			time.Sleep(time.Second)
			w.join(Direct, direct, a.join, b.join)
			time.Sleep(2 * time.Second)
			if k := a.Path().Kind; k != Direct {
				t.Errorf("%v: path is %v", delay, k)
			}
			if p := b.Path(); p.Kind != Direct || p.RTT < 2*delay || p.RTT > 2*delay+time.Millisecond {
				t.Errorf("%v: path is %+v", delay, p)
			}
			if gap := m.end(t); gap > 200*time.Millisecond {
				t.Errorf("%v: stalled for %v", delay, gap)
			}
			closing(t, a, b)
		})
	}
}

// TestSlowDirectPathIsNotTaken: a direct path over the other side of the
// world, with the relay next door.
func TestSlowDirectPathIsNotTaken(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{}, func(int) (r, d [2]*pipe) { return both(20 * time.Millisecond), both(100 * time.Millisecond) })
		defer w.close()
		a, b := w.link()
		m := newMeter(a, b)
		time.Sleep(time.Minute)
		if k := a.Path().Kind; k != Relay {
			t.Errorf("path is %v", k)
		}
		m.end(t)
		closing(t, a, b)
	})
}

// TestBackOnTheRelay: the direct path is cut in mid-transfer and nobody is
// told. The relay is there, or has been given back.
func TestBackOnTheRelay(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{10 * time.Second, 3 * time.Minute} {
		bubble.Test(t, func(t *testing.T) {
			direct := both(10 * time.Millisecond)
			w := newWorld(t, Config{}, func(n int) (r, d [2]*pipe) {
				if n == 0 {
					return both(40 * time.Millisecond), direct
				}
				return both(40 * time.Millisecond), d
			})
			defer w.close()
			a, b := w.link()
			m := newMeter(a, b)
			time.Sleep(after)
			if n := a.pathCount(); a.Path().Kind != Direct || (n == 1) != (after > standby) {
				t.Errorf("after %v: %d paths, and on the %v one", after, n, a.Path().Kind)
			}
			cut(true, direct)
			time.Sleep(10 * time.Second)
			if k := a.Path().Kind; k != Relay {
				t.Errorf("path is %v", k)
			}
			if gap := m.end(t); gap > 5*time.Second {
				t.Errorf("nothing came for %v", gap)
			}
			closing(t, a, b)
		})
	}
}

func (c *Conn) pathCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.paths)
}

// TestHalfOpenIsNoticed: an idle link whose paths die in silence.
func TestHalfOpenIsNoticed(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		relay, direct := both(40*time.Millisecond), both(10*time.Millisecond)
		var cutAt time.Time
		w := newWorld(t, Config{}, func(n int) (r, d [2]*pipe) {
			if n == 0 {
				return relay, direct
			}
			if late := time.Since(cutAt); late > 20*time.Second {
				t.Errorf("met again after %v", late)
			}
			return both(40 * time.Millisecond), both(10 * time.Millisecond)
		})
		defer w.close()
		a, b := w.link()
		time.Sleep(30 * time.Second)
		cutAt = time.Now()
		cut(true, relay, direct)
		time.Sleep(21 * time.Second)
		for _, c := range []*Conn{a, b} {
			if s := c.Stats(); s.Resumes != 1 || c.Path().Kind == 0 {
				t.Errorf("%+v, on %v", s, c.Path().Kind)
			}
		}
		closing(t, a, b)
	})
}

// TestSleep: one machine sleeps for four minutes; its peer waits. Nothing is
// lost. TestResumeWindow is about six.
func TestSleep(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		awake := time.Now().Add(4 * time.Minute)
		relay := both(40 * time.Millisecond)
		w := newWorld(t, Config{}, func(n int) (r, d [2]*pipe) {
			if n == 0 {
				return relay, d
			}
			if until := time.Until(awake); until > 0 {
				time.Sleep(until) // nobody gets through
			}
			return both(40 * time.Millisecond), d
		})
		defer w.close()
		a, b := w.link()
		if _, err := a.Write([]byte("before")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		cut(true, relay)
		if _, err := a.Write([]byte(" and after")); err != nil {
			t.Fatal(err)
		}
		if err := a.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(b)
		if string(got) != "before and after" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if late := time.Since(awake); late > 5*time.Second {
			t.Errorf("resumed %v after that was possible", late)
		}
		closing(t, a, b)
	})
}

func TestResumeWindow(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		relay := both(40 * time.Millisecond)
		w := newWorld(t, Config{}, func(n int) (r, d [2]*pipe) {
			if n > 0 {
				return [2]*pipe{newPipe(0, 0, false), newPipe(0, 0, false)}, d // dead at once
			}
			return relay, d
		})
		defer w.close()
		a, b := w.link()
		time.Sleep(time.Second)
		cut(false, relay)
		start := time.Now()
		for _, c := range []*Conn{a, b} {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrLost) {
				t.Errorf("read: %v", err)
			}
			if took := time.Since(start).Round(time.Second); took != DefaultResumeWindow {
				t.Errorf("after %v", took)
			}
			last := Event{}
			for ev := range c.Events() {
				last = ev
			}
			if last.Kind != Closed || !errors.Is(last.Err, ErrLost) {
				t.Errorf("last event %v, %v", last.Kind, last.Err)
			}
			c.Close() //nolint:errcheck // lost
		}
	})
}

// TestNoFlapping: a direct path that comes and goes every ten seconds. In no
// minute is it moved to more than twice.
func TestNoFlapping(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{KeepRelay: true}, func(int) (r, d [2]*pipe) { return both(40 * time.Millisecond), d })
		defer w.close()
		a, b := w.link()
		m := newMeter(a, b)
		for range 18 {
			direct := both(10 * time.Millisecond)
			w.join(Direct, direct, a.join, b.join)
			time.Sleep(5 * time.Second)
			cut(false, direct)
			time.Sleep(5 * time.Second)
		}
		m.end(t)
		if s := a.Stats(); s.Switches > 2*3+2 || s.Switches < 3 {
			t.Errorf("%d switches in three minutes", s.Switches)
		}
		closing(t, a, b)
	})
}

// TestRetries: while there is no direct path, the ends try for one together,
// rarer and rarer, and move to it when it comes.
func TestRetries(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		var at []int
		start := time.Now()
		w := newWorld(t, Config{}, func(n int) (r, d [2]*pipe) {
			if n == 0 {
				return both(40 * time.Millisecond), d
			}
			at = append(at, int(time.Since(start).Round(time.Second).Seconds()))
			if n == 5 {
				d = both(10 * time.Millisecond)
			}
			return both(40 * time.Millisecond), d
		})
		defer w.close()
		a, b := w.link()
		time.Sleep(20 * time.Minute)
		w.mu.Lock()
		got := slices.Clone(at)
		w.mu.Unlock()
		if want := []int{15, 45, 105, 225, 465}; !slices.Equal(got, want) {
			t.Fatalf("attempts after %v seconds, want %v", got, want)
		}
		if k := b.Path().Kind; k != Direct {
			t.Errorf("path is %v", k)
		}
		closing(t, a, b)
	})
}
