// Package ticket holds all that one peer needs to call another as one line of
// text, short enough for a chat, a QR code or the telephone.
//
//	muster1 aeqn4vq… (lower-case base32 without padding, RFC 4648)
//	│       └ flags ‖ peer ‖ token ‖ servers ‖ checksum
//	└ "muster" and the version of the layout
//
//	flags     1 byte: bit 0 the peer ID is whole, bit 1 the token is packed,
//	          bits 2–3 the number of servers less one, bits 4–7 server i is http
//	peer      32 bytes of an Ed25519 key; else length (1 byte), peer ID
//	token     length (1 byte, in characters), text or, packed, 5 bits a character
//	server    length (1 byte: bit 7 packed, the rest in characters), the URL behind
//	          "://" as text or, packed, 3 characters of a–z 0–9 - . : in 2 bytes
//	checksum  4 bytes: CRC-32C of all the bytes before, big endian
//
// A ticket is a secret as long as its token is good for something: who has it
// may call. It says whom to expect, so a caller with a ticket cannot be led to
// another peer. The checksum is there for slips of the hand, and proves
// nothing about who wrote the ticket.
//
// Start with [Parse] and [Ticket.Encode]. Both are pure and may be called
// from any goroutine. docs/spec/ticket.md has the layout with its reasons.
package ticket

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Bounds of a ticket.
const (
	// MaxText is the longest ticket, in characters: two lines of a terminal, and
	// an SMS. With a QR code's alphanumeric mode it is a code of version 6.
	MaxText = 160

	// MaxServers is how many servers a ticket names at most: as many as a link
	// asks at once.
	MaxServers = 4

	// MinToken is the shortest token, in characters: 128 bits in base64url. The
	// token is what keeps strangers out, so a shorter one is a mistake.
	MinToken = 22
)

// A Ticket says whom to call, where to meet, and under which token. The zero
// Ticket is not valid.
type Ticket struct {
	// Peer is who must be at the other end.
	Peer peer.ID

	// Servers are the http or https URLs of rdv servers where Peer waits, at
	// least one and at most MaxServers; the first should be the best. They have
	// neither user information nor a query nor a fragment.
	Servers []string

	// Token is the rdv token under which Peer waits: at least MinToken
	// unreserved characters of RFC 3986, section 2.3.
	Token string
}

// String returns the text of a valid ticket, and an empty string of one that
// [Ticket.Encode] refuses.
func (t Ticket) String() string {
	s, err := t.Encode()
	if err != nil {
		return ""
	}
	return s
}

// Encode returns the text of t: equal tickets have equal text. It returns an
// error that names the field at fault, or, wrapping [ErrTooLong], the longest
// part of a ticket of more than [MaxText] characters.
func (t Ticket) Encode() (string, error) {
	if err := t.validate(); err != nil {
		return "", err
	}
	b, err := t.appendBinary(nil)
	if err != nil {
		return "", err
	}
	return encodeText(b), nil
}

// Upper returns the text of t in capitals, which a QR code stores in 5.5 bits
// a character instead of 8. [Parse] reads it all the same.
func (t Ticket) Upper() string { return strings.ToUpper(t.String()) }

// validate reports why t cannot be a ticket.
func (t Ticket) validate() error {
	if err := t.Peer.Validate(); err != nil {
		return fmt.Errorf("ticket: peer: %w", err)
	}
	if _, err := peer.IDFromBytes([]byte(t.Peer)); err != nil {
		return fmt.Errorf("ticket: peer: %w", err)
	}
	if err := checkToken(t.Token); err != nil {
		return err
	}
	if n := len(t.Servers); n == 0 || n > MaxServers {
		return fmt.Errorf("ticket: %d servers, want 1 to %d", n, MaxServers)
	}
	for _, s := range t.Servers {
		if err := checkServer(s); err != nil {
			return err
		}
	}
	return nil
}

func checkToken(token string) error {
	if len(token) < MinToken {
		return fmt.Errorf("ticket: a token of %d characters can be guessed, want %d or more", len(token), MinToken)
	}
	for _, c := range []byte(token) {
		if !unreserved(c) {
			return fmt.Errorf("ticket: token has %q, want letters, digits and -._~ only", c)
		}
	}
	return nil
}

// unreserved reports whether c needs no escape in a URL (RFC 3986, section 2.3).
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// checkServer refuses a URL that a client of rdv would not take, or that
// carries what a ticket should not: a password, a query.
func checkServer(server string) error {
	for _, c := range []byte(server) {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("ticket: server %q has characters that a URL has not", server)
		}
	}
	u, err := url.Parse(server)
	if err != nil {
		return fmt.Errorf("ticket: server: %w", err)
	}
	scheme, _, _ := strings.Cut(server, "://")
	switch {
	case (scheme != schemeHTTP && scheme != schemeHTTPS) || u.Hostname() == "":
		return fmt.Errorf("ticket: server %q is not an http or https URL", server)
	case u.User != nil || strings.ContainsAny(server, "?#@"):
		return fmt.Errorf("ticket: server %q has a user name, a query or a fragment", server)
	}
	return nil
}
