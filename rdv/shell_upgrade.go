package rdv

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/muster-p2p/muster/rdv/wire"
)

// Bounds of a request, for [Server.HTTPServer].
const (
	// HeaderTimeout is how long a client may take to send its request, and an
	// idle connection is kept.
	HeaderTimeout = 5 * time.Second

	// MaxHeader bounds a request in bytes.
	MaxHeader = 8 << 10

	// MaxFields bounds the header fields of a request. They are kept while a
	// client waits, and a field of three bytes costs some 80: without it a
	// request of 8 KiB would hold 90 KiB. Browsers and proxies send some thirty.
	MaxFields = 64

	// headerSlop is what net/http adds to its MaxHeaderBytes.
	headerSlop = 4 << 10
)

// HTTPServer returns an http.Server with s as its handler and with the bounds
// that strangers call for: a request within [HeaderTimeout], of at most
// [MaxHeader] bytes, HTTP/1.1 only, since other versions have no upgrade, and
// [Server.MaxRequests] connections.
// The caller serves and closes it, and closes s after it.
func (s *Server) HTTPServer() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           s,
		ReadHeaderTimeout: HeaderTimeout,
		ReadTimeout:       HeaderTimeout,
		WriteTimeout:      HeaderTimeout,
		IdleTimeout:       HeaderTimeout,
		MaxHeaderBytes:    MaxHeader - headerSlop,
		Protocols:         &protocols,

		DisableGeneralOptionsHandler: true,

		ConnState: s.connState,
	}
}

// connState bounds the connections that are not upgraded yet. It must not
// wait: for a new connection it is called by the loop that accepts.
func (s *Server) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.mu.Lock()
		s.requests.add(c)
		limit := withDefault(s.MaxRequests, DefaultMaxRequests)
		var old net.Conn
		if (limit > 0 && s.requests.len() > limit) || (s.MaxConns > 0 && s.connsLocked() > s.MaxConns) {
			old, _ = s.requests.evict()
		}
		s.mu.Unlock()
		if old != nil {
			s.stats.evicted.Add(1)
			if t, ok := old.(interface{ NetConn() net.Conn }); ok {
				old = t.NetConn() // without the goodbye of TLS, which may take time
			}
			_ = old.Close()
		}
	case http.StateHijacked, http.StateClosed:
		s.mu.Lock()
		s.requests.remove(c)
		s.mu.Unlock()
	case http.StateActive, http.StateIdle:
	}
}

// connsLocked is how many connections there are.
func (s *Server) connsLocked() int {
	return s.requests.len() + len(s.lobby.seats) + 2*(s.pairs+s.shared.out)
}

// A refusal is the answer to a request that is not upgraded.
type refusal struct {
	status int
	err    error // of the class ErrBadHandshake
	header http.Header
}

func refused(status int, format string, args ...any) *refusal {
	return &refusal{status: status, err: fmt.Errorf("%w: "+format, append([]any{ErrBadHandshake}, args...)...)}
}

// Upgrade upgrades the request and takes the client into the lobby; it does
// not wait for its peer. It returns an [ErrBadHandshake] if the request is
// refused, [http.ErrServerClosed] if the server is closed; the client has been
// answered then:
//
//	400  method, token, addresses or framing are wrong
//	401  Access wants credentials        403  Access refuses
//	408  no peer came in time            409  the token is in use
//	426  this is no upgrade to rdv/1      431  too many header fields
//	429  too many clients wait, or guesses were made, at this address
//	503  closed, full, or Access cannot decide
func (s *Server) Upgrade(w http.ResponseWriter, r *http.Request) error {
	s.Start()
	if s.shared.pin.asks(r) {
		return s.takeIn(w)
	}
	c, no := s.admit(r)
	if no == errBody {
		// net/http would wait for the body.
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			s.stats.answered(no.status)
			refuseEarly(conn, "upgrade with a body")
			return no.err
		}
	}
	if no != nil {
		return s.decline(w, no)
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return s.decline(w, refused(http.StatusInternalServerError, "%w", err))
	}
	early := rw.Reader.Buffered()
	if err := errors.Join(conn.SetDeadline(time.Time{}), setDeadTimeout(conn, deadTimeout)); err != nil {
		_ = conn.Close()
		return fmt.Errorf("rdv: set up connection: %w", err)
	}
	if early > 0 {
		s.stats.early.Add(1)
		s.stats.answered(http.StatusBadRequest)
		refuseEarly(conn, reasonEarly)
		return fmt.Errorf("%w: data before the response", ErrBadHandshake)
	}
	c.conn.Conn = conn
	c.conn.fields = responseFields(w.Header())
	return s.enter(c)
}

// responseFields takes what the application set for the response, such as a
// cookie, into the 101; but for what is the protocol's or about a body.
func responseFields(h http.Header) []wire.Field {
	var fields []wire.Field
	for name, values := range h {
		for _, v := range values {
			f := wire.Field{Name: name, Value: v}
			if strings.HasPrefix(name, "Content-") || name == "Date" {
				continue
			}
			if _, err := (wire.Response{Fields: []wire.Field{f}}).AppendTo(nil); err == nil {
				fields = append(fields, f)
			}
		}
	}
	return fields
}

// decline answers with the refusal. The connection is not kept: whoever does
// not speak rdv/1 has no second request.
func (s *Server) decline(w http.ResponseWriter, no *refusal) error {
	s.stats.answered(no.status)
	h := w.Header()
	for k, v := range no.header {
		h[k] = v
	}
	h.Set("Connection", "close")
	if no.status == http.StatusUpgradeRequired {
		h.Add("Connection", "upgrade") // RFC 9110, section 7.8
	}
	reason := strings.TrimPrefix(no.err.Error(), ErrBadHandshake.Error()+": ")
	http.Error(w, reason, no.status)
	return no.err
}

// admit checks a request, and makes the client of one that is to be upgraded.
// The order is that of cost, and nobody learns by an answer more than who is
// let in.
func (s *Server) admit(r *http.Request) (*client, *refusal) {
	if no := checkUpgrade(r); no != nil {
		return nil, no
	}
	if fields(r.Header) > MaxFields {
		return nil, refused(http.StatusRequestHeaderFieldsTooLarge, "more than %d header fields", MaxFields)
	}
	token, no := s.checkToken(r.URL)
	if no != nil {
		return nil, no
	}
	self, err := wire.ParseAddrs(r.Header.Values(wire.FieldSelfAddrs), wire.MaxSelfAddrs)
	if err != nil {
		return nil, refused(http.StatusBadRequest, "invalid self addrs: %w", err)
	}
	observed, err := s.observe(r)
	if err != nil {
		return nil, refused(http.StatusBadRequest, "no observed addr: %w", err)
	}
	if no := s.checkAccess(r, observed.Addr()); no != nil {
		return nil, no
	}
	return newClient(r, token, self, observed), nil
}

// checkUpgrade checks the request line and the framing. An upgrade has no
// body: what a server and a proxy before it may take for one differently is
// refused (RFC 9112, section 11.2).
func checkUpgrade(r *http.Request) *refusal {
	switch {
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return upgradeRequired("upgrade needs HTTP/1.1")
	case !hasToken(r.Header.Values("Connection"), "upgrade"):
		return upgradeRequired("Connection: upgrade is missing")
	case !hasToken(r.Header.Values("Upgrade"), wire.Protocol):
		return upgradeRequired("Upgrade: " + wire.Protocol + " is missing")
	case wire.Other(r.Method) == "":
		return refused(http.StatusBadRequest, "method is neither DIAL nor ACCEPT")
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0 || len(r.Trailer) > 0 || r.Header.Get("Expect") != "":
		return errBody
	default:
		return nil
	}
}

func fields(h http.Header) (n int) {
	for _, values := range h {
		n += len(values)
	}
	return n
}

var errBody = refused(http.StatusBadRequest, "upgrade with a body")

func upgradeRequired(reason string) *refusal {
	no := refused(http.StatusUpgradeRequired, "%s", reason)
	no.header = http.Header{"Upgrade": {wire.Protocol}} // RFC 9110, section 15.5.22
	return no
}

// hasToken reports whether a list field holds a token, in any case.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for elem := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.Trim(elem, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// checkToken returns the token: what is left of the path.
func (s *Server) checkToken(u *url.URL) (string, *refusal) {
	token := strings.TrimPrefix(u.Path, "/")
	limit := withDefault(s.MaxToken, DefaultMaxToken)
	switch {
	case token == "":
		return "", refused(http.StatusBadRequest, "missing token")
	case limit > 0 && len(token) > limit:
		return "", refused(http.StatusBadRequest, "token is longer than %d bytes", limit)
	case s.AnyToken && !utf8.ValidString(token):
		return "", refused(http.StatusBadRequest, "token is not UTF-8")
	case !s.AnyToken && strings.ContainsFunc(token, func(c rune) bool { return !unreserved(c) }):
		return "", refused(http.StatusBadRequest, "token is not of letters, digits and -._~")
	default:
		return token, nil
	}
}

// unreserved reports whether c needs no escape in a URL (RFC 3986, section
// 2.3).
func unreserved(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

func (s *Server) observe(r *http.Request) (netip.AddrPort, error) {
	f := s.ObservedAddrFunc
	if f == nil {
		f = remoteAddr
	}
	a, err := f(r)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()), nil
}

// newClient keeps of a request what is of use while the client waits: neither
// its context, which ends with the HTTP exchange, nor its body.
func newClient(r *http.Request, token string, self []netip.AddrPort, observed netip.AddrPort) *client {
	c := &client{observed: observed}
	c.meta = Meta{Method: r.Method, Token: token, SelfAddrs: self, ObservedAddr: &c.observed}
	c.seat = seat[*client]{client: c, method: r.Method, token: token, source: observed.Addr()}
	c.conn.Meta = &c.meta
	c.conn.Request = &http.Request{
		Method: r.Method, URL: r.URL, Proto: r.Proto, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor,
		Header: r.Header, Body: http.NoBody, Host: r.Host, RemoteAddr: r.RemoteAddr, RequestURI: r.RequestURI,
		TLS: r.TLS, Pattern: r.Pattern,
	}
	return c
}

const reasonEarly = "received data before the response"

// refuseEarly answers a client that sent data before it had its response. A
// connection that is closed with data unread is reset, which can take the
// answer away from the client: so what comes is read for a moment.
func refuseEarly(c net.Conn, reason string) {
	const (
		linger = 500 * time.Millisecond
		most   = 64 << 10
	)
	defer func() { _ = c.Close() }()
	if refuseOpen(c, http.StatusBadRequest, reason) != nil {
		return
	}
	if closeWrite(c) == nil && c.SetReadDeadline(time.Now().Add(linger)) == nil {
		_, _ = io.CopyN(io.Discard, c, most)
	}
}

// ShortToken names a token in a log, by six hexadecimal digits of its hash:
// enough to tell two apart, and too little to use one.
func ShortToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:3])
}

// retryAfter is for who may come again after a while.
func retryAfter(d time.Duration) http.Header {
	return http.Header{"Retry-After": {strconv.Itoa(int(max(1, (d+time.Second-1)/time.Second)))}}
}
