package link

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/muster-p2p/muster/link/wire"
)

// attach takes a path in, on which this side may send from now on. The lock is
// held.
func (c *Conn) attach(p *path) {
	if c.err != nil {
		p.close()
		return
	}
	now := time.Now()
	c.ids++
	p.id = c.ids
	p.done = make(chan struct{})
	c.paths = append(c.paths, p)
	was := c.tracks.active
	if !c.suspended.IsZero() {
		c.suspended = time.Time{}
		if c.over != nil {
			c.over.Stop()
		}
		c.out.rewind()
		c.stats.Resumes++
		c.e.metrics.resumes.WithLabelValues("resumed").Inc()
		defer func() { c.emit(Event{Kind: Resumed, At: now, Path: c.info(c.tracks.active)}) }()
	}
	c.tracks.add(now, p.id, p.kind, p.rtt)
	if !c.dialer || c.ids == 1 {
		p.ctl.hello = true // otherwise it was said before
	}
	if p.greeted {
		c.greeted = true
	}
	if !c.dialer && p.hello.Flags&wire.FlagRelayOnly != 0 {
		c.noDirect, c.tracks.retry = true, false
	}
	c.e.metrics.paths.WithLabelValues(p.kind.String()).Inc()
	c.emit(Event{Kind: PathUp, At: now, Path: c.info(p.id)})
	c.moved(was)
	c.tracks.next = now
	c.wg.Go(func() { c.serve(p) })
	c.lose(c.find(c.tracks.surplus()), nil)
	c.pump(now)
}

// moved says so if the path in use is another one than before.
func (c *Conn) moved(was int) {
	active := c.tracks.active
	if c.err != nil || active == was || active == 0 {
		return
	}
	info := c.info(active)
	if c.ids > 1 {
		c.stats.Switches++
		c.e.metrics.switches.WithLabelValues(info.Kind.String()).Inc()
	}
	c.emit(Event{Kind: Switched, At: time.Now(), Path: info})
	c.e.log.Debug("path in use", "peer", c.remote, "kind", info.Kind.String(), "addr", info.Addr, "rtt", info.RTT)
	// The peer should hear by the new path what it has from the old one.
	if p := c.find(active); !p.ctl.hello {
		p.ctl.ack = true
	}
}

// lose takes a path out, dead or not needed. Err is nil for the latter. The
// lock is held; a path that is gone, or nil, is no matter.
func (c *Conn) lose(p *path, err error) {
	if p == nil || p.gone {
		return
	}
	p.gone = true
	if !p.ctl.bye { // a farewell closes by itself
		p.close()
	}
	info := c.info(p.id)
	upTo := uint64(0)
	if tr := c.tracks.find(p.id); tr != nil {
		upTo = tr.upTo
	}
	c.paths = slices.DeleteFunc(c.paths, func(q *path) bool { return q == p })
	if c.err != nil {
		return
	}
	now := time.Now()
	was := c.tracks.active
	c.tracks.lost(now, p.id)
	c.e.metrics.lost.WithLabelValues(p.kind.String()).Inc()
	c.e.log.Debug("path is gone", "peer", c.remote, "kind", p.kind.String(), "addr", p.addr, "err", err)
	c.emit(Event{Kind: PathDown, At: now, Path: info, Err: err})
	if upTo > c.out.acked {
		c.out.rewind()
	}
	if len(c.paths) == 0 {
		c.suspend(now, err)
		return
	}
	c.moved(was)
	c.tracks.next = now
	c.pump(now)
}

// suspend waits for a path where there is none.
func (c *Conn) suspend(now time.Time, err error) {
	if c.e.cfg.ResumeWindow == 0 {
		c.fail(fmt.Errorf("%w: %w", ErrLost, err))
		return
	}
	window := c.e.cfg.ResumeWindow
	if !c.greeted {
		window = min(window, secureTimeout) // the acceptor may not know of the link
	}
	c.suspended = now
	c.emit(Event{Kind: Suspended, At: now})
	ctx, cancel := context.WithCancel(c.ctx)
	a := &approach{
		e: c.e, dialer: c.dialer, remote: c.remote, meeting: c.meeting, token: c.secret.resumeToken(),
		relay: c.e.cfg.Paths != DirectOnly, stubborn: true, own: true,
	}
	a.deliver = func(p *path) bool { return c.enlist(p, a) }
	c.stopResume, c.resuming = cancel, a
	c.wg.Go(func() {
		defer cancel()
		c.resume(ctx, a, now, window)
	})
}

// resume meets the peer again, for some time.
func (c *Conn) resume(ctx context.Context, a *approach, since time.Time, window time.Duration) {
	c.mu.Lock()
	c.over = time.AfterFunc(window, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.suspended.Equal(since) {
			c.e.metrics.resumes.WithLabelValues("lost").Inc()
			c.fail(fmt.Errorf("%w: none of its paths came back within %v", ErrLost, window))
		}
	})
	c.mu.Unlock()
	err := c.e.run(ctx, a)
	c.e.log.DebugContext(ctx, "resumption ended", "peer", c.remote, "err", err)
}

// attempt begins the nth attempt at a direct path. The lock is held.
func (c *Conn) attempt(n uint32) {
	if c.noDirect || c.attempting || c.e.cfg.Paths == RelayOnly {
		return
	}
	if c.dialer {
		if p := c.find(c.tracks.active); p != nil {
			p.ctl.meet = n
		}
	}
	c.attempting = true
	c.wg.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, meetFor)
		defer cancel()
		a := &approach{
			e: c.e, dialer: c.dialer, remote: c.remote, meeting: c.meeting, token: c.secret.meetToken(n),
			deliver: c.join,
		}
		err := c.e.run(ctx, a)
		c.e.log.DebugContext(ctx, "attempt at a direct path", "peer", c.remote, "number", n, "err", err)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.attempting = false
	})
}

// invited takes a MEET: from the dialer, to come to an attempt; from the
// acceptor, without a number, to begin one. One that comes too soon after
// another is ignored, as each has us ask the servers.
func (c *Conn) invited(now time.Time, n uint32) {
	switch {
	case c.dialer && n == 0:
		c.tracks.called(now)
	case c.dialer, n <= c.meets: // not the peer's to say, or an old one
	case !c.met.IsZero() && now.Sub(c.met) < meetSpacing*3/4: // less, as it may have been held up
	default:
		c.meets, c.met = n, now
		c.attempt(n)
	}
}

// join takes one more path in, after both sides have shown on it that they know
// the session's secret. It owns p.
func (c *Conn) join(p *path) bool { return c.enlist(p, nil) }

// enlist is join. Resumed is the resumption that the path comes of, nil if it
// comes of none: a peer that comes to where only the two can meet knows of the
// session.
func (c *Conn) enlist(p *path, resumed *approach) bool {
	if !c.enter() {
		p.close()
		return false
	}
	defer c.wg.Done()
	if err := c.introduce(p, resumed != nil); err != nil {
		c.e.log.Debug("path does not belong here", "peer", c.remote, "kind", p.kind.String(), "err", err)
		p.close()
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		p.close()
		return false
	}
	if c.stopResume != nil && c.resuming != resumed {
		c.stopResume() // there is a path without it; perhaps of the one before
	}
	c.attach(p)
	return true
}

// enter adds one to those who work for the link, unless it is over.
func (c *Conn) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false
	}
	c.wg.Add(1)
	return true
}

// introduce exchanges HELLOs, of which the acceptor has read the dialer's.
func (c *Conn) introduce(p *path, known bool) error {
	if p.remote != c.remote {
		return ErrIdentity
	}
	if !c.dialer {
		if !c.secret.proves(p.hello, true, p.binding) {
			return fmt.Errorf("%w: wrong proof", errPeer)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.writable.Broadcast() // there may be room, or nothing left to wait for
		return c.out.ack(p.hello.Ack)
	}
	ctx, cancel := context.WithTimeout(c.ctx, secureTimeout)
	defer cancel()
	if !known {
		if err := c.Confirmed(ctx); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, p.close)
	defer stop()
	c.mu.Lock()
	hello := c.hello(p).AppendTo(nil)
	c.mu.Unlock()
	asked := time.Now()
	if err := p.write(hello, nil); err != nil {
		return err
	}
	h, err := p.readHello()
	if err != nil {
		return err
	}
	p.rtt = max(time.Since(asked), 1)
	if !stop() {
		return context.Cause(ctx)
	}
	return c.welcome(p, h)
}

// fail ends the link. The lock is held.
func (c *Conn) fail(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	c.timer.Stop()
	if c.over != nil {
		c.over.Stop()
	}
	c.readDeadline.set(time.Time{}, nil)
	c.writeDeadline.set(time.Time{}, nil)
	for _, p := range slices.Clone(c.paths) {
		c.lose(p, err)
	}
	c.emit(Event{Kind: Closed, At: time.Now(), Err: err})
	close(c.events)
	c.readable.Broadcast()
	c.writable.Broadcast()
	c.filled.Broadcast()
	c.cancel()
}
