package reach

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/muster-p2p/muster/reach/wire"
)

// A parked is the stream of a callee.
type parked struct {
	stream network.Stream
	access string        // its access token
	turn   chan struct{} // holds a token while somebody writes
	done   chan struct{} // closed when the stream is no longer read

	// Guarded by Server.mu.
	spot    *spot[*parked]
	replies map[uint64]chan wire.Message // with room for one each
	leaving bool                         // GOAWAY has been sent, or is being
}

// maxFrames and framesPerSecond bound what a callee says on its own: a ping every
// five seconds, and replies, which the invitations bound.
const (
	framesPerSecond = 20
	maxFrames       = 200
)

// errChatty says that a callee sends more than it has reason to.
var errChatty = errors.New("reach: too many messages on a parked stream")

// park keeps a callee's stream until it ends.
func (s *Server) park(stream network.Stream, r *messageReader, who requester, access string, parking func()) error {
	p := &parked{stream: stream, access: access, turn: make(chan struct{}, 1), done: make(chan struct{})}
	old, noted, status, text := s.admitParked(p, who)
	s.metrics.answered(OpPark, status)
	if status != wire.OK {
		return p.write(s.ctx, &wire.Message{Kind: wire.Parked, Status: status, Text: text})
	}
	defer s.unpark(p)
	if old != nil {
		s.sendAway(old, wire.Replaced)
	}
	s.awaitNoted(noted)
	if err := p.write(s.ctx, &wire.Message{Kind: wire.Parked}); err != nil {
		return err
	}
	parking()
	err := s.listen(p, r)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// admitParked gives the callee a spot, unless something speaks against it. Noted
// is nil, or closed when other points know.
func (s *Server) admitParked(p *parked, who requester) (old *parked, noted <-chan struct{}, status wire.Status, text string) {
	s.mu.Lock()
	status = wire.Unavailable
	if !s.draining {
		status = s.lot.admitPark(time.Now(), who.id, who.source)
	}
	s.mu.Unlock()
	if status != wire.OK {
		s.metrics.refused[reasonRate].Add(1)
		return nil, nil, status, ""
	}
	if err := s.authorize(Request{Op: OpPark, Peer: who.id, Token: p.access}); err != nil {
		status, text := refusal(err)
		return nil, nil, status, text
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining || s.closed {
		return nil, nil, wire.Unavailable, ""
	}
	spot, replaced, status := s.lot.park(who.id, who.source, p)
	if status != wire.OK {
		s.metrics.refused[reasonFull].Add(1)
		return nil, nil, status, ""
	}
	p.spot = spot
	if replaced != nil {
		old = replaced.owner
	}
	if s.cfg.Directory != nil {
		noted = s.cfg.Directory.Park(who.id)
	}
	return old, noted, wire.OK, ""
}

// unpark takes a callee out, and lets those know who wait for its replies.
func (s *Server) unpark(p *parked) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lot.leave(p.spot)
	close(p.done)
	if s.cfg.Directory != nil && s.lot.find(p.spot.id) == nil {
		s.cfg.Directory.Leave(p.spot.id)
	}
}

// listen reads what the callee says. A stream on which nothing comes for
// DeadAfter is reset.
func (s *Server) listen(p *parked, r *messageReader) error {
	watchdog := time.AfterFunc(DeadAfter, func() { _ = p.stream.Reset() })
	defer watchdog.Stop()
	chatter := newLimiter[struct{}](Rate{PerSecond: framesPerSecond, Burst: maxFrames})
	for {
		var m wire.Message
		if err := r.read(&m); err != nil {
			return err
		}
		now := time.Now()
		if !chatter.allows(now, struct{}{}) {
			return errChatty
		}
		chatter.take(now, struct{}{})
		watchdog.Reset(DeadAfter)
		switch m.Kind {
		case wire.Ping:
			if err := p.write(s.ctx, &wire.Message{Kind: wire.Pong}); err != nil {
				return err
			}
		case wire.Reply:
			s.deliver(p, &m)
		default:
			s.metrics.refused[reasonUnknown].Add(1)
		}
	}
}

// deliver hands a reply to who waits for it. One that is late is dropped.
func (s *Server) deliver(p *parked, m *wire.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch := p.replies[m.Number]; ch != nil {
		delete(p.replies, m.Number)
		ch <- *m
	}
}

// write sends a message, when those before it are sent. The stream of a callee
// that takes nothing is reset.
func (p *parked) write(ctx context.Context, m *wire.Message) error {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-p.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	return within(p.stream, WriteWait, func() error {
		_, err := p.stream.Write(wire.AppendFrame(nil, m))
		return err
	})
}

// sendAway tells a callee to go, and ends its stream a moment later.
func (s *Server) sendAway(p *parked, why wire.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.leaving || s.closed {
		return
	}
	p.leaving = true
	s.wg.Go(func() {
		if err := p.write(s.ctx, &wire.Message{Kind: wire.GoAway, Status: why}); err == nil {
			_ = p.stream.CloseWrite()
			select { // it reads why, and ends its side
			case <-p.done:
				return
			case <-time.After(WriteWait):
			case <-s.ctx.Done():
			}
		}
		_ = p.stream.Reset()
	})
}
