package rdv

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"

	"github.com/muster-p2p/muster/rdv/wire"
)

// Methods of a request: one peer of a pair dials, the other accepts.
const (
	DIAL   = wire.Dial
	ACCEPT = wire.Accept
)

var (
	// ErrBadHandshake is returned by client and server when the HTTP upgrade
	// failed. The client returns the response beside it where there is one.
	ErrBadHandshake = errors.New("rdv: bad http handshake")

	// ErrProtocol is returned when what comes after the upgrade is not rdv/1.
	ErrProtocol = errors.New("rdv: protocol error")

	// ErrWaiting is wrapped in the error of a client whose time was up while it
	// waited in the server's lobby: nothing went wrong, but nobody came.
	ErrWaiting = errors.New("wait for the peer")
)

// ErrOther is what a server sees of a pair that needs no relay: the intended
// outcome, but the end of the connection for a handler that expected data.
type ErrOther struct {
	// Addr is the peer's address on the direct connection, as the dialer
	// reports it.
	Addr netip.AddrPort
}

func (e ErrOther) Error() string { return "rdv: peers connected directly at " + e.Addr.String() }

// Meta is what the handshake between a client and a server said.
type Meta struct {
	// Of the request. Method is DIAL or ACCEPT.
	Method, Token string
	SelfAddrs     []netip.AddrPort

	// Of the response. ObservedAddr is the client's address as the server
	// sees it, nil where the server did not say.
	ObservedAddr *netip.AddrPort
	PeerAddrs    []netip.AddrPort
}

// A Conn is a connection to the peer, direct or relayed; on a server, one to a
// client. Its methods may be called as those of any [net.Conn]. It is not
// encrypted unless the path is a relay behind TLS, and then only to the relay.
type Conn struct {
	net.Conn

	// Meta is never nil.
	*Meta

	// IsRelay reports whether the server relays this connection. Client only.
	IsRelay bool

	// Request is the client's upgrade request. Server only; read-only.
	Request *http.Request

	fields []wire.Field // the application's, for the response; server only

	br *bufio.Reader // holds what was read ahead; nil once it is drained
}

// Read reads data into p. What was read ahead with the handshake comes first.
func (c *Conn) Read(p []byte) (int, error) {
	if c.br != nil {
		if c.br.Buffered() > 0 {
			return c.br.Read(p)
		}
		c.br = nil
	}
	return c.Conn.Read(p)
}

// CloseWrite ends this direction only: the peer reads an end of file, and what
// it still sends arrives. It returns [errors.ErrUnsupported] if the connection
// below cannot do that.
func (c *Conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

// WriteTo copies what the peer sends to w until the end of file, in the kernel
// where it can.
func (c *Conn) WriteTo(w io.Writer) (n int64, err error) {
	if c.br != nil {
		ahead, _ := c.br.Peek(c.br.Buffered())
		m, err := w.Write(ahead)
		n = int64(m)
		if err != nil {
			_, discardErr := c.br.Discard(m)
			return n, errors.Join(err, discardErr)
		}
		c.br = nil
	}
	m, err := io.Copy(w, c.Conn)
	return n + m, err
}

// ReadFrom copies r to the peer until the end of r, in the kernel where it can.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// AddrPortFrom returns the address of a TCP or UDP addr, and the zero value
// for any other. Unlike [net.TCPAddr.AddrPort] it unmaps IPv4-mapped addresses
// (https://go.dev/issue/53607).
func AddrPortFrom(addr net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := addr.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	default:
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
