package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
)

// ErrHandOver is returned for a HandOver that is malformed or too large.
var ErrHandOver = errors.New("rdv/wire: malformed hand-over")

// HandOverProtocol is the protocol that a server of a lobby asks another one
// to upgrade to, to hand a client over.
const HandOverProtocol = "muster-handover/1"

// MaxHandOver bounds a HandOver in bytes: a request is of at most 12 KiB, the
// rest is for what an application adds to the response.
const MaxHandOver = 1<<16 - 1

// Check is the method of a HandOver that hands nobody over: it asks who is
// there.
const Check = "CHECK"

// Aside is the method of a HandOver that hands nobody over either: what
// follows is between the applications of the two servers.
const Aside = "ASIDE"

// What a server says to a HandOver, in one byte. After HandOverTaken the
// connection is the client's. To Aside it says nothing.
const (
	HandOverTaken  = 'T' // the client is with the server that was asked
	HandOverNobody = 'N' // nobody waits there with that token
	HandOverSelf   = 'S' // to Check: SelfLen bytes follow, which name the server
)

// SelfLen is how many bytes name a running server.
const SelfLen = 16

// A HandOver is a client, as one server of a lobby tells another of it:
//
//	2 bytes  length of what follows
//	strings  method, token, observed address, self addresses,
//	         host, URL, request URI, remote address
//	fields   of the request
//	fields   for the response
//
// A string is its length, a uvarint, and its bytes. Fields are their number, a
// uvarint, and for each of them two strings. Addresses are in the form of
// their header fields, empty if there are none.
type HandOver struct {
	Method, Token string
	Observed      netip.AddrPort // zero if it is not known
	SelfAddrs     []netip.AddrPort

	Host, URL, RequestURI, RemoteAddr string

	Header, Response []Field
}

// AppendTo appends h to b. It returns [ErrHandOver] if h is too large.
func (h HandOver) AppendTo(b []byte) ([]byte, error) {
	start := len(b)
	b = append(b, 0, 0)
	var observed []netip.AddrPort
	if h.Observed.IsValid() {
		observed = append(observed, h.Observed)
	}
	b = appendString(appendString(b, h.Method), h.Token)
	b = appendString(b, string(AppendAddrs(nil, observed)))
	b = appendString(b, string(AppendAddrs(nil, h.SelfAddrs)))
	for _, s := range [...]string{h.Host, h.URL, h.RequestURI, h.RemoteAddr} {
		b = appendString(b, s)
	}
	b = appendPairs(appendPairs(b, h.Header), h.Response)
	n := len(b) - start - 2
	if n > MaxHandOver {
		return b[:start], ErrHandOver
	}
	binary.BigEndian.PutUint16(b[start:], uint16(n))
	return b, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendPairs(b []byte, fields []Field) []byte {
	b = binary.AppendUvarint(b, uint64(len(fields)))
	for _, f := range fields {
		b = appendString(appendString(b, f.Name), f.Value)
	}
	return b
}

// ParseHandOver parses a whole HandOver, its length included.
func ParseHandOver(b []byte) (HandOver, error) {
	if len(b) < 2 || int(binary.BigEndian.Uint16(b)) != len(b)-2 {
		return HandOver{}, ErrHandOver
	}
	c := cursor{b: b[2:]}
	h := HandOver{Method: c.str(), Token: c.str()}
	observed, self := c.str(), c.str()
	h.Host, h.URL, h.RequestURI, h.RemoteAddr = c.str(), c.str(), c.str(), c.str()
	h.Header, h.Response = c.pairs(), c.pairs()
	if c.bad || len(c.b) > 0 || (Other(h.Method) == "" && h.Method != Check && h.Method != Aside) {
		return HandOver{}, ErrHandOver
	}
	seen, err := ParseAddrs([]string{observed}, 1)
	if err == nil && len(seen) == 1 {
		h.Observed = seen[0]
	}
	if err == nil {
		h.SelfAddrs, err = ParseAddrs([]string{self}, MaxSelfAddrs)
	}
	if err != nil {
		return HandOver{}, err
	}
	// One form for each value: what we would write differently we do not take.
	if again, err := h.AppendTo(nil); err != nil || !bytes.Equal(again, b) {
		return HandOver{}, ErrHandOver
	}
	return h, nil
}

// A cursor takes values from the front of b. Once it is bad it stays so.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) str() string {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return ""
	}
	s := string(c.b[:n])
	c.b = c.b[n:]
	return s
}

// pairs takes fields, each of which has two bytes at least.
func (c *cursor) pairs() []Field {
	n := c.uvarint()
	if n > uint64(len(c.b))/2 {
		c.bad, c.b = true, nil
		return nil
	}
	var fields []Field
	for range n {
		fields = append(fields, Field{Name: c.str(), Value: c.str()})
	}
	return fields
}
