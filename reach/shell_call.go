package reach

import (
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/reach/wire"
)

// invite has the callee of an INVITE invited, and returns the answer. One that
// another point has forwarded is not passed on any more.
func (s *Server) invite(who requester, m *wire.Message, forwarded bool) wire.Message {
	if m.Peer == "" {
		return wire.Message{Status: wire.Invalid}
	}
	if status := s.admit(who); status != wire.OK {
		return wire.Message{Status: status}
	}
	// A callee whose stream is replaced meanwhile is asked once more, and one
	// that has come here from another point as well.
	const tries = 2
	var a wire.Message
	for range tries {
		if a = s.inviteOnce(who, m, forwarded); a.Status != wire.Replaced {
			return a
		}
	}
	a.Status = wire.NotHere
	return a
}

func (s *Server) inviteOnce(who requester, m *wire.Message, forwarded bool) wire.Message {
	p := s.find(m.Peer)
	req := Request{Op: OpInvite, Peer: who.id, Token: m.Access, Callee: m.Peer}
	if p != nil {
		req.Here, req.CalleeToken = true, p.access
	}
	// Before it is told who is here, so that only they learn it who may.
	if err := s.authorize(req); err != nil {
		return refused(err)
	}
	switch {
	case p == nil && s.cfg.Directory != nil && !forwarded:
		return s.forward(who, m)
	case p == nil:
		return wire.Message{Status: wire.NotHere}
	}
	token, err := s.mint(req)
	if err != nil {
		return notMinted(err)
	}
	start := time.Now()
	status, text := s.ask(p, who.source, &wire.Message{
		Kind: wire.Invitation, Call: m.Call, Peer: who.id, Service: m.Service, Token: token, Servers: s.cfg.Servers,
	})
	s.metrics.asked(time.Since(start))
	if status != wire.OK {
		return wire.Message{Status: status, Text: text}
	}
	return wire.Message{Token: token, Servers: s.cfg.Servers}
}

func (s *Server) find(id peer.ID) *parked {
	s.mu.Lock()
	defer s.mu.Unlock()
	if spot := s.lot.find(id); spot != nil {
		return spot.owner
	}
	return nil
}

// ask passes an invitation on and waits for the reply. Replaced means that the
// callee's stream ended meanwhile.
func (s *Server) ask(p *parked, source netip.Addr, m *wire.Message) (status wire.Status, text string) {
	ch := make(chan wire.Message, 1)
	if m.Number, status = s.begin(p, m.Peer, source, ch); status != wire.OK {
		return status, ""
	}
	defer s.end(p, m.Number)
	timer := time.NewTimer(ReplyWait)
	defer timer.Stop()
	if err := p.write(s.ctx, m); err != nil {
		return wire.Replaced, ""
	}
	select {
	case reply := <-ch:
		return replyStatus(reply.Status), reply.Text
	case <-p.done:
		return wire.Replaced, ""
	case <-timer.C:
		return wire.NoAnswer, ""
	case <-s.ctx.Done():
		return wire.Unavailable, ""
	}
}

// replyStatus is what a callee may say; the rest is the point's to say.
func replyStatus(s wire.Status) wire.Status {
	switch s {
	case wire.OK, wire.NoService, wire.Busy:
		return s
	default:
		return wire.Refused
	}
}

func (s *Server) begin(p *parked, caller peer.ID, source netip.Addr, ch chan wire.Message) (uint64, wire.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	number, status := s.lot.invite(time.Now(), caller, source, p.spot)
	if status != wire.OK {
		if status == wire.Busy {
			s.metrics.refused[reasonBusy].Add(1)
			return 0, status
		}
		return 0, wire.Replaced
	}
	if p.replies == nil {
		p.replies = map[uint64]chan wire.Message{}
	}
	p.replies[number] = ch
	return number, wire.OK
}

func (s *Server) end(p *parked, number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lot.end(p.spot, number)
	delete(p.replies, number)
	if len(p.replies) == 0 {
		p.replies = nil
	}
}
