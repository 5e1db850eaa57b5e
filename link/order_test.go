package link

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/muster-p2p/muster/internal/bubble"
)

// A leaver is how one end of a link comes to its end.
type leaver struct {
	name  string
	write int  // bytes, at the start
	half  bool // ends its direction at its time
	reads bool // reads to the end of the peer's direction before it closes; else it closes at its time
	abort bool // instead of Close
}

// What one end saw.
type farewells struct {
	write, closeWrite, close error
	read                     error // nil: an end of file
	got                      int
}

// leave runs one end; at is its time.
func (l leaver) leave(c *Conn, at time.Duration) (f farewells) {
	_, f.write = c.Write(bytes.Repeat([]byte("x"), l.write))
	var reading sync.WaitGroup
	read := func() {
		b, err := io.ReadAll(c)
		f.got, f.read = len(b), err
	}
	if l.reads {
		reading.Go(read)
	}
	time.Sleep(at)
	if l.half {
		f.closeWrite = c.CloseWrite()
	}
	reading.Wait()
	if l.abort {
		c.Abort("enough")
	} else {
		f.close = c.Close()
	}
	return f
}

// TestLeaving has both ends of a link end it in every way, and at every time
// relative to the other: before, after, and while the other's words are on
// their way. Nobody who sent all that it had, and read all that there was, may
// hear of an error, whoever closes first.
func TestLeaving(t *testing.T) {
	t.Parallel()
	const delay = 10 * time.Millisecond
	ways := []leaver{
		{name: "closes"},
		{name: "writes and closes", write: 100_000},
		{name: "writes a lot and closes", write: 300_000},
		{name: "reads and closes", reads: true},
		{name: "writes, reads and closes", write: 100_000, reads: true},
		{name: "ends and closes", half: true},
		{name: "ends, reads and closes", half: true, reads: true},
		{name: "writes, ends, reads and closes", write: 100_000, half: true, reads: true},
		{name: "writes a lot, ends, reads and closes", write: 300_000, half: true, reads: true},
		{name: "aborts", abort: true},
		{name: "writes and aborts", write: 100_000, abort: true},
		{name: "writes, ends, reads and aborts", write: 100_000, half: true, reads: true, abort: true},
	}
	offsets := []time.Duration{0, delay / 2, delay, delay + 1, 2 * delay, 3*delay + delay/2, time.Second}
	if testing.Short() || raceEnabled {
		offsets = []time.Duration{0, delay + 1}
		t.Log("3 orders of 13: the race detector takes ten times as long, and -short asks for less")
	}
	for _, a := range ways {
		for _, b := range ways {
			if a.reads && !a.half && b.reads && !b.half {
				continue // both wait for the other: for ever
			}
			for _, first := range offsets {
				for _, second := range offsets {
					if first != 0 && second != 0 {
						continue
					}
					name := fmt.Sprintf("one %s after %v, the other %s after %v", a.name, first, b.name, second)
					relay := func(int) (r, d [2]*pipe) { return both(delay), d }
					bubble.Test(t, func(t *testing.T) { leaving(t, name, relay, a, b, first, second) })
					moves := func(int) (r, d [2]*pipe) { return both(delay), both(delay / 4) }
					bubble.Test(t, func(t *testing.T) { leaving(t, name+", by two paths", moves, a, b, first, second) })
				}
			}
		}
	}
}

func leaving(t *testing.T, name string, paths func(int) (relay, direct [2]*pipe), a, b leaver, first, second time.Duration) {
	t.Helper()
	w := newWorld(t, Config{}, paths)
	defer w.close()
	ca, cb := w.link()
	start := time.Now()
	var fa, fb farewells
	var wg sync.WaitGroup
	wg.Go(func() { fa = a.leave(ca, first) })
	wg.Go(func() { fb = b.leave(cb, second) })
	wg.Wait()
	fa.judge(t, name+": one", a, b)
	fb.judge(t, name+": the other", b, a)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("%s: took %v", name, took)
	}
}

// judge checks what l saw, whose peer was other.
func (f farewells) judge(t *testing.T, name string, l, other leaver) {
	t.Helper()
	if other.abort && (!l.reads || f.read != nil) {
		// It may see anything but an end that there was not.
		if l.reads && f.got > other.write || errors.Is(f.close, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %+v", name, f)
		}
		return
	}
	if l.reads && (f.read != nil || f.got != other.write) {
		t.Errorf("%s read %d bytes, and %v", name, f.got, f.read)
	}
	if other.reads || l.write == 0 {
		if err := errors.Join(f.write, f.closeWrite, f.close); err != nil && !other.abort {
			t.Errorf("%s heard %v", name, err)
		}
		return
	}
	// The other end did not want all of it: that may be known, or not.
	for _, err := range []error{f.write, f.closeWrite, f.close} {
		if err != nil && !errors.Is(err, ErrPeerClosed) {
			t.Errorf("%s heard %v", name, err)
		}
	}
}
