package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/link/wire"
)

// A Conn is a link to one peer. It is a [net.Conn], whose methods may be called
// by several goroutines at once.
//
// While no path is there, reads and writes wait; a Write returns once its bytes
// are in the replay buffer. Of bytes that the peer acknowledged it is certain
// that they arrived; Close waits for that.
type Conn struct {
	e       *Endpoint
	dialer  bool
	remote  peer.ID
	meeting Meeting
	secret  secret
	events  chan Event
	writing chan struct{} // a place for the one Write whose turn it is

	ctx    context.Context // ends with the link
	cancel context.CancelFunc
	wg     sync.WaitGroup // everything that works for the link

	mu       sync.Mutex // guards what follows; not held while anything waits
	readable sync.Cond  // something to read, an end, an error, a deadline
	writable sync.Cond  // room, an error, a deadline; and all that Close waits for
	filled   sync.Cond  // nobody writes into the buffer of incoming
	in       incoming
	out      outgoing
	tracks   tracks
	paths    []*path
	ids      int
	err      error // the link is over
	greeted  bool  // the peer has said HELLO: it wants to talk to us
	closed   bool  // by Close
	noDirect bool  // the peer takes no direct path

	suspended  time.Time // since when there is no path; zero: there is one
	stopResume func()
	resuming   *approach   // the last resumption
	over       *time.Timer // ends the link if it stays so
	meets      uint32      // the highest number of a MEET that was followed
	met        time.Time   // when
	attempting bool        // an attempt at a direct path is under way

	timer *time.Timer
	armed time.Time // when it fires; zero: it does not

	readDeadline, writeDeadline deadline
	stats                       Stats
}

// newConn makes a link of its first path. It returns nil if the endpoint is
// closed.
func (e *Endpoint) newConn(dialer bool, m Meeting, p *path) *Conn {
	if e.ctx.Err() != nil {
		return nil
	}
	c := &Conn{
		e: e, dialer: dialer, remote: p.remote, meeting: m, secret: p.origin,
		events: make(chan Event, maxEvents), writing: make(chan struct{}, 1),
		in:     newIncoming(e.chunks.get, e.chunks.put),
		out:    newOutgoing(e.chunks.get, e.chunks.put),
		tracks: tracks{dialer: dialer, keep: e.cfg.KeepRelay || e.cfg.Paths == RelayOnly, retry: e.cfg.Paths != RelayOnly},
	}
	c.readable.L, c.writable.L, c.filled.L = &c.mu, &c.mu, &c.mu
	c.ctx, c.cancel = context.WithCancel(e.ctx)
	c.timer = time.AfterFunc(time.Hour, c.tick)
	c.timer.Stop()
	e.metrics.links.Inc()
	e.metrics.opened.WithLabelValues(role(dialer)).Inc()
	leave := e.enroll(c)
	e.wg.Go(func() {
		<-c.ctx.Done()
		leave()
		c.mu.Lock()
		c.goodbye(wire.Close{Code: wire.CodeError, Reason: "the endpoint was closed"}, errAborted)
		c.mu.Unlock()
		c.wg.Wait()
		e.metrics.links.Dec()
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attach(p)
	return c
}

func role(dialer bool) string {
	if dialer {
		return "dial"
	}
	return "accept"
}

// errAborted is what a link ends with that the application ended.
var errAborted = fmt.Errorf("link: closed: %w", net.ErrClosed)

// Read reads what the peer wrote. It returns io.EOF at the end of the peer's
// direction.
func (c *Conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		n, end := c.in.ready()
		switch {
		case c.closed:
			return 0, errAborted
		case c.readDeadline.passed(): // before data: it ends a reader that never waits
			return 0, os.ErrDeadlineExceeded
		case n > 0 || len(p) == 0:
			n = c.in.copyTo(p)
			c.in.consume(n)
			c.pump(time.Now())
			return n, nil
		case end:
			return 0, io.EOF
		case c.err != nil:
			return 0, c.err
		}
		c.readable.Wait()
	}
}

// Write hands p to the link. It returns before the peer has it. What several
// goroutines write at once is not mixed.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.writing <- struct{}{}
	defer func() { <-c.writing }()
	for {
		// In pieces, so that the first is on its way while the next is copied.
		m, err := c.write(p[:min(len(p), chunkSize)])
		if p, n = p[m:], n+m; err != nil || len(p) == 0 {
			return n, err
		}
	}
}

// write takes some of p; all of it, if it is not in error.
func (c *Conn) write(p []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return n, errAborted
		case c.err != nil:
			return n, c.err
		case c.out.finished:
			return n, errEnded
		case c.writeDeadline.passed():
			return n, os.ErrDeadlineExceeded
		}
		m := c.out.write(p)
		if p, n = p[m:], n+m; m > 0 {
			c.pump(time.Now())
		}
		if len(p) == 0 {
			return n, nil
		}
		c.writable.Wait()
	}
}

var errEnded = fmt.Errorf("link: this direction has ended: %w", io.ErrClosedPipe)

// CloseWrite ends this direction: the peer reads what was written, and then an
// end of file. The other direction goes on.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errAborted
	}
	if c.peerLeft() {
		return nil // there is nobody to tell
	}
	if c.err != nil {
		return c.err
	}
	c.out.finish()
	c.pump(time.Now())
	return nil
}

// peerLeft reports whether the peer closed the link after it had everything
// that was written: a good end for both.
func (c *Conn) peerLeft() bool { return errors.Is(c.err, ErrPeerClosed) && c.out.arrived() }

// Close ends both directions. It waits until the peer has acknowledged what was
// written, at most for [Config.Linger], and returns an error if it has not. What
// the peer wrote and was not read is lost. Later calls return nil at once.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.out.finish()
	c.in.drop()
	c.pump(time.Now())
	c.readable.Broadcast()
	c.writable.Broadcast()
	late := false
	timer := time.AfterFunc(c.e.cfg.Linger, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		late = true
		c.writable.Broadcast()
	})
	for c.err == nil && !c.out.drained() && !late {
		c.writable.Wait()
	}
	timer.Stop()
	err := c.err
	if c.peerLeft() {
		err = nil
	} else if err == nil && !c.out.drained() {
		err = fmt.Errorf("link: the peer did not acknowledge everything: %w", os.ErrDeadlineExceeded)
	}
	code := wire.CodeDone
	if err != nil {
		code = wire.CodeError
	}
	c.goodbye(wire.Close{Code: code}, errAborted)
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
	return err
}

// Abort breaks the link off. The peer is told why, if there is a path; it
// should be a sentence that helps its user. Close need not be called then.
func (c *Conn) Abort(reason string) {
	c.mu.Lock()
	c.closed = true
	c.goodbye(wire.Close{Code: wire.CodeError, Reason: reason}, errAborted)
	c.readable.Broadcast()
	c.writable.Broadcast()
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
}

// goodbye sends the last frame on the path in use, and ends the link with err.
func (c *Conn) goodbye(bye wire.Close, err error) {
	if c.err != nil {
		return
	}
	for _, p := range c.paths {
		if p.id == c.tracks.active {
			p.ctl.bye, p.ctl.close, p.ctl.ack = true, bye, true
			// What is being written may wait for a peer that reads nothing.
			if p.stream.SetDeadline(time.Now().Add(farewellTime)) != nil {
				p.close()
			}
			c.start(p)
		}
	}
	c.fail(err)
}

// Confirmed waits until the peer has said that it wants to talk to us, or that
// it does not: the error then wraps [ErrRefused].
func (c *Conn) Confirmed(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.writable.Broadcast()
	})()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.greeted && c.err == nil && ctx.Err() == nil {
		c.writable.Wait()
	}
	if c.greeted {
		return nil
	}
	if c.err != nil {
		return c.err
	}
	return fmt.Errorf("link: %w", context.Cause(ctx))
}

// Done is closed when the link is over.
func (c *Conn) Done() <-chan struct{} { return c.ctx.Done() }

// RemotePeer returns the peer at the other end, who has proved to be that.
func (c *Conn) RemotePeer() peer.ID { return c.remote }

// LocalPeer returns the peer at this end.
func (c *Conn) LocalPeer() peer.ID { return c.e.id }

// An Addr is the address of an end of a link: a peer, wherever it is.
type Addr struct{ ID peer.ID }

// Network returns "link".
func (Addr) Network() string { return "link" }

// String returns the peer ID as text.
func (a Addr) String() string { return a.ID.String() }

// LocalAddr returns an [Addr].
func (c *Conn) LocalAddr() net.Addr { return Addr{c.e.id} }

// RemoteAddr returns an [Addr]: the peer. Where it is now, [Conn.Path] tells.
func (c *Conn) RemoteAddr() net.Addr { return Addr{c.remote} }

// PathInfo describes a path.
type PathInfo struct {
	// Kind is zero while there is no path.
	Kind Kind

	// Addr is that of the server or of the peer, whichever is at the other end.
	Addr netip.AddrPort

	// Since is when the path came about.
	Since time.Time

	// RTT is the last round trip that was measured, zero if there is none.
	RTT time.Duration
}

// Path describes the path that this side sends on. The other side decides for
// itself.
func (c *Conn) Path() PathInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.info(c.tracks.active)
}

func (c *Conn) info(id int) PathInfo {
	i := slices.IndexFunc(c.paths, func(p *path) bool { return p.id == id })
	if i < 0 {
		return PathInfo{}
	}
	p := c.paths[i]
	info := PathInfo{Kind: p.kind, Addr: p.addr, Since: p.since}
	if tr := c.tracks.find(id); tr != nil {
		info.RTT = tr.rtt
	}
	return info
}

// Stats counts what a link did. Bytes are those of applications; what was sent
// twice because a path died counts twice.
type Stats struct {
	RelaySent, RelayReceived   uint64
	DirectSent, DirectReceived uint64
	Switches                   uint64 // changes of the path that is sent on
	Resumes                    uint64 // times that a path came when there was none
}

// Stats returns what the link did so far.
func (c *Conn) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}
