package rendezvous

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// A pointState is what was learned about a point.
type pointState struct {
	idle   *clientStream // kept for the next request
	single bool          // one request per stream, as nim and rust have it
	proven bool          // a second request on a stream was answered
	form   recordForm    // what it took last
}

// maxPoints bounds what is remembered about points.
const maxPoints = 4096

// ask sends a request and reads the answer into res, which refers to memory of
// its own. A stream that was kept from an earlier request is used if there is
// one; if it fails, another is opened.
func (c *Client) ask(ctx context.Context, point peer.ID, req, res *wire.Message, records int) error {
	err := c.tryAsk(ctx, point, req, res, records)
	c.metrics.asked(req.Kind, res, err)
	return err
}

func (c *Client) tryAsk(ctx context.Context, point peer.ID, req, res *wire.Message, records int) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	frame := wire.AppendFrame(nil, c.d, req)
	if s := c.takeIdle(point); s != nil {
		if err := s.exchange(ctx, frame, c.d, res, records); err == nil {
			c.setPoint(point, func(p *pointState) { p.proven = true })
			c.keep(point, s)
			return nil
		} else if ctx.Err() != nil {
			s.abort()
			return contextError(ctx, err)
		}
		s.abort()
		c.setPoint(point, func(p *pointState) { p.single = !p.proven })
	}
	s, err := c.open(ctx, point)
	if err != nil {
		return err
	}
	if err := s.exchange(ctx, frame, c.d, res, records); err != nil {
		s.abort()
		return contextError(ctx, err)
	}
	c.keep(point, s)
	return nil
}

// contextError says that time was up rather than what broke because of it.
func contextError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", ctx.Err(), err)
	}
	return err
}

// open opens a stream to a point.
func (c *Client) open(ctx context.Context, point peer.ID) (*clientStream, error) {
	ctx = network.WithAllowLimitedConn(ctx, serviceName)
	if c.host.Network().Connectedness(point) == network.NotConnected {
		if _, err := c.host.Network().DialPeer(ctx, point); err != nil {
			return nil, contextError(ctx, fmt.Errorf("%w: %w", ErrUnreachable, err))
		}
	}
	s, err := c.host.NewStream(ctx, point, c.proto)
	if err != nil {
		if _, ok := errors.AsType[multistream.ErrNotSupported[protocol.ID]](err); ok {
			return nil, fmt.Errorf("%w: %s", ErrUnsupported, c.proto)
		}
		return nil, contextError(ctx, fmt.Errorf("%w: %w", ErrUnreachable, err))
	}
	return &clientStream{s: s, r: bufio.NewReaderSize(s, 512)}, nil
}

// takeIdle returns the stream that is kept for point, if any.
func (c *Client) takeIdle(point peer.ID) *clientStream {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.points[point]
	if p == nil || p.idle == nil {
		return nil
	}
	s := p.idle
	p.idle = nil
	if !s.timer.Stop() {
		return nil // it is being closed
	}
	return s
}

// keep keeps s for the next request to point, or closes it.
func (c *Client) keep(point peer.ID, s *clientStream) {
	if !c.keepIdle(point, s) {
		s.end()
	}
}

func (c *Client) keepIdle(point peer.ID, s *clientStream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pointLocked(point)
	if c.closed || p == nil || p.single || p.idle != nil {
		return false
	}
	p.idle = s
	s.timer = time.AfterFunc(keepStream, func() {
		c.mu.Lock()
		if p.idle == s {
			p.idle = nil
		}
		c.mu.Unlock()
		s.end()
	})
	return true
}

// pointLocked returns what is known of a point, or nil if too many are known.
func (c *Client) pointLocked(point peer.ID) *pointState {
	p := c.points[point]
	if p == nil && len(c.points) < maxPoints {
		p = &pointState{}
		c.points[point] = p
	}
	return p
}

func (c *Client) setPoint(point peer.ID, f func(*pointState)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pointLocked(point); p != nil {
		f(p)
	}
}

func (c *Client) formOf(point peer.ID) recordForm {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.points[point]; p != nil {
		return p.form
	}
	return specForm
}

// A clientStream is a stream to a point, used by one goroutine at a time.
type clientStream struct {
	s     network.Stream
	r     *bufio.Reader
	timer *time.Timer // while it is kept idle
}

func (s *clientStream) write(frame []byte) error {
	_, err := s.s.Write(frame)
	return err
}

// exchange sends a request and reads the answer.
func (s *clientStream) exchange(ctx context.Context, frame []byte, d wire.Dialect, res *wire.Message, records int) error {
	stop := context.AfterFunc(ctx, s.abort)
	defer stop()
	if err := s.write(frame); err != nil {
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	b, err := readFrame(s.r, nil, maxClientAnswer)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, network.ErrReset) {
			return fmt.Errorf("%w: %w", ErrNoAnswer, err)
		}
		return err
	}
	return wire.Parse(d, b, res, records)
}

// end closes a stream in order. Our side is closed only now: Go's forks reset
// a stream whose client has closed its side before it has read the answer.
func (s *clientStream) end() {
	_ = s.s.Close()
}

func (s *clientStream) abort() { _ = s.s.Reset() }

// ownRecord returns what to register with: the record that identify sends as
// well if it is short enough, else one with fewer addresses.
func (c *Client) ownRecord(ns string, form recordForm) ([]byte, error) {
	if c.cfg.Addrs == nil && form == specForm {
		if rec := c.hostRecord(); rec != nil && fits(ns, rec) {
			return rec, nil
		}
	}
	addrs := c.host.Addrs
	if c.cfg.Addrs != nil {
		addrs = c.cfg.Addrs
	}
	trimmed := trimAddrs(addrs(), MaxRecordAddrBytes)
	if len(trimmed) == 0 {
		return nil, ErrNoAddrs
	}
	if form == peerInfoForm {
		return peerInfo(c.host.ID(), trimmed), nil
	}
	return c.sealed(trimmed, form)
}

// hostRecord returns the host's own signed record if it is in order.
func (c *Client) hostRecord() []byte {
	book, ok := peerstore.GetCertifiedAddrBook(c.host.Peerstore())
	if !ok {
		return nil
	}
	env := book.GetPeerRecord(c.host.ID())
	if env == nil {
		return nil
	}
	b, err := env.Marshal()
	if err != nil {
		return nil
	}
	c.recordMu.Lock()
	defer c.recordMu.Unlock()
	if bytes.Equal(b, c.checked) {
		return b
	}
	if _, err := admitRecord(b, c.host.ID()); err != nil {
		return nil // no addresses, or too many
	}
	c.checked = b
	return b
}

// sealed returns a record with addrs, the last one if they are still the same:
// a point need not verify again what it has verified.
func (c *Client) sealed(addrs [][]byte, form recordForm) ([]byte, error) {
	c.recordMu.Lock()
	defer c.recordMu.Unlock()
	last := &c.records[form]
	if slices.EqualFunc(last.addrs, addrs, bytes.Equal) {
		return last.envelope, nil
	}
	id := c.host.ID()
	key := c.host.Peerstore().PrivKey(id)
	if key == nil {
		return nil, errors.New("rendezvous: the host has no key to sign with")
	}
	env, err := sealRecord(key, id, addrs, form)
	if err != nil {
		return nil, fmt.Errorf("rendezvous: sign record: %w", err)
	}
	*last = ownRecord{addrs: addrs, envelope: env}
	return env, nil
}
