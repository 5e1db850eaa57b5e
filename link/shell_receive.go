package link

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/muster-p2p/muster/link/wire"
)

// serve reads p until it ends.
func (c *Conn) serve(p *path) {
	err := c.receive(p)
	c.mu.Lock()
	switch {
	case errors.Is(err, errPeer):
		c.e.metrics.peers.Inc()
		c.goodbye(wire.Close{Code: wire.CodeError, Reason: err.Error()}, err)
	case errors.Is(err, ErrRefused), errors.Is(err, ErrPeerClosed):
		c.fail(err)
	}
	c.lose(p, err)
	c.mu.Unlock()
	p.drain() // until a farewell is over; otherwise the path is closed
}

// receive reads the frames of p.
func (c *Conn) receive(p *path) error {
	if !p.greeted {
		h, err := p.readHello()
		if err != nil {
			return err
		}
		if err := c.welcome(p, h); err != nil {
			return err
		}
	}
	for {
		h, err := p.readHeader()
		if err != nil {
			return err
		}
		if h.Type == wire.DATA {
			err = c.data(p, h.Len-wire.OffsetLen)
		} else {
			err = c.other(p, h)
		}
		if err != nil {
			return err
		}
	}
}

// welcome takes the peer's HELLO.
func (c *Conn) welcome(p *path, h wire.Hello) error {
	if h.Version == 0 || !c.secret.proves(h, !c.dialer, p.binding) {
		return fmt.Errorf("%w: wrong proof", errPeer)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p.greeted, c.greeted = true, true
	c.writable.Broadcast()
	if h.Flags&wire.FlagRelayOnly != 0 {
		c.noDirect, c.tracks.retry = true, false
	}
	if err := c.out.ack(h.Ack); err != nil {
		return err
	}
	c.pump(time.Now())
	return nil
}

// data reads the bytes of a DATA frame.
func (c *Conn) data(p *path, n int) error {
	var offset [wire.OffsetLen]byte
	if err := p.readFull(offset[:]); err != nil {
		return err
	}
	off, err := wire.ParseOffset(offset[:], n)
	if err != nil {
		return fmt.Errorf("%w: %w", errPeer, err)
	}
	c.mu.Lock()
	for c.in.filling && c.err == nil {
		c.filled.Wait() // a frame is in one record: its bytes are there already
	}
	x, y, direct := c.in.reserve(off, n)
	c.mu.Unlock()
	var around []byte
	if direct {
		if err = p.readFull(x); err == nil {
			err = p.readFull(y)
		}
	} else {
		around = c.e.chunks.get()[:n]
		defer c.e.chunks.put(around)
		err = p.readFull(around)
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	before, _ := c.in.ready()
	switch {
	case direct && err != nil:
		_ = c.in.fill(now, 0)
	case direct:
		err = c.in.fill(now, n)
	case err == nil:
		err = c.in.data(now, off, around)
	}
	if direct {
		c.filled.Signal()
	}
	if err == nil {
		err = c.err
	}
	if err != nil {
		return err
	}
	c.received(now, p, n)
	if after, _ := c.in.ready(); after > before {
		if c.closed {
			c.in.drop()
		} else if before == 0 {
			c.readable.Broadcast()
		}
	}
	c.pump(now)
	return nil
}

func (c *Conn) received(now time.Time, p *path, n int) {
	c.tracks.heardOn(now, p.id, true)
	p.received += uint64(n)
	if p.kind == Relay {
		c.stats.RelayReceived += uint64(n)
	} else {
		c.stats.DirectReceived += uint64(n)
	}
	c.e.metrics.moved[p.kind].received.Add(float64(n))
}

// other reads a frame that is not DATA and does what it says.
func (c *Conn) other(p *path, h wire.Header) error {
	if h.Type >= wire.Ignored {
		_, err := p.r.Discard(h.Len)
		return err
	}
	var space [2 + wire.MaxReason]byte
	if h.Len > len(space) { // a second HELLO
		return fmt.Errorf("%w: %v in mid-path", errPeer, h.Type)
	}
	b := space[:h.Len]
	if err := p.readFull(b); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	now := time.Now()
	c.tracks.heardOn(now, p.id, false)
	was := c.tracks.active
	if err := c.obey(now, p, h.Type, b); err != nil {
		return err
	}
	c.moved(was)
	c.pump(now)
	return nil
}

// obey does what a frame says. The lock is held.
func (c *Conn) obey(now time.Time, p *path, t wire.Type, b []byte) error {
	bad := func(err error) error {
		if err != nil && !errors.Is(err, errPeer) {
			err = fmt.Errorf("%w: %w", errPeer, err)
		}
		return err
	}
	switch t {
	case wire.FIN:
		off, err := wire.ParseOffset(b, 1)
		if err == nil {
			err = c.in.end(now, off)
			c.readable.Broadcast()
		}
		return bad(err)
	case wire.ACK:
		a, err := wire.ParseAck(b)
		if err != nil {
			return bad(err)
		}
		return c.acked(now, a)
	case wire.PING:
		id, err := wire.ParseEcho(b)
		p.ctl.echo, p.ctl.pong = true, id
		return bad(err)
	case wire.PONG:
		id, err := wire.ParseEcho(b)
		c.tracks.pong(now, p.id, id)
		return bad(err)
	case wire.MEET:
		n, err := wire.ParseMeet(b)
		if err == nil {
			c.invited(now, n)
		}
		return bad(err)
	case wire.CLOSE:
		return c.ended(b)
	default:
		return fmt.Errorf("%w: %v in mid-path", errPeer, t)
	}
}

// acked takes an acknowledgement.
func (c *Conn) acked(now time.Time, a wire.Ack) error {
	if a.Next > c.out.acked {
		c.tracks.acked(now)
	}
	if err := c.out.ack(a); err != nil {
		return err
	}
	if !c.out.full() || c.out.drained() {
		c.writable.Broadcast()
	}
	return nil
}

// ended takes a CLOSE: the link is over.
func (c *Conn) ended(payload []byte) error {
	err := cmp.Or(closeError(payload), ErrPeerClosed)
	c.fail(err)
	return err
}
