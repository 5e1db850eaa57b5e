package link

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/muster-p2p/muster/internal/bubble"
)

// inWorld runs f with a link over a relay of 10 ms.
func inWorld(t *testing.T, f func(w *world, a, b *Conn)) {
	t.Helper()
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{}, func(int) (r, d [2]*pipe) { return both(10 * time.Millisecond), d })
		defer w.close()
		a, b := w.link()
		f(w, a, b)
	})
}

// TestRoomComesWithHello: what a HELLO acknowledges makes room for a Write that
// waits. There may be nothing else to come that would.
func TestRoomComesWithHello(t *testing.T) {
	inWorld(t, func(w *world, a, b *Conn) {
		time.Sleep(time.Second)
		pa, pb := w.ends(Relay, both(10*time.Millisecond))
		// The bytes of the acceptor arrive; that they did does not.
		b.mu.Lock()
		for _, p := range b.paths {
			from := p.stream.(*end).in
			from.mu.Lock()
			from.breaks, from.silent = from.sent, true
			from.mu.Unlock()
		}
		b.mu.Unlock()
		wrote := make(chan error, 1)
		go func() {
			_, err := b.Write(make([]byte, 900<<10))
			if err == nil {
				_, err = b.Write(make([]byte, 200<<10))
			}
			wrote <- err
		}()
		go io.Copy(io.Discard, a) //nolint:errcheck // ends with the link
		time.Sleep(time.Second)
		w.wg.Go(func() { a.join(pa) })
		if err := w.hear(pb); err != nil {
			w.t.Error(err)
		}
		b.join(pb)
		start := time.Now()
		if err := <-wrote; err != nil {
			w.t.Error(err)
		}
		if took := time.Since(start); took > 500*time.Millisecond {
			w.t.Errorf("the write went on after %v", took)
		}
	})
}

// TestAbortOfBlockedPath: a peer that reads nothing cannot keep a link that is
// over, nor the endpoint.
func TestAbortOfBlockedPath(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{}, func(int) (r, d [2]*pipe) { return both(10 * time.Millisecond), d })
		defer w.close()
		pa, pb := w.ends(Relay, both(10*time.Millisecond))
		a := w.a.newConn(true, Meeting{}, pa)
		if err := w.hear(pb); err != nil {
			t.Fatal(err)
		}
		defer pb.close()
		if _, err := a.Write(make([]byte, 400<<10)); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second) // a PING is being written
		start := time.Now()
		a.Abort("enough")
		if took := time.Since(start); took > 2*farewellTime {
			t.Errorf("took %v", took)
		}
	})
}

// TestEndpointCloseTells: the peer of an endpoint that was closed does not look
// for it.
func TestEndpointCloseTells(t *testing.T) {
	inWorld(t, func(w *world, _, b *Conn) {
		time.Sleep(time.Second)
		start := time.Now()
		w.a.Close() //nolint:errcheck // always nil
		_, err := b.Read(make([]byte, 1))
		if took := time.Since(start); errors.Is(err, ErrLost) || took > time.Second {
			w.t.Errorf("after %v: %v", took, err)
		}
	})
}

// TestDeadlineBeforeData: a deadline ends a reader that never has to wait.
func TestDeadlineBeforeData(t *testing.T) {
	inWorld(t, func(w *world, a, b *Conn) {
		if _, err := a.Write([]byte("data")); err != nil {
			w.t.Error(err)
		}
		time.Sleep(time.Second)
		b.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // open
		if n, err := b.Read(make([]byte, 4)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			w.t.Errorf("%d, %v", n, err)
		}
		b.SetReadDeadline(time.Time{}) //nolint:errcheck // open
		if n, err := b.Read(make([]byte, 4)); n != 4 || err != nil {
			w.t.Errorf("%d, %v", n, err)
		}
		closing(w.t, a, b)
	})
}

// TestWritesAreNotMixed: of several writers each has its bytes together.
func TestWritesAreNotMixed(t *testing.T) {
	inWorld(t, func(w *world, a, b *Conn) {
		const size = 1<<20 + 7
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				if _, err := a.Write(bytes.Repeat([]byte{byte(i)}, size)); err != nil {
					w.t.Error(err)
				}
			})
		}
		got := make([]byte, size)
		for range 3 {
			if _, err := io.ReadFull(b, got); err != nil {
				w.t.Error(err)
			}
			if n := bytes.Count(got, got[:1]); n != size {
				w.t.Errorf("%d bytes of %d belong together", n, size)
			}
		}
		wg.Wait()
		closing(w.t, a, b)
	})
}
