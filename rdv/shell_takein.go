package rdv

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/muster-p2p/muster/rdv/wire"
)

// maxTaking bounds the hand-overs that begin here at a time. Only servers of
// the lobby get this far, and each takes a few milliseconds.
const maxTaking = 256

// takeIn takes a client from another server of the lobby, by the request that
// asks for the upgrade to that.
func (s *Server) takeIn(w http.ResponseWriter) error {
	select {
	case s.shared.taking <- struct{}{}:
		defer func() { <-s.shared.taking }()
	default:
		return s.decline(w, refused(http.StatusServiceUnavailable, "too many clients are handed over"))
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return s.decline(w, refused(http.StatusInternalServerError, "%w", err))
	}
	if rw.Reader.Buffered() > 0 {
		_ = conn.Close()
		return fmt.Errorf("%w: data before the response", ErrBadHandshake)
	}
	x, h, err := s.receive(conn)
	if err != nil {
		s.stats.handOvers[handOverRefused].Add(1)
		_ = conn.Close()
		return fmt.Errorf("rdv: take client over: %w", err)
	}
	if h.Method == wire.Aside {
		return s.serveAside(x)
	}
	if h.Method == wire.Check {
		_, err := x.Write(append([]byte{wire.HandOverSelf}, s.shared.pin.self[:]...))
		_ = x.Close()
		return err
	}
	return s.takeClient(x, h)
}

// receive secures the connection and reads who comes.
func (s *Server) receive(conn net.Conn) (*tls.Conn, wire.HandOver, error) {
	ctx, cancel := context.WithTimeout(s.ctx, handOverTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, wire.HandOver{}, err
	}
	if err := setDeadTimeout(conn, deadTimeout); err != nil {
		return nil, wire.HandOver{}, err
	}
	_, err := fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: %s\r\n\r\n", wire.HandOverProtocol)
	if err != nil {
		return nil, wire.HandOver{}, err
	}
	x := tls.Server(conn, s.shared.pin.tls)
	if err := x.HandshakeContext(ctx); err != nil {
		return nil, wire.HandOver{}, err
	}
	b := make([]byte, 2)
	if _, err := io.ReadFull(x, b); err != nil {
		return nil, wire.HandOver{}, err
	}
	b = append(b, make([]byte, binary.BigEndian.Uint16(b))...)
	if _, err := io.ReadFull(x, b[2:]); err != nil {
		return nil, wire.HandOver{}, err
	}
	h, err := wire.ParseHandOver(b)
	if err != nil {
		return nil, wire.HandOver{}, err
	}
	return x, h, x.SetDeadline(time.Time{})
}

// takeClient lets a client in that another server has admitted.
func (s *Server) takeClient(x *tls.Conn, h wire.HandOver) error {
	c, err := handedClient(x, h)
	if err != nil {
		_ = x.Close()
		return err
	}
	v, other, err := s.decide(c)
	answer := byte(wire.HandOverTaken)
	if err != nil || v == absent {
		answer = wire.HandOverNobody
		s.stats.handOvers[handOverRefused].Add(1)
	} else {
		s.stats.handOvers[handOverIn].Add(1)
	}
	// An error shows where the connection is used next.
	_ = x.SetWriteDeadline(time.Now().Add(handOverTimeout))
	_, _ = x.Write([]byte{answer})
	_ = x.SetWriteDeadline(time.Time{})
	if answer == wire.HandOverNobody {
		_ = x.Close()
		return err
	}
	return s.act(c, v, other, err)
}

// handedClient is the client of a description. Its connection is that to the
// other server.
func handedClient(x *tls.Conn, h wire.HandOver) (*client, error) {
	u, err := url.Parse(h.URL)
	if err != nil {
		return nil, fmt.Errorf("rdv: client's URL: %w", err)
	}
	r := &http.Request{
		Method: h.Method, URL: u, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header), Host: h.Host, RemoteAddr: h.RemoteAddr, RequestURI: h.RequestURI,
	}
	for _, f := range h.Header {
		r.Header[f.Name] = append(r.Header[f.Name], f.Value)
	}
	c := newClient(r, h.Token, h.SelfAddrs, h.Observed)
	c.handed = true
	c.conn.Conn = x
	c.conn.fields = h.Response
	return c, nil
}

// CheckHandOver reports whether this server's own hand-over URL leads to it
// from here: an address that leads to another server, such as that of a load
// balancer, would make peers miss each other. It returns nil if the server has
// no Directory.
func (s *Server) CheckHandOver(ctx context.Context, own string) error {
	s.Start()
	if s.shared.pin == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	frame, err := wire.HandOver{Method: wire.Check}.AppendTo(nil)
	if err != nil {
		return err
	}
	x, err := s.dialPoint(ctx, own)
	if err != nil {
		return err
	}
	defer func() { _ = x.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = x.NetConn().Close() })
	defer stop()
	verdict, err := introduceTo(ctx, x, frame)
	if err != nil {
		return err
	}
	var self [wire.SelfLen]byte
	if _, err := io.ReadFull(x, self[:]); err != nil {
		return fmt.Errorf("rdv: check hand-over: %w", err)
	}
	if verdict != wire.HandOverSelf || self != s.shared.pin.self {
		return fmt.Errorf("rdv: %s leads to another server of the lobby", own)
	}
	return nil
}
