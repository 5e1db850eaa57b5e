package muster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/link"
	"github.com/muster-p2p/muster/reach"
	"github.com/muster-p2p/muster/reach/wire"
)

// ErrHello says that a caller came and did not say that it wants the service:
// it wants another one than the point said, or nothing that is known here.
var ErrHello = errors.New("muster: the caller does not ask for this service")

var errNotAllowed = errors.New("muster: the caller is not on the access list")

// A Listener takes the links of callers of one service. Its methods may be
// called at once.
type Listener struct {
	r       *Reach
	service string
	allow   map[peer.ID]bool // nil: everybody
	links   chan *link.Conn
	done    chan struct{}
	once    sync.Once
}

// Listen makes this peer answer callers of a service: at most 64 letters,
// digits, "-", "." and "_"; the empty name is the pipe of 'muster call'. If
// allow is not empty, only those peers are let in: decided before a caller gets
// a token, on the word of the point, and once more on the link, on the caller's
// proof.
func (r *Reach) Listen(service string, allow []peer.ID) (*Listener, error) {
	if !wire.ValidService(service) {
		return nil, fmt.Errorf("muster: %q is not the name of a service", service)
	}
	l := &Listener{r: r, service: service, links: make(chan *link.Conn, maxBacklog), done: make(chan struct{})}
	if len(allow) > 0 {
		l.allow = map[peer.ID]bool{}
		for _, id := range allow {
			l.allow[id] = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrReachClosed
	}
	if r.services[service] != nil {
		return nil, fmt.Errorf("muster: the service %q is listened for already", service)
	}
	r.services[service] = l
	return l, nil
}

func (l *Listener) allows(id peer.ID) bool { return l.allow == nil || l.allow[id] }

// Accept returns the next caller's link. The error is ctx's, or wraps
// net.ErrClosed after Close.
func (l *Listener) Accept(ctx context.Context) (*link.Conn, error) {
	select {
	case c := <-l.links:
		return c, nil
	case <-l.done:
		return nil, fmt.Errorf("muster: listener: %w", net.ErrClosed)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close stops listening, and closes the links that nobody has accepted. It may
// be called more than once.
func (l *Listener) Close() error {
	l.once.Do(func() {
		l.r.mu.Lock()
		delete(l.r.services, l.service)
		close(l.done)
		l.r.mu.Unlock()
		for {
			select {
			case c := <-l.links:
				_ = c.Close()
			default:
				return
			}
		}
	})
	return nil
}

// push hands a link to whoever accepts it. It is false if there is no room.
func (l *Listener) push(c *link.Conn) bool {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	select {
	case <-l.done:
		return false
	default:
	}
	select {
	case l.links <- c:
		return true
	default:
		return false
	}
}

// A callID tells calls apart. The caller is part of it: a point that lies could
// otherwise have somebody of its own end the wait for others.
type callID struct {
	caller peer.ID
	call   [wire.CallSize]byte
}

func callOf(inv reach.Invitation) callID { return callID{inv.Peer, inv.Call} }

// awaited is a call that was let in: at one meeting for each point that has
// passed it on.
type awaited struct {
	since   time.Time
	stale   bool // its place has been given to another one
	cancels []context.CancelFunc
	left    int // meetings that are still waited at
}

// invited decides about an invitation and begins to wait for the caller.
func (r *Reach) invited(_ context.Context, inv reach.Invitation) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.services[inv.Service]
	switch {
	case r.closed:
		return ErrReachClosed
	case l == nil:
		return r.noServiceLocked(inv.Peer)
	case !l.allows(inv.Peer):
		return errNotAllowed
	case r.waiting >= maxAwaited && !r.dropStaleLocked(), r.callers[inv.Peer] >= maxAwaitedOfOne, len(l.links) == cap(l.links):
		return reach.ErrBusy
	}
	ctx, cancel := context.WithTimeout(r.ctx, callerWait)
	a := r.awaited[callOf(inv)]
	if a == nil {
		a = &awaited{since: time.Now()}
		r.awaited[callOf(inv)] = a
	}
	a.cancels = append(a.cancels, cancel)
	a.left++
	r.waiting++
	r.callers[inv.Peer]++
	r.wg.Go(func() {
		defer cancel()
		r.await(ctx, l, inv)
	})
	return nil
}

// dropStaleLocked gives up the oldest of the calls whose callers should have come
// by now, and reports whether there is one. Identities cost nothing: those who
// call and do not come would otherwise keep everybody else out.
func (r *Reach) dropStaleLocked() bool {
	var oldest *awaited
	for _, a := range r.awaited {
		if !a.stale && time.Since(a.since) >= staleWait && (oldest == nil || a.since.Before(oldest.since)) {
			oldest = a
		}
	}
	if oldest == nil {
		return false
	}
	oldest.stale = true
	for _, cancel := range oldest.cancels {
		cancel()
	}
	return true
}

// noServiceLocked says which services there are not to those only who may use
// one that there is, muster's own apart.
func (r *Reach) noServiceLocked(caller peer.ID) error {
	for name, l := range r.services {
		if !strings.HasPrefix(name, "_") && l.allows(caller) {
			return reach.ErrNoService
		}
	}
	return errNotAllowed
}

// await waits for the caller of an invitation.
func (r *Reach) await(ctx context.Context, l *Listener, inv reach.Invitation) {
	conn, err := r.AcceptAt(ctx, inv.Service, meeting(inv), func(id peer.ID) error {
		if id != inv.Peer || !l.allows(id) {
			return errNotAllowed
		}
		return nil
	})
	r.over(inv, err == nil)
	if err != nil {
		r.cfg.Logger.Debug("the caller did not come", "peer", inv.Peer, "err", err)
		return
	}
	if !l.push(conn) {
		r.cfg.Logger.Warn("a link is closed: nobody accepts it", "peer", inv.Peer)
		_ = conn.Close()
	}
}

// over ends the wait for a caller at one meeting, and at those of the other
// points if it has come.
func (r *Reach) over(inv reach.Invitation, came bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting--
	if r.callers[inv.Peer]--; r.callers[inv.Peer] == 0 {
		delete(r.callers, inv.Peer)
	}
	a := r.awaited[callOf(inv)]
	if came {
		for _, cancel := range a.cancels {
			cancel()
		}
	}
	if a.left--; a.left == 0 {
		delete(r.awaited, callOf(inv))
	}
}

// AcceptAt waits at a meeting for one caller of a service. Allow, if not nil,
// decides on its proved identity.
func (r *Reach) AcceptAt(ctx context.Context, service string, m link.Meeting, allow func(peer.ID) error) (*link.Conn, error) {
	conn, err := r.endpoint.Accept(ctx, m, allow)
	if err != nil {
		return nil, err
	}
	got, err := readHello(ctx, conn)
	if err == nil && got != service {
		err = fmt.Errorf("%w, but for %q", ErrHello, got)
	}
	if err != nil {
		conn.Abort("no service")
		return nil, err
	}
	return conn, nil
}

// readHello reads what a caller says first.
func readHello(ctx context.Context, conn net.Conn) (service string, err error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = conn.SetReadDeadline(time.Now().Add(helloWait))
	var b [wire.HelloHead + wire.MaxService]byte
	if _, err := io.ReadFull(conn, b[:wire.HelloHead]); err != nil {
		return "", fmt.Errorf("%w: %w", ErrHello, err)
	}
	n, err := wire.ParseHelloHead([wire.HelloHead]byte(b[:wire.HelloHead]))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrHello, err)
	}
	name := b[wire.HelloHead : wire.HelloHead+n]
	if _, err := io.ReadFull(conn, name); err != nil {
		return "", fmt.Errorf("%w: %w", ErrHello, err)
	}
	if !stop() {
		return "", context.Cause(ctx)
	}
	return string(slices.Clone(name)), conn.SetReadDeadline(time.Time{})
}
