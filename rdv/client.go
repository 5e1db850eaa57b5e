package rdv

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/muster-p2p/muster/rdv/wire"
)

// Bounds of what a client reads from its server before the upgrade.
const (
	maxHead = 8 << 10 // status line and header fields
	maxBody = 1 << 10 // body of a refusal, kept for its words
)

// A Client connects to peers through a server. The zero value is ready to use;
// a Client must not be changed while in use, and may be used at once by many.
type Client struct {
	// AddrSpaces are the spaces of the addresses to tell the peer, to dial and
	// to accept from. If zero, DefaultSpaces is used; NoSpaces leaves the
	// relay only.
	AddrSpaces AddrSpace

	// Picker chooses the connection of a dialer. If nil, it is WaitForP2P of
	// one second, or six round trips to the server if that is longer, at most
	// five seconds.
	Picker Picker

	// Timeout bounds Do as a whole: resolving, reaching the server, waiting
	// for the peer, connecting. If zero, only the context does.
	Timeout time.Duration

	// ReachTimeout bounds reaching the server: its name, TCP, a proxy, TLS. If
	// zero, only Timeout and the context do.
	ReachTimeout time.Duration

	// LobbyKeepAlive is how the connection to the server is watched while this
	// side waits for the peer. If it is not enabled, as Go does by default.
	LobbyKeepAlive net.KeepAliveConfig

	// TlsConfig is used with servers at https URLs. If nil, the defaults of
	// crypto/tls are.
	TlsConfig *tls.Config //nolint:revive // the name in rdv's API

	// Proxy returns the HTTP proxy by which to reach a server, nil for none;
	// see [http.ProxyFromEnvironment]. If Proxy is nil, none is used. Behind
	// a proxy, the server observes the proxy's address.
	Proxy func(*http.Request) (*url.URL, error)

	// Logger gets debug messages of each attempt. If nil, there are none.
	// Tokens and proofs are never logged.
	Logger *slog.Logger
}

// Dial is Do with DIAL.
func (c *Client) Dial(ctx context.Context, addr, token string, header http.Header) (*Conn, *http.Response, error) {
	return c.Do(ctx, DIAL, addr, token, header)
}

// Accept is Do with ACCEPT.
func (c *Client) Accept(ctx context.Context, addr, token string, header http.Header) (*Conn, *http.Response, error) {
	return c.Do(ctx, ACCEPT, addr, token, header)
}

// Do connects to the peer that asks the server at addr, an http or https URL,
// for the same token with the other method. The token is any text that is not
// empty; it should be hard to guess, and servers may limit its length and
// letters. The header fields of header, such as Authorization, go into the
// request.
//
// The server's response is returned where there is one, with an error or
// without; its body holds at most 1 KiB and need not be closed. The error wraps
// [ErrBadHandshake] if the server refused, [ErrProtocol] if server or peer do
// not speak rdv/1, and the context's error if that ended first.
func (c *Client) Do(ctx context.Context, method, addr, token string, header http.Header) (*Conn, *http.Response, error) {
	s, err := c.newSession(method, addr, token, header)
	if err != nil {
		return nil, nil, err
	}
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	conn, resp, err := s.run(ctx)
	return conn, resp, s.explain(ctx, err)
}

// newSession checks what a caller asks for.
func (c *Client) newSession(method, addr, token string, header http.Header) (*session, error) {
	if wire.Other(method) == "" {
		return nil, fmt.Errorf("rdv: method %q is neither DIAL nor ACCEPT", method)
	}
	if token == "" {
		return nil, errors.New("rdv: the token is empty")
	}
	u, err := url.Parse(addr)
	if err != nil {
		return nil, fmt.Errorf("rdv: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, fmt.Errorf("rdv: %q is not an http or https URL", addr)
	}
	return &session{
		client: c, method: method, token: token, url: u, header: header,
		spaces: cmp.Or(c.AddrSpaces, DefaultSpaces), log: orDiscard(c.Logger),
	}, nil
}

// A session is one Do, or one Meet.
type session struct {
	client *Client
	method string
	token  string
	url    *url.URL
	header http.Header
	spaces AddrSpace
	log    *slog.Logger

	phase string        // what is being done, for the error of a time-out
	sock  *socket       // the port of all connections
	first *net.TCPConn  // to the server or proxy, below TLS
	rtt   time.Duration // to the server, or to the proxy before it
	meta  *Meta
	ext   wire.Ext // of the peer, through the server
	net   network
}

// explain puts the cause of ctx, if that has ended, in place of err: closing
// sockets is how a context ends a session.
func (s *session) explain(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && s.phase == ErrWaiting.Error() {
		return fmt.Errorf("rdv: %w: %w", ErrWaiting, context.Cause(ctx))
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("rdv: %s: %w", s.phase, context.Cause(ctx))
	}
	return err
}

func (s *session) run(ctx context.Context) (*Conn, *http.Response, error) {
	relay, resp, err := s.introduce(ctx)
	if err != nil {
		return nil, resp, err
	}
	defer s.sock.close() //nolint:errcheck // nothing is lost with a listener
	s.phase = "connect to the peer"
	conn, err := s.connect(ctx, relay)
	return conn, resp, err
}

// introduce gets as far as the server's response. Without an error, the socket
// stays open for the caller to close.
func (s *session) introduce(ctx context.Context) (relay *Conn, resp *http.Response, err error) {
	s.phase = "open a port"
	if s.spaces&NoSpaces != 0 {
		s.sock = &socket{}
	} else if s.sock, err = listenSocket(ctx); err != nil {
		return nil, nil, fmt.Errorf("rdv: %s: %w", s.phase, err)
	}
	defer func() {
		if err != nil {
			s.sock.close() //nolint:errcheck // nothing is lost with a listener
		}
	}()
	s.phase = "reach the server"
	raw, err := s.reachServer(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("rdv: %s: %w", s.phase, err)
	}
	s.phase = ErrWaiting.Error()
	relay, resp, err = s.handshake(ctx, raw)
	if err != nil {
		raw.Close() //nolint:errcheck // the handshake's error says more
	} else if s.client.LobbyKeepAlive.Enable {
		s.first.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true}) //nolint:errcheck // the peer is there
	}
	return relay, resp, err
}

// handshake sends the request on raw and waits for the upgrade.
func (s *session) handshake(ctx context.Context, raw net.Conn) (*Conn, *http.Response, error) {
	stop := context.AfterFunc(ctx, func() {
		raw.SetDeadline(time.Unix(1, 0)) //nolint:errcheck // a closed connection fails as well
	})
	defer stop()
	req, err := s.request(AddrPortFrom(raw.LocalAddr()))
	if err != nil {
		return nil, nil, err
	}
	if _, err := raw.Write(req); err != nil {
		return nil, nil, fmt.Errorf("rdv: send the request: %w", err)
	}
	head := &headLimit{r: raw, left: maxHead}
	br := bufio.NewReaderSize(head, wire.MaxLine)
	resp, err := http.ReadResponse(br, &http.Request{Method: s.method})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: read the response: %w", ErrBadHandshake, err)
	}
	head.left = -1
	if err := s.checkResponse(resp); err != nil {
		return nil, resp, err
	}
	if !stop() {
		return nil, resp, context.Cause(ctx)
	}
	s.log.DebugContext(ctx, "matched", "observed", resp.Header.Get(wire.FieldObservedAddr), "peer", s.meta.PeerAddrs, "rtt", s.rtt)
	return &Conn{Conn: raw, Meta: s.meta, IsRelay: true, br: br}, resp, nil
}

// request encodes the request. local is the address that the server is reached
// from.
func (s *session) request(local netip.AddrPort) ([]byte, error) {
	r := wire.Request{
		Method: s.method, Token: s.token,
		Host: s.url.Host, Path: s.url.EscapedPath(),
		Ext: wire.Ext{Proof: true, Prime: canPrime, Relay: s.sock.port == 0}.String(),
	}
	if s.sock.port != 0 {
		s.net = localNetwork(local)
		r.SelfAddrs = s.net.selfAddrs(s.spaces, s.sock.port)
	}
	if user := s.url.User; user != nil && s.header.Get("Authorization") == "" {
		r.Fields = append(r.Fields, wire.Field{Name: "Authorization", Value: basicAuth(user)})
	}
	for _, name := range sortedKeys(s.header) {
		for _, v := range s.header[name] {
			r.Fields = append(r.Fields, wire.Field{Name: name, Value: v})
		}
	}
	s.meta = &Meta{Method: s.method, Token: s.token, SelfAddrs: r.SelfAddrs}
	b, err := r.AppendTo(nil)
	if err != nil {
		return nil, fmt.Errorf("rdv: request: %w", err)
	}
	return b, nil
}

// checkResponse takes what the server says into s.meta and s.ext. Of a refusal
// it keeps the beginning of the body.
func (s *session) checkResponse(resp *http.Response) error {
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
		resp.Body.Close() //nolint:errcheck // its connection is closed with it
		resp.Body = io.NopCloser(bytes.NewReader(body))
		reason := strings.TrimSpace(strings.ToValidUTF8(string(body), "?"))
		if err != nil || reason == "" {
			return fmt.Errorf("%w: %s", ErrBadHandshake, resp.Status)
		}
		return fmt.Errorf("%w: %s: %q", ErrBadHandshake, resp.Status, reason)
	}
	resp.Body = http.NoBody
	if !hasToken(resp.Header["Upgrade"], wire.Protocol) {
		return fmt.Errorf("%w: the server did not upgrade to %s", ErrBadHandshake, wire.Protocol)
	}
	peers, err := wire.ParseAddrs(resp.Header[wire.FieldPeerAddrs], wire.MaxPeerAddrs)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadHandshake, err)
	}
	s.meta.PeerAddrs = peers
	if v := resp.Header.Get(wire.FieldObservedAddr); v != "" {
		observed, err := wire.ParseAddr(v)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBadHandshake, err)
		}
		s.meta.ObservedAddr = &observed
	}
	s.ext = wire.ParseExt(resp.Header.Get(wire.FieldPeerExt))
	return nil
}

// A headLimit bounds what is read from r until left is set negative.
type headLimit struct {
	r    io.Reader
	left int
}

func (h *headLimit) Read(p []byte) (int, error) {
	if h.left == 0 {
		return 0, errors.New("header is too long")
	}
	if h.left > 0 && len(p) > h.left {
		p = p[:h.left]
	}
	n, err := h.r.Read(p)
	if h.left > 0 {
		h.left -= n
	}
	return n, err
}
