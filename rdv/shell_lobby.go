package rdv

import (
	"fmt"
	"net/http"
	"net/netip"
	"time"
)

// A client is one that has been upgraded. It lives in one allocation, since
// there are thousands of them.
type client struct {
	seat     seat[*client]
	conn     Conn
	meta     Meta
	observed netip.AddrPort
	watch    watch

	// Of a server that shares its lobby. Its mu guards them while the client
	// has a seat.
	claim   uint64 // ID of the claim to its token
	dead    uint64 // ID of a claim that need not be respected
	tries   int    // how often another server did not take it
	queued  bool   // it is in pending
	claimed bool   // the directory has been asked for the claim
	handed  bool   // it came from another server
}

// enter takes a client that has been upgraded into the lobby, and out again
// with its peer if that is there. It owns the connection from here on.
func (s *Server) enter(c *client) error {
	v, other, err := s.decide(c)
	return s.act(c, v, other, err)
}

// act does what decide said.
func (s *Server) act(c *client, v verdict, other *client, err error) error {
	if other != nil {
		s.watcher.remove(other)
	}
	s.log().Debug("client enters", append(clientAttrs(c), "verdict", v.String())...)
	switch v {
	case seated:
		return nil
	case matched:
		s.introduce(other, c)
		return nil
	case replaced:
		s.answer(other, http.StatusConflict, "replaced by another conn")
		return nil
	case occupied:
		s.answer(c, http.StatusConflict, "token is in use")
	case sourceFull:
		s.answer(c, http.StatusTooManyRequests, "too many clients wait at this address")
	case lobbyFull:
		s.answer(c, http.StatusServiceUnavailable, "lobby is full")
	case pairsFull:
		const reason = "too many pairs"
		s.answer(other, http.StatusServiceUnavailable, reason)
		s.answer(c, http.StatusServiceUnavailable, reason)
	default: // err says why
		s.answer(c, http.StatusServiceUnavailable, reasonClosed)
		return err
	}
	return fmt.Errorf("%w: %v", ErrBadHandshake, v)
}

// decide is the part of enter that needs the lock. The verdict is zero if
// there is an error; the other client has left the lobby.
func (s *Server) decide(c *client) (v verdict, other *client, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, nil, http.ErrServerClosed
	}
	if c.handed && s.lobby.seats[c.seat.token] == nil {
		return absent, nil, nil
	}
	alone := s.lobby.first == nil
	v, seat := s.lobby.join(time.Now(), &c.seat)
	if seat != nil {
		other = seat.client
	}
	if v == matched || v == replaced { // who takes the place claims for itself, if it stays for so long
		s.unclaimLocked(other)
	}
	switch {
	case v == matched && s.maxPairs > 0 && s.pairs >= s.maxPairs:
		v = pairsFull
	case v == matched:
		s.pairs++
		s.handlers.Add(1) // under mu, so never after the Wait of Close
	case v == seated && s.MaxConns > 0 && len(s.lobby.seats)+2*(s.pairs+s.shared.out) > s.MaxConns-s.MaxConns/connsForRequests:
		s.lobby.leave(&c.seat)
		v = lobbyFull
	case v == seated || v == replaced:
		// Under mu, so that it is there before anyone can end it. It does not wait.
		if err := s.watcher.add(c); err != nil {
			s.lobby.leave(&c.seat)
			return 0, other, fmt.Errorf("rdv: watch client: %w", err)
		}
		s.claimLocked(c, pauseOf(c.tries))
	}
	if alone && v == seated {
		s.rouse()
	}
	s.stats.verdicts[v].Add(1)
	return v, other, nil
}

// connsForRequests is the part of MaxConns that only requests may have.
const connsForRequests = 8

const reasonClosed = "server is shutting down"

// introduce hands a pair to the handler, in a goroutine of its own: that of
// the HTTP server has a large stack.
func (s *Server) introduce(a, b *client) {
	a.meta.PeerAddrs = peerAddrs(b.meta.SelfAddrs, b.observed)
	b.meta.PeerAddrs = peerAddrs(a.meta.SelfAddrs, a.observed)
	dc, ac := &a.conn, &b.conn
	if a.meta.Method != DIAL {
		dc, ac = ac, dc
	}
	go func() {
		defer s.handlers.Done()
		defer func() {
			s.mu.Lock()
			s.pairs--
			s.mu.Unlock()
		}()
		defer s.recoverHandler(dc, ac)
		s.handler.Serve(s.ctx, dc, ac)
	}()
}

// recoverHandler keeps the server alive when a handler panics, as net/http
// does for its handlers.
func (s *Server) recoverHandler(dc, ac *Conn) {
	p := recover()
	if p == nil {
		return
	}
	s.stats.panics.Add(1)
	_, _ = dc.Close(), ac.Close()
	s.log().Error("handler panicked", "panic", p)
}

// disturbed is called by the watcher, once at most, when a client that waits
// has left or has sent what it should not yet.
func (s *Server) disturbed(c *client, early bool) {
	s.mu.Lock()
	waited := s.lobby.leave(&c.seat)
	if waited {
		s.unclaimLocked(c)
	}
	if waited && early {
		s.wg.Add(1) // under mu, and nobody waits after closed: so never after the Wait of Close
	}
	s.mu.Unlock()
	switch {
	case !waited: // somebody else owns the connection by now
	case early:
		s.stats.early.Add(1)
		s.stats.answered(http.StatusBadRequest)
		go func() {
			defer s.wg.Done()
			refuseEarly(c.conn.Conn, reasonEarly)
		}()
	default:
		s.stats.gone.Add(1)
		_ = c.conn.Close()
		s.log().Debug("client gone", clientAttrs(c)...)
	}
}

// expire answers who has waited too long.
func (s *Server) expire() {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		now := time.Now()
		s.mu.Lock()
		late, next := s.lobby.expire(now), s.lobby.next()
		if late != nil {
			s.unclaimLocked(late.client)
		}
		s.mu.Unlock()
		if late != nil {
			s.stats.expired.Add(1)
			s.watcher.remove(late.client)
			s.answer(late.client, http.StatusRequestTimeout, "no matching peer found")
			continue
		}
		if next.IsZero() {
			t.Stop() // until somebody comes, or the timeout changes
		} else {
			t.Reset(next.Sub(now))
		}
		select {
		case <-t.C:
		case <-s.wake:
		case <-s.ctx.Done():
			return
		}
	}
}

// rouse tells expire that somebody waits.
func (s *Server) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// evict closes the lobby.
func (s *Server) evict() {
	s.mu.Lock()
	s.closed = true
	if s.shared.close != nil {
		s.shared.close()
	}
	var out []*client
	for seat := s.lobby.first; seat != nil; seat = s.lobby.first {
		s.lobby.leave(seat)
		s.unclaimLocked(seat.client)
		out = append(out, seat.client)
	}
	s.mu.Unlock()
	for _, c := range out {
		s.watcher.remove(c)
		if c.handed { // its own server takes it back
			_ = c.conn.Close()
			continue
		}
		s.answer(c, http.StatusServiceUnavailable, reasonClosed)
	}
}

// answer refuses a client that has been upgraded.
func (s *Server) answer(c *client, status int, reason string) {
	s.stats.answered(status)
	if err := refuse(c.conn.Conn, status, reason); err != nil {
		s.log().Debug("answer not delivered", "err", err)
	}
}

func clientAttrs(c *client) []any {
	return []any{"method", c.meta.Method, "token", ShortToken(c.meta.Token), "addr", c.observed}
}
