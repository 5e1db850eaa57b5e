// Package wire holds the bytes of rdv/1, the protocol of relay-assisted TCP
// hole punching, as values: parse from a slice, append to a slice, no I/O.
//
// A client asks the server for a peer with an HTTP/1.1 upgrade, and keeps the
// connection as its relay:
//
//	DIAL /<token> HTTP/1.1              or ACCEPT; the token is path-escaped
//	Host: <host>
//	Connection: upgrade
//	Upgrade: rdv/1
//	Rdv-Self-Addrs: <ip:port>, …        at most 9
//	Rdv-Ext: <extensions>               ours; others ignore it
//
// When both peers are there, the server answers both:
//
//	HTTP/1.1 101 Switching Protocols
//	Connection: upgrade
//	Upgrade: rdv/1
//	Rdv-Observed-Addr: <ip:port>        the client as the server sees it
//	Rdv-Peer-Addrs: <ip:port>, …        at most 10
//	Rdv-Peer-Ext: <extensions>          only if both peers sent Rdv-Ext
//
// On a direct connection each side writes one [Hello] at once, and on the
// connection that it picks the dialer writes a [Command]:
//
//	rdv/1 DIAL <token>\n                what a dialer writes
//	rdv/1 ACCEPT <token>\n              what an acceptor writes
//	CONTINUE\n                          the dialer picked this connection
//	OTHER <ip:port>\n                   on the relay: it picked that one
//
// The layouts are those of the README of rdv v0.0.6,
// https://github.com/betamos/rdv; docs/spec/rdv.md says what muster adds.
package wire

import "errors"

// Methods of a request and of a [Hello].
const (
	Dial   = "DIAL"
	Accept = "ACCEPT"
)

// Names of the protocol and of its header fields.
const (
	Protocol = "rdv/1"

	FieldSelfAddrs    = "Rdv-Self-Addrs"
	FieldObservedAddr = "Rdv-Observed-Addr"
	FieldPeerAddrs    = "Rdv-Peer-Addrs"
	FieldExt          = "Rdv-Ext"
	FieldPeerExt      = "Rdv-Peer-Ext"
)

// Bounds of what is read from a stranger.
const (
	// MaxSelfAddrs bounds Rdv-Self-Addrs: v0.0.6 servers refuse more.
	MaxSelfAddrs = 9

	// MaxPeerAddrs bounds Rdv-Peer-Addrs: the peer's own and the observed one.
	MaxPeerAddrs = MaxSelfAddrs + 1

	// MaxLine bounds a Hello or a Command, with its line feed. It is the
	// buffer that v0.0.6 reads them with.
	MaxLine = 4096

	// maxAddr is the longest text of an address and port.
	maxAddr = len("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255%") + 16 + len("]:65535")
)

// Errors of the parsers. What they refuse, the encoders never write.
var (
	ErrLine   = errors.New("rdv/wire: malformed line")
	ErrMethod = errors.New("rdv/wire: method is neither DIAL nor ACCEPT")
	ErrToken  = errors.New("rdv/wire: malformed token")
	ErrAddr   = errors.New("rdv/wire: malformed address")
	ErrAddrs  = errors.New("rdv/wire: too many addresses")
	ErrField  = errors.New("rdv/wire: malformed header field")
)

// Other returns the method of the peer of a client with method m, and the
// empty string if m is neither DIAL nor ACCEPT.
func Other(m string) string {
	switch m {
	case Dial:
		return Accept
	case Accept:
		return Dial
	default:
		return ""
	}
}
