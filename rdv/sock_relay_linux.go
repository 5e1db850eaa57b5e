package rdv

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// splice moves data between two TCP connections within the kernel, in pieces.
// It reports whether it did; if not, nothing was moved.
//
// The standard library splices too, under io.Copy, but keeps a pipe for each
// direction as long as it waits for data, and does not come back for the
// limits in between.
func (p *pump) splice(dir int, w io.Writer, rd io.Reader) (done bool, err error) {
	src, dst := rawTCP(rd), rawTCP(w)
	if src == nil || dst == nil {
		return false, nil
	}
	s := &splicer{pump: p, dir: dir}
	defer s.release()
	read, write := s.read, s.write // bound once
	for {
		s.max = p.pace.piece(maxPiece)
		s.n, s.err = 0, nil
		if err := errors.Join(src.Read(read), s.err); err != nil {
			// No pipe, or sockets that cannot be spliced: nothing is lost.
			fallback := errors.Is(err, errNoPipe) || errors.Is(err, unix.EINVAL)
			return !fallback, err
		}
		if s.n == 0 {
			return true, nil
		}
		n := s.n
		if err := errors.Join(dst.Write(write), s.err); err != nil {
			return true, err
		}
		s.release()
		if err := p.progress(dir, n); err != nil {
			return true, err
		}
	}
}

// rawTCP returns the socket under a Conn or a TCP connection, if there is one
// and nothing was read ahead of it.
func rawTCP(v any) syscall.RawConn {
	if c, ok := v.(*Conn); ok {
		if c.br != nil && c.br.Buffered() > 0 {
			return nil
		}
		v = c.Conn
	}
	c, ok := v.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// A splicer is the state of one direction between two system calls.
type splicer struct {
	pump *pump
	dir  int
	pipe *pipe // nil unless it holds data
	max  int   // bytes to read
	n    int   // bytes read, and not yet written
	err  error
}

const spliceFlags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK

// read fills the pipe from the socket; false waits until that can be read.
func (s *splicer) read(fd uintptr) bool {
	if s.pipe == nil {
		if s.pipe = newPipe(); s.pipe == nil {
			s.err = errNoPipe
			return true
		}
	}
	n, err := spliceOnce(int(fd), s.pipe.w, s.max)
	if errors.Is(err, unix.EAGAIN) {
		s.release() // no pipe while there is nothing to do
		return false
	}
	s.n, s.err = max(n, 0), err
	return true
}

// write empties the pipe into the socket; false waits until that can be
// written.
func (s *splicer) write(fd uintptr) bool {
	for s.n > 0 {
		n, err := spliceOnce(s.pipe.r, int(fd), s.n)
		if errors.Is(err, unix.EAGAIN) {
			s.pump.block(s.dir)
			return false
		}
		if err != nil {
			s.err = err
			return true
		}
		s.n -= n
		s.pump.unblock(s.dir)
	}
	return true
}

func spliceOnce(from, to, limit int) (int, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, limit, spliceFlags)
		if !errors.Is(err, unix.EINTR) {
			return int(n), err
		}
	}
}

// release gives the pipe back if it is empty, else closes it.
func (s *splicer) release() {
	if s.pipe == nil {
		return
	}
	if s.n == 0 {
		pipes.Put(s.pipe)
	} else {
		s.pipe.close()
	}
	s.pipe = nil
}

// A pipe is where data stays in the kernel between two sockets.
type pipe struct{ r, w int }

var errNoPipe = errors.New("rdv: no pipe")

// pipes keeps empty pipes for the next piece of any pair; those that the
// garbage collector takes out of it are closed.
var pipes sync.Pool

func newPipe() *pipe {
	if p, ok := pipes.Get().(*pipe); ok {
		return p
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil
	}
	p := &pipe{r: fds[0], w: fds[1]}
	// If the user has no pages left for pipes, the default of 64 KiB stays.
	_, _ = unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, maxPiece)
	runtime.SetFinalizer(p, (*pipe).close)
	return p
}

func (p *pipe) close() {
	runtime.SetFinalizer(p, nil)
	_, _ = unix.Close(p.r), unix.Close(p.w)
}
