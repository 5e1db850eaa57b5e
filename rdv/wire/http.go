package wire

import (
	"net/netip"
	"net/url"
	"strings"
)

// A Field is one header field of the application, such as Authorization.
type Field struct{ Name, Value string }

// A Request is what a client sends to the server.
type Request struct {
	Method    string // Dial or Accept
	Host      string // host[:port] of the server
	Path      string // escaped path under which the server is mounted, "" or "/…"
	Token     string // not empty
	SelfAddrs []netip.AddrPort
	Ext       string // Rdv-Ext, or empty
	Fields    []Field
}

// AppendTo appends the request to b, to be written in one piece. It returns
// [ErrMethod], [ErrToken], [ErrAddrs] or [ErrField] for what must not be sent.
func (r Request) AppendTo(b []byte) ([]byte, error) {
	switch {
	case Other(r.Method) == "":
		return b, ErrMethod
	case r.Token == "":
		return b, ErrToken
	case len(r.SelfAddrs) > MaxSelfAddrs:
		return b, ErrAddrs
	case strings.ContainsAny(r.Path, " \r\n\t?#"):
		return b, ErrField
	}
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, strings.TrimSuffix(r.Path, "/")...)
	b = append(b, '/')
	b = append(b, url.PathEscape(r.Token)...)
	b = append(b, " HTTP/1.1\r\n"...)
	own := []Field{{"Host", r.Host}, {"Connection", "upgrade"}, {"Upgrade", Protocol}}
	if len(r.SelfAddrs) > 0 {
		own = append(own, Field{FieldSelfAddrs, string(AppendAddrs(nil, r.SelfAddrs))})
	}
	if r.Ext != "" {
		own = append(own, Field{FieldExt, r.Ext})
	}
	return appendFields(b, own, r.Fields)
}

// A Response is the server's 101.
type Response struct {
	Observed  netip.AddrPort // zero if it is not known
	PeerAddrs []netip.AddrPort
	PeerExt   string // Rdv-Peer-Ext, or empty
	Fields    []Field
}

// AppendTo appends the response to b, to be written in one piece: split into
// its lines it overruns TCP's initial window and arrives a round trip late.
// It returns [ErrAddrs] or [ErrField] for what must not be sent.
func (r Response) AppendTo(b []byte) ([]byte, error) {
	if len(r.PeerAddrs) > MaxPeerAddrs {
		return b, ErrAddrs
	}
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\n"...)
	own := []Field{{"Connection", "upgrade"}, {"Upgrade", Protocol}}
	if r.Observed.IsValid() {
		own = append(own, Field{FieldObservedAddr, r.Observed.String()})
	}
	own = append(own, Field{FieldPeerAddrs, string(AppendAddrs(nil, r.PeerAddrs))})
	if r.PeerExt != "" {
		own = append(own, Field{FieldPeerExt, r.PeerExt})
	}
	return appendFields(b, own, r.Fields)
}

// appendFields appends the protocol's own fields, the application's, and the
// empty line. The application cannot set a field of the protocol.
func appendFields(b []byte, own, app []Field) ([]byte, error) {
	for _, f := range own {
		if !validValue(f.Value) {
			return b, ErrField
		}
		b = appendField(b, f)
	}
	for _, f := range app {
		if !validName(f.Name) || !validValue(f.Value) || reserved(f.Name) {
			return b, ErrField
		}
		b = appendField(b, f)
	}
	return append(b, "\r\n"...), nil
}

func appendField(b []byte, f Field) []byte {
	b = append(b, f.Name...)
	b = append(b, ": "...)
	b = append(b, f.Value...)
	return append(b, "\r\n"...)
}

// reserved reports whether name is the protocol's, or would change how the
// message is framed.
func reserved(name string) bool {
	for _, n := range [...]string{
		"Host", "Connection", "Upgrade", "Content-Length", "Transfer-Encoding", "Trailer", "Expect",
		FieldSelfAddrs, FieldObservedAddr, FieldPeerAddrs, FieldExt, FieldPeerExt,
	} {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// validName reports whether s is a token of RFC 9110, section 5.6.2.
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return s != ""
}

// validValue reports whether s is a field value of RFC 9110, section 5.5:
// no control byte but the tab.
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < ' ' && c != '\t') || c == 0x7f {
			return false
		}
	}
	return true
}
