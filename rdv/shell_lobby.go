package rdv

import (
	"context"
	"fmt"
	"log/slog"
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
}

// enter takes a client that has been upgraded into the lobby, and out again
// with its peer if that is there. It owns the connection from here on.
func (s *Server) enter(c *client) error {
	now := time.Now()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.answer(c, http.StatusServiceUnavailable, reasonClosed)
		return http.ErrServerClosed
	}
	alone := s.lobby.first == nil
	v, other := s.lobby.join(now, &c.seat)
	if v == seated && s.MaxConns > 0 && len(s.lobby.seats)+2*s.pairs > s.MaxConns-s.MaxConns/connsForRequests {
		s.lobby.leave(&c.seat)
		v = lobbyFull
	}
	var err error
	switch v {
	case seated, replaced:
		if err = s.watcher.add(c); err != nil {
			s.lobby.leave(&c.seat)
		}
	case matched:
		if limit := max(0, s.MaxPairs); limit > 0 && s.pairs >= limit {
			v = pairsFull
			break
		}
		s.pairs++
		s.handlers.Add(1) // under mu, so never after the Wait of Close
	case occupied, sourceFull, lobbyFull, pairsFull:
	}
	s.mu.Unlock()

	s.stats.verdicts[v].Add(1)
	if err != nil {
		s.answer(c, http.StatusServiceUnavailable, "out of resources")
		return fmt.Errorf("rdv: watch client: %w", err)
	}
	switch v {
	case seated:
		if alone {
			s.rouse()
		}
	case matched:
		s.watcher.remove(other.client)
		s.introduce(other.client, c)
	case replaced:
		s.watcher.remove(other.client)
		s.answer(other.client, http.StatusConflict, "replaced by another conn")
	case pairsFull:
		s.watcher.remove(other.client)
		s.answer(other.client, http.StatusServiceUnavailable, reasonPairs)
		s.answer(c, http.StatusServiceUnavailable, reasonPairs)
	case occupied:
		s.answer(c, http.StatusConflict, "token is in use")
	case sourceFull:
		s.answer(c, http.StatusTooManyRequests, "too many clients wait at this address")
	case lobbyFull:
		s.answer(c, http.StatusServiceUnavailable, "lobby is full")
	}
	switch v {
	case seated, matched, replaced:
		s.log().LogAttrs(s.ctx, slog.LevelDebug, "client "+v.String(), clientAttrs(c)...)
		return nil
	default:
		return fmt.Errorf("%w: %v", ErrBadHandshake, v)
	}
}

// connsForRequests is the part of MaxConns that only requests may have.
const connsForRequests = 8

const (
	reasonClosed = "server is shutting down"
	reasonPairs  = "too many pairs"
)

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
	s.log().LogAttrs(context.Background(), slog.LevelError, "handler panicked", slog.Any("panic", p))
}

// disturbed is called by the watcher, once at most, when a client that waits
// has left or has sent what it should not yet.
func (s *Server) disturbed(c *client, early bool) {
	s.mu.Lock()
	waited := s.lobby.leave(&c.seat)
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
		s.log().LogAttrs(s.ctx, slog.LevelDebug, "client gone", clientAttrs(c)...)
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
		s.mu.Unlock()
		if late != nil {
			s.stats.expired.Add(1)
			s.watcher.remove(late.client)
			s.answer(late.client, http.StatusRequestTimeout, "no matching peer found")
			continue
		}
		wait := s.lobby.timeout
		if !next.IsZero() {
			wait = next.Sub(now)
		}
		t.Reset(wait)
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
	var out []*client
	for seat := s.lobby.first; seat != nil; seat = s.lobby.first {
		s.lobby.leave(seat)
		out = append(out, seat.client)
	}
	s.mu.Unlock()
	for _, c := range out {
		s.watcher.remove(c)
		s.answer(c, http.StatusServiceUnavailable, reasonClosed)
	}
}

// answer refuses a client that has been upgraded.
func (s *Server) answer(c *client, status int, reason string) {
	s.stats.answered(status)
	if err := refuse(c.conn.Conn, status, reason); err != nil {
		s.log().LogAttrs(s.ctx, slog.LevelDebug, "answer not delivered", slog.Any("err", err))
	}
}

func clientAttrs(c *client) []slog.Attr {
	return []slog.Attr{
		slog.String("method", c.meta.Method),
		slog.String("token", ShortToken(c.meta.Token)),
		slog.String("addr", c.observed.String()),
	}
}
