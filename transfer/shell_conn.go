package transfer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/muster-p2p/muster/transfer/wire"
)

// Times and sizes of the stream.
const (
	// DefaultStall is how long the other end may be silent: longer than a link
	// tries to resume, which is five minutes.
	DefaultStall = 6 * time.Minute

	// busyEvery is how often an end that has nothing to say says so.
	busyEvery = 15 * time.Second

	// farewell bounds the time for the last words, and for waiting until they
	// were heard.
	farewell = 3 * time.Second

	// chunk is how much of a file is one DATA frame: large enough that the costs
	// of a frame vanish, small enough that progress is smooth and a few of them
	// fit into a cache.
	chunk = 256 << 10

	// readAhead is the buffer for what comes in: control frames are small.
	readAhead = 64 << 10
)

// A stream is a connection with frames. One goroutine reads, any may write.
type stream struct {
	conn  net.Conn
	in    *bufio.Reader
	stall time.Duration

	deadlines sync.Mutex // guards cut
	cut       error      // why the stream was cut short, if it was

	writes sync.Mutex // one frame at a time; guards out
	out    *bufio.Writer
}

func newStream(conn net.Conn, stall time.Duration) *stream {
	if stall == 0 {
		stall = DefaultStall
	}
	return &stream{conn: conn, in: bufio.NewReaderSize(conn, readAhead), out: bufio.NewWriterSize(conn, chunk), stall: stall}
}

// interrupt makes reads and writes fail with err from now on.
func (s *stream) interrupt(err error) {
	s.deadlines.Lock()
	defer s.deadlines.Unlock()
	if s.cut == nil {
		s.cut = err
		_ = s.conn.SetDeadline(time.Unix(1, 0)) // an error means that the connection is gone anyway
	}
}

// allow gives the next read or write its time.
func (s *stream) allow(set func(time.Time) error) error {
	s.deadlines.Lock()
	defer s.deadlines.Unlock()
	if s.cut != nil {
		return s.cut
	}
	return s.brokenLocked(set(time.Now().Add(s.stall)))
}

// broken says what an error of the connection means.
func (s *stream) broken(err error) error {
	s.deadlines.Lock()
	defer s.deadlines.Unlock()
	return s.brokenLocked(err)
}

func (s *stream) brokenLocked(err error) error {
	switch {
	case err == nil:
		return nil
	case s.cut != nil:
		return s.cut
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: nothing was heard for %s", ErrBroken, s.stall)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe):
		return fmt.Errorf("%w: the other end is gone", ErrBroken)
	default:
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
}

// greet exchanges roles. Both ends write first, so it costs no round trip.
func (s *stream) greet(own, want wire.Role) error {
	written := make(chan error, 1)
	go func() {
		err := s.allow(s.conn.SetWriteDeadline)
		if err == nil {
			_, err = io.WriteString(s.conn, string(own))
		}
		written <- err
	}()
	var line [wire.RoleSize]byte
	err := s.allow(s.conn.SetReadDeadline)
	if err == nil {
		_, err = io.ReadFull(s.in, line[:])
	}
	if err != nil {
		s.interrupt(s.broken(err)) // free the writer
		return errors.Join(s.broken(err), drop(<-written))
	}
	got, err := wire.ParseRole(line[:])
	if err != nil {
		s.interrupt(err)
		return errors.Join(err, drop(<-written))
	}
	if err := <-written; err != nil {
		return s.broken(err)
	}
	if got != want {
		return ErrSameRole
	}
	return nil
}

// drop is for errors that follow from one that is reported.
func drop(error) error { return nil }

// next reads the head of a frame, past any BUSY. An ERROR is returned as an
// error, wrapping [*RemoteError].
func (s *stream) next() (wire.Type, int, error) {
	for {
		if err := s.allow(s.conn.SetReadDeadline); err != nil {
			return 0, 0, err
		}
		var head [wire.HeadSize]byte
		if _, err := io.ReadFull(s.in, head[:]); err != nil {
			return 0, 0, s.broken(err)
		}
		t, n, err := wire.ParseHead(head[:])
		switch {
		case err != nil:
			return 0, 0, err
		case t == wire.Busy:
			continue
		case t == wire.Error:
			b := make([]byte, n)
			if err := s.payload(b); err != nil {
				return 0, 0, err
			}
			return 0, 0, parseRemote(b)
		}
		return t, n, nil
	}
}

// payload reads what follows a head.
func (s *stream) payload(b []byte) error {
	if err := s.allow(s.conn.SetReadDeadline); err != nil {
		return err
	}
	_, err := io.ReadFull(s.in, b)
	return s.broken(err)
}

// frame reads a frame that must be of type t.
func (s *stream) frame(t wire.Type) ([]byte, error) {
	got, n, err := s.next()
	if err != nil {
		return nil, err
	}
	if got != t {
		return nil, fmt.Errorf("%w: frame of type %d, want %d", ErrProtocol, got, t)
	}
	b := make([]byte, n)
	return b, s.payload(b)
}

// write queues a frame; flush sends what is queued.
func (s *stream) write(t wire.Type, payload []byte) error {
	s.writes.Lock()
	defer s.writes.Unlock()
	if err := s.allow(s.conn.SetWriteDeadline); err != nil {
		return err
	}
	var head [wire.HeadSize]byte
	if _, err := s.out.Write(wire.AppendHead(head[:0], t, len(payload))); err != nil {
		return s.broken(err)
	}
	_, err := s.out.Write(payload)
	return s.broken(err)
}

// writeRaw sends a frame that is made up already, without copying it.
func (s *stream) writeRaw(b []byte) error {
	s.writes.Lock()
	defer s.writes.Unlock()
	if err := s.allow(s.conn.SetWriteDeadline); err != nil {
		return err
	}
	if len(b) < readAhead {
		_, err := s.out.Write(b)
		return s.broken(err)
	}
	if err := s.out.Flush(); err != nil {
		return s.broken(err)
	}
	_, err := s.conn.Write(b)
	return s.broken(err)
}

func (s *stream) flush() error {
	s.writes.Lock()
	defer s.writes.Unlock()
	if err := s.allow(s.conn.SetWriteDeadline); err != nil {
		return err
	}
	return s.broken(s.out.Flush())
}

// send writes a frame at once.
func (s *stream) send(t wire.Type, payload []byte) error {
	if err := s.write(t, payload); err != nil {
		return err
	}
	return s.flush()
}

// keepBusy tells the other end now and then that we are here, until ctx ends.
// When a write is under way it has nothing to add.
func (s *stream) keepBusy(ctx context.Context) {
	t := time.NewTicker(busyEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if !s.writes.TryLock() {
			continue
		}
		if s.allow(s.conn.SetWriteDeadline) == nil {
			// An error shows again in the next real write or read.
			_, _ = s.out.Write(wire.AppendHead(nil, wire.Busy, 0))
			_ = s.out.Flush()
		}
		s.writes.Unlock()
	}
}

// worthTelling reports whether the other end does not know of err already.
func worthTelling(err error) bool {
	_, remote := errors.AsType[*RemoteError](err)
	return !remote && !errors.Is(err, ErrBroken) && !errors.Is(err, ErrSameRole) &&
		!errors.Is(err, wire.ErrRole) && !errors.Is(err, wire.ErrVersion)
}

// giveUp tells the other end why, and waits a moment for it to have heard.
func (s *stream) giveUp(err error) {
	if !worthTelling(err) || s.reset() != nil {
		return
	}
	code, text := codeOf(err)
	frame := wire.AppendFrame(nil, wire.Error, wire.AppendError(nil, code, text))
	done := make(chan struct{})
	go func() { // what is under way must be read for our words to get through
		defer close(done)
		_, _ = io.Copy(io.Discard, s.in)
	}()
	s.writes.Lock()
	if _, err := s.out.Write(frame); err == nil {
		err = s.out.Flush()
		if err == nil {
			s.closeWrite()
		}
	}
	s.writes.Unlock()
	<-done
}

// bye is giveUp for the end of a good transfer: all was said already.
func (s *stream) bye() {
	if s.reset() != nil {
		return
	}
	s.closeWrite()
	_, _ = io.Copy(io.Discard, s.in)
}

// reset gives the last words their time, also after an interruption.
func (s *stream) reset() error {
	s.deadlines.Lock()
	defer s.deadlines.Unlock()
	s.cut = nil
	s.stall = farewell
	return s.conn.SetDeadline(time.Now().Add(farewell))
}

func (s *stream) closeWrite() {
	if c, ok := s.conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
}

func canceled(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// localText is an error of this machine's files without paths.
func localText(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return "a local error"
}
