package wire

import (
	"net/netip"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/muster-p2p/muster/internal/protoskip"
)

// Parse reads one message without its length into m, which it resets. Nothing
// of b is kept. Unknown fields and unknown kinds and statuses are passed over or
// kept as they are: a later version may add them. Of a field that is there more
// than once the last counts, as everywhere in protobuf. An error wraps
// [ErrMalformed].
func Parse(b []byte, m *Message) error {
	*m = Message{}
	if len(b) > MaxMessage {
		return malformed("too long")
	}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return malformed("field tag")
		}
		b = b[n:]
		n, err := m.field(num, typ, b)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	if m.Kind == 0 {
		return malformed("no kind")
	}
	return nil
}

// field reads one field's value and returns how long it is.
func (m *Message) field(num protowire.Number, typ protowire.Type, b []byte) (int, error) {
	switch num {
	case fieldKind, fieldStatus, fieldNumber:
		v, n := protowire.ConsumeVarint(b)
		if typ != protowire.VarintType || n < 0 {
			return 0, malformed("number")
		}
		return n, m.setNumber(num, v)
	case fieldCall, fieldPeer, fieldService, fieldAccess, fieldText, fieldToken, fieldBearer, fieldServers, fieldCaller, fieldSource:
		v, n := protowire.ConsumeBytes(b)
		if typ != protowire.BytesType || n < 0 {
			return 0, malformed("bytes")
		}
		return n, m.setBytes(num, v)
	default:
		n := protoskip.Value(num, typ, b)
		if n < 0 {
			return 0, malformed("field value")
		}
		return n, nil
	}
}

func (m *Message) setNumber(num protowire.Number, v uint64) error {
	const most = 0xff // of kinds and statuses, known or not
	if num == fieldNumber {
		m.Number = v
		return nil
	}
	if v > most {
		return malformed("enumeration")
	}
	if num == fieldKind {
		m.Kind = Kind(v)
	} else {
		m.Status = Status(v)
	}
	return nil
}

func (m *Message) setBytes(num protowire.Number, v []byte) error {
	switch num {
	case fieldCall:
		if len(v) != CallSize {
			return malformed("call")
		}
		m.Call = [CallSize]byte(v)
		return nil
	case fieldPeer:
		return setPeer(&m.Peer, v)
	case fieldCaller:
		return setPeer(&m.Caller, v)
	case fieldSource:
		return m.setSource(v)
	case fieldServers:
		if len(m.Servers) == MaxServers || len(v) > MaxServer || !graphic(v) {
			return malformed("servers")
		}
		m.Servers = append(m.Servers, string(v))
		return nil
	default:
		return m.setString(num, v)
	}
}

func (m *Message) setSource(v []byte) error {
	m.Source = netip.Addr{}
	if len(v) == 0 {
		return nil
	}
	a, ok := netip.AddrFromSlice(v)
	if !ok {
		return malformed("source")
	}
	m.Source = a
	return nil
}

func setPeer(to *peer.ID, v []byte) error {
	if len(v) > MaxPeer {
		return malformed("peer")
	}
	if len(v) == 0 {
		*to = ""
		return nil
	}
	id, err := peer.IDFromBytes(v)
	if err != nil {
		return malformed("peer")
	}
	*to = id
	return nil
}

func (m *Message) setString(num protowire.Number, v []byte) error {
	var s *string
	var most int
	var ok func([]byte) bool
	switch num {
	case fieldService:
		s, most, ok = &m.Service, MaxService, serviceBytes
	case fieldAccess:
		s, most, ok = &m.Access, MaxAccess, graphic
	case fieldText:
		s, most, ok = &m.Text, MaxText, utf8.Valid
	case fieldToken:
		s, most, ok = &m.Token, MaxToken, unreserved
	default:
		s, most, ok = &m.Bearer, MaxBearer, graphic
	}
	if len(v) > most || !ok(v) {
		return malformed("text")
	}
	*s = string(v)
	return nil
}

// graphic reports whether b is of visible ASCII characters.
func graphic(b []byte) bool { return all(b, func(c byte) bool { return c > ' ' && c < 0x7f }) }

// unreserved reports whether b is of the characters that rdv servers take in a
// token: https://www.rfc-editor.org/rfc/rfc3986#section-2.3
func unreserved(b []byte) bool {
	return all(b, func(c byte) bool { return alphanumeric(c) || c == '-' || c == '.' || c == '_' || c == '~' })
}

func serviceBytes(b []byte) bool {
	return all(b, func(c byte) bool { return alphanumeric(c) || c == '-' || c == '.' || c == '_' })
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func all(b []byte, ok func(byte) bool) bool {
	for _, c := range b {
		if !ok(c) {
			return false
		}
	}
	return true
}

// ValidService reports whether s may name a service: at most [MaxService] ASCII
// letters, digits, "-", "." and "_". The empty name is the pipe of a peer that
// has nothing else.
func ValidService(s string) bool { return len(s) <= MaxService && serviceBytes([]byte(s)) }

// ValidToken reports whether s may be an rdv token in a message.
func ValidToken(s string) bool { return s != "" && len(s) <= MaxToken && unreserved([]byte(s)) }

// ValidAccess reports whether s may be an access token in a message.
func ValidAccess(s string) bool { return len(s) <= MaxAccess && graphic([]byte(s)) }
