package reach

import (
	"context"
	"net"
	"runtime/debug"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/reach/wire"
)

// A Directory says at which of several points callees wait, so that a caller
// may ask any of them. Package pglot has one in PostgreSQL.
//
// It need not be right: a point that is asked for a callee that is not there
// says so. What it knows of a point must end with that. Its methods may be
// called by several goroutines at once; Park and Leave must not wait.
type Directory interface {
	// Park notes that a callee waits at this point, until Leave. The channel is
	// closed when the others know, and also when that may take a while.
	Park(callee peer.ID) (noted <-chan struct{})

	// Leave ends what Park has begun.
	Leave(callee peer.ID)

	// Find returns the other points where a callee waits, as DialPoint takes
	// them and the one where it came last first. They are none if it waits
	// nowhere.
	Find(ctx context.Context, callee peer.ID) (points []string, err error)

	// Health returns nil, or why the directory cannot be asked.
	Health() error
}

// maxPointsAsked bounds the points that are asked for one callee: one is where
// it is, the others are dead or it has just left them.
const maxPointsAsked = 3

// awaitNoted waits until other points know of a callee: who is told that it can
// be called, can be called by way of all of them.
func (s *Server) awaitNoted(noted <-chan struct{}) {
	if noted == nil {
		return
	}
	timer := time.NewTimer(AuthorizeWait)
	defer timer.Stop()
	select {
	case <-noted:
	case <-timer.C:
	case <-s.ctx.Done():
	}
}

// forward passes an INVITE on to the point where the callee waits, and returns
// what that answers. Replaced means that the callee has come here meanwhile.
func (s *Server) forward(who requester, m *wire.Message) wire.Message {
	if !s.sendOne() {
		s.metrics.refused[reasonForwards].Add(1)
		return wire.Message{Status: wire.Busy}
	}
	defer s.sentOne()
	ctx, cancel := context.WithTimeout(s.ctx, ForwardWait)
	defer cancel()
	a, outcome := s.askPoints(ctx, &wire.Message{
		Kind: wire.Forward, Call: m.Call, Peer: m.Peer, Service: m.Service, Access: m.Access, Caller: who.id, Source: who.source,
	})
	s.metrics.forwards[outcome].Add(1)
	if outcome != forwardAnswered && s.find(m.Peer) != nil {
		return wire.Message{Status: wire.Replaced}
	}
	return a
}

func (s *Server) sendOne() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sent >= s.cfg.Limits.Forwards {
		return false
	}
	s.sent++
	return true
}

func (s *Server) sentOne() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent--
}

// askPoints asks the points where a callee may wait, one after the other, until
// one has it.
func (s *Server) askPoints(ctx context.Context, m *wire.Message) (a wire.Message, outcome int) {
	find, cancel := context.WithTimeout(ctx, findWait)
	points, err := s.cfg.Directory.Find(find, m.Peer)
	cancel()
	if err != nil {
		s.cfg.Logger.Debug("callee not looked for", "err", err)
		return wire.Message{Status: wire.Unavailable, Text: "who waits at other points is not known now"}, forwardAway
	}
	a, outcome = wire.Message{Status: wire.NotHere}, forwardNobody
	for _, point := range points[:min(len(points), maxPointsAsked)] {
		got, err := s.askPoint(ctx, point, m)
		switch {
		case err != nil:
			s.cfg.Logger.Debug("point not asked", "to", point, "err", err)
			a, outcome = wire.Message{Status: wire.Unavailable, Text: "the point where the peer waits does not answer"}, forwardFailed
		case got.Status == wire.OK:
			// Each end goes to a server of its own point: there it is known
			// that it can be reached.
			return wire.Message{Token: got.Token, Bearer: got.Bearer, Servers: s.cfg.Servers}, forwardAnswered
		case got.Status == wire.Unavailable: // it has sent the callee away, which will be elsewhere in a moment
			a, outcome = wire.Message{Status: wire.Unavailable, Text: "the point where the peer waits is stopping"}, forwardFailed
		case got.Status != wire.NotHere:
			return wire.Message{Status: got.Status, Text: got.Text}, forwardAnswered
		}
	}
	return a, outcome
}

// askPoint sends a request to another point and reads the answer.
func (s *Server) askPoint(ctx context.Context, point string, m *wire.Message) (a wire.Message, err error) {
	dial, cancel := context.WithTimeout(ctx, dialPointWait)
	conn, err := s.cfg.DialPoint(dial, point)
	cancel()
	if err != nil {
		return a, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := conn.Write(wire.AppendFrame(nil, m)); err != nil {
		return a, err
	}
	r := messageReader{r: conn}
	if err := r.read(&a); err != nil {
		return a, err
	}
	if a.Kind != wire.Answer || a.Status == wire.OK && a.Token == "" {
		return a, wire.ErrMalformed
	}
	return a, nil
}

// ServePoint answers the request that another point sends over conn, and closes
// it. The caller has made sure that it is a point: it says in whose name it
// asks. It takes ForwardWait at most.
func (s *Server) ServePoint(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	defer func() {
		if v := recover(); v != nil {
			s.metrics.panics.Add(1)
			s.cfg.Logger.Error("BUG: panic while serving a point", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	in, room := s.trackPoint(conn)
	if !in {
		return
	}
	defer s.untrackPoint(conn)
	if err := s.servePoint(conn, room); err != nil {
		s.countError(err)
		s.cfg.Logger.Debug("request of a point not answered", "err", err)
	}
}

func (s *Server) servePoint(conn net.Conn, room bool) error {
	if err := conn.SetDeadline(time.Now().Add(FirstWait)); err != nil {
		return err
	}
	var m wire.Message
	r := messageReader{r: conn}
	if err := r.read(&m); err != nil {
		return err
	}
	s.metrics.forwards[forwardIn].Add(1)
	var a wire.Message
	switch {
	case m.Kind != wire.Forward || m.Caller == "":
		a.Status = wire.Invalid
	case !room:
		s.metrics.refused[reasonForwards].Add(1)
		a.Status = wire.Busy
	default:
		a = s.invite(requester{m.Caller, sourceOf(m.Source)}, &m, true)
	}
	a.Kind = wire.Answer
	if err := conn.SetDeadline(time.Now().Add(WriteWait)); err != nil {
		return err
	}
	_, err := conn.Write(wire.AppendFrame(nil, &a))
	return err
}

// trackPoint counts a connection of another point in, unless the server is
// closed. Without room the request is answered BUSY.
func (s *Server) trackPoint(conn net.Conn) (in, room bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Points are not strangers, but one of them may be flooded.
	const most = 2
	if s.closed || len(s.asked) >= most*s.cfg.Limits.Forwards {
		return false, false
	}
	s.asked[conn] = true
	s.wg.Add(1)
	return true, len(s.asked) <= s.cfg.Limits.Forwards
}

func (s *Server) untrackPoint(conn net.Conn) {
	s.mu.Lock()
	delete(s.asked, conn)
	s.mu.Unlock()
	s.wg.Done()
}
