package link

import (
	"errors"
	"slices"
	"time"

	"github.com/muster-p2p/muster/link/wire"
)

// pump starts what there is to write, and sets the timer. The lock is held.
func (c *Conn) pump(now time.Time) {
	if c.err != nil {
		return
	}
	wake := c.tracks.next
	due := c.in.due(now)
	for _, p := range c.paths {
		active := p.id == c.tracks.active
		if active && !due.IsZero() && !due.After(now) {
			p.ctl.ack = true
		}
		if !p.ctl.empty() || active && c.out.pending() {
			c.start(p)
		}
	}
	if due.After(now) && (wake.IsZero() || due.Before(wake)) {
		wake = due
	}
	c.arm(now, wake)
}

// arm sees to it that tick is called at the given time, or before.
func (c *Conn) arm(now, at time.Time) {
	if at.IsZero() || !c.armed.IsZero() && !at.Before(c.armed) {
		return
	}
	c.armed = at
	c.timer.Reset(at.Sub(now))
}

// tick does what is due.
func (c *Conn) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	now := time.Now()
	c.armed = time.Time{}
	for _, p := range c.paths {
		c.tracks.heardOn(p.carrier.lastHeard(), p.id, false)
	}
	was := c.tracks.active
	plan := c.tracks.advance(now, c.out.sent > c.out.acked)
	for _, p := range c.paths {
		if tr := c.tracks.find(p.id); slices.Contains(plan.ping, p.id) {
			p.ctl.ping = tr.ping
		}
	}
	for _, id := range plan.lose {
		c.lose(c.find(id), errSilent)
	}
	for _, id := range plan.idle {
		c.lose(c.find(id), nil)
	}
	if plan.meet != 0 && c.err == nil {
		c.attempt(plan.meet)
	}
	if p := c.find(c.tracks.active); p != nil && plan.call {
		p.ctl.call = true
	}
	c.moved(was)
	c.pump(now)
}

var errSilent = errors.New("link: the path is silent")

func (c *Conn) find(id int) *path {
	for _, p := range c.paths {
		if p.id == id {
			return p
		}
	}
	return nil
}

// start has p written, unless that is being done.
func (c *Conn) start(p *path) {
	if p.flushing || p.gone {
		return
	}
	p.flushing = true
	c.wg.Go(func() { c.flush(p) })
}

// flush writes what there is for p, until there is nothing.
func (c *Conn) flush(p *path) {
	var space [256]byte // control frames but CLOSE, twice over
	for {
		c.mu.Lock()
		ctl := c.control(p, space[:0])
		b, ok := batch{}, false
		if p.id == c.tracks.active && !p.gone {
			if b, ok = c.out.take(); ok {
				c.sent(p, b)
			}
		}
		if len(ctl) == 0 && !ok {
			last := p.ctl
			p.flushing = false
			c.mu.Unlock()
			if last.bye {
				p.farewell(last.close)
			}
			return
		}
		c.mu.Unlock()
		err := p.write(ctl, b.frames)
		if ok || err != nil {
			c.mu.Lock()
			if ok {
				c.out.release(b)
			}
			if err != nil {
				c.lose(p, err)
				p.close() // even if it was waiting for its farewell
				c.mu.Unlock()
				return
			}
			c.mu.Unlock()
		}
	}
}

// control encodes the control frames of p.
func (c *Conn) control(p *path, b []byte) []byte {
	ctl := p.ctl
	p.ctl = control{bye: ctl.bye, close: ctl.close}
	if ctl.hello {
		b = c.hello(p).AppendTo(b)
	} else if ctl.ack && (c.err == nil || ctl.bye) { // a peer that has everything says so before it goes
		b = c.in.acknowledge().AppendTo(b)
	}
	if ctl.echo {
		b = wire.AppendEcho(b, wire.PONG, ctl.pong)
	}
	if ctl.ping != 0 {
		b = wire.AppendEcho(b, wire.PING, ctl.ping)
	}
	if ctl.meet != 0 || ctl.call {
		b = wire.AppendMeet(b, ctl.meet)
	}
	return b
}

// hello is what p begins with.
func (c *Conn) hello(p *path) wire.Hello {
	h := wire.Hello{
		Version: wire.Version, Session: c.secret.session(),
		Proof: c.secret.proof(c.dialer, p.binding), Ack: c.in.acknowledge(),
	}
	if p.origin == c.secret {
		h.Flags |= wire.FlagNew
	}
	if c.e.cfg.Paths == RelayOnly {
		h.Flags |= wire.FlagRelayOnly
	}
	return h
}

// sent notes that b goes out by p.
func (c *Conn) sent(p *path, b batch) {
	c.tracks.sentOn(time.Now(), p.id, b.end)
	n := uint64(len(b.frames))
	p.sent += n
	if p.kind == Relay {
		c.stats.RelaySent += n
	} else {
		c.stats.DirectSent += n
	}
	c.e.metrics.moved[p.kind].sent.Add(float64(n))
}
