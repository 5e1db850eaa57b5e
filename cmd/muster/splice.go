package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/muster-p2p/muster/link"
)

// errLocalBroke says that the local end of a spliced connection was reset.
var errLocalBroke = errors.New("the local connection broke off")

// splice joins a link and a local connection until both directions have ended.
// Where one breaks off, so does the other: neither end is made to believe that it
// was all. The error says that it was the local one.
func splice(ctx context.Context, conn *link.Conn, local halfCloser) (sent, received int64, err error) {
	stop := context.AfterFunc(ctx, func() {
		conn.Abort("interrupted")
		reset(local)
	})
	defer stop()
	from, to := &reading{r: local}, &writing{w: local}
	var wg sync.WaitGroup
	wg.Go(func() {
		var err error
		if sent, err = io.Copy(conn, from); err != nil {
			breakOff(conn, local, from.err)
			return
		}
		_ = conn.CloseWrite()
	})
	wg.Go(func() {
		var err error
		if received, err = io.Copy(to, conn); err != nil {
			breakOff(conn, local, to.err)
			return
		}
		_ = local.CloseWrite()
	})
	wg.Wait()
	_ = local.Close()
	_ = conn.Close()
	if broke := errors.Join(from.err, to.err); broke != nil && !errors.Is(broke, net.ErrClosed) {
		err = errLocalBroke
	}
	return sent, received, err
}

// breakOff ends both: the link in words if it was not the one that broke.
func breakOff(conn *link.Conn, local halfCloser, localErr error) {
	if localErr != nil {
		conn.Abort(errLocalBroke.Error())
	}
	reset(local)
}

// reset closes a connection so that its other end does not take it for the end of
// what was sent.
func reset(local halfCloser) {
	if c, ok := local.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	_ = local.Close()
}

// A reading is a reader that keeps its error, so that it is not taken for the
// writer's.
type reading struct {
	r      io.Reader
	failed func(error) // is called with it; may be nil
	err    error
}

func (s *reading) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		if s.err = err; s.failed != nil {
			s.failed(err)
		}
	}
	return n, err
}

// A writing is the same of a writer.
type writing struct {
	w   io.Writer
	err error
}

func (t *writing) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	if err != nil {
		t.err = err
	}
	return n, err
}
