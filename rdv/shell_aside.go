package rdv

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/muster-p2p/muster/rdv/wire"
)

// ErrAlone is returned by [Server.DialAside] if the server shares no lobby.
var ErrAlone = errors.New("rdv: the server shares no lobby")

// DialAside connects to another server of the lobby, by its hand-over URL, and
// is sure that it is one: what is written to the connection gets to its Aside,
// and nobody else can read it. Ctx bounds the dial only.
func (s *Server) DialAside(ctx context.Context, to string) (net.Conn, error) {
	s.Start()
	if s.shared.pin == nil {
		return nil, ErrAlone
	}
	frame, err := wire.HandOver{Method: wire.Aside}.AppendTo(nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	x, err := s.dialPoint(ctx, to)
	if err != nil {
		return nil, err
	}
	if _, err := x.Write(frame); err != nil { // within the deadline of the dial
		_ = x.Close()
		return nil, fmt.Errorf("rdv: dial aside: %w", err)
	}
	return x, x.SetDeadline(time.Time{})
}

// serveAside hands a connection of another server to the application.
func (s *Server) serveAside(x *tls.Conn) error {
	s.mu.Lock()
	if s.closed || s.Aside == nil {
		s.mu.Unlock()
		_ = x.Close()
		return http.ErrServerClosed
	}
	s.handlers.Add(1) // under mu, so never after the Wait of Close
	s.mu.Unlock()
	go func() {
		defer s.handlers.Done()
		defer func() {
			if v := recover(); v != nil {
				s.stats.panics.Add(1)
				s.log().Error("BUG: panic while serving another server", "panic", v)
				_ = x.Close()
			}
		}()
		s.Aside(s.ctx, x)
	}()
	return nil
}
