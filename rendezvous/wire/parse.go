package wire

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/muster-p2p/muster/internal/protoskip"
)

// ErrMalformed is wrapped by the errors of the Parse functions: the bytes are
// not a message of the dialect.
var ErrMalformed = errors.New("rendezvous: malformed message")

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

// fields calls f for each field of the protobuf message b. f returns the bytes
// that the field's value takes; zero to have it skipped, as unknown fields
// must be; negative if the value is not what it must be.
func fields(b []byte, f func(num protowire.Number, typ protowire.Type, b []byte) int) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return malformed("field tag")
		}
		b = b[n:]
		n = f(num, typ, b)
		if n == 0 {
			n = protoskip.Value(num, typ, b)
		}
		if n < 0 {
			return malformed("field value")
		}
		b = b[n:]
	}
	return nil
}

// wrong is what a field function returns for a value it does not accept.
const wrong = -1

func readVarint(typ protowire.Type, b []byte, v *uint64) int {
	if typ != protowire.VarintType {
		return wrong
	}
	x, n := protowire.ConsumeVarint(b)
	*v = x
	return n
}

// readBytes does not copy: v is a part of b.
func readBytes(typ protowire.Type, b []byte, v *[]byte) int {
	if typ != protowire.BytesType {
		return wrong
	}
	x, n := protowire.ConsumeBytes(b)
	*v = x
	return n
}

// A layout holds the numbers in which the dialects differ.
type layout struct {
	kinds  [5]int8 // wire type to Kind, -1 for none
	bodies [5]protowire.Number
}

var layouts = [...]layout{
	Libp2p: {
		kinds:  [5]int8{int8(Register), int8(RegisterResponse), int8(Unregister), int8(Discover), int8(DiscoverResponse)},
		bodies: [5]protowire.Number{Register: 2, RegisterResponse: 3, Unregister: 4, Discover: 5, DiscoverResponse: 6},
	},
	Waku: {
		kinds:  [5]int8{int8(Register), int8(RegisterResponse), int8(Discover), int8(DiscoverResponse), -1},
		bodies: [5]protowire.Number{Register: 2, RegisterResponse: 3, Discover: 4, DiscoverResponse: 5},
	},
}

// kind returns the Kind that t stands for.
func (l *layout) kind(t uint64) (Kind, bool) {
	if t >= uint64(len(l.kinds)) || l.kinds[t] < 0 {
		return 0, false
	}
	return Kind(l.kinds[t]), true
}

// Parse reads one message without its length prefix into m, which it resets.
// At most maxRecords found records are kept, in the memory that m.Records has
// already; the rest is left out and m.More set. Record, ID and Cookie are
// parts of b as a rule, the strings are copies.
//
// Missing parts are what the specs' proto2 and proto3 writers mean by leaving
// them out: no type is REGISTER (if there is a register), no status is OK.
// Unknown fields are skipped. An error wraps [ErrMalformed].
func Parse(d Dialect, b []byte, m *Message, maxRecords int) error {
	l := &layouts[d]
	*m = Message{Records: m.Records[:0]}
	var kind uint64
	var typed, parted bool
	var bodies [5][]byte
	err := fields(b, func(num protowire.Number, typ protowire.Type, b []byte) int {
		if num == 1 {
			typed = true
			return readVarint(typ, b, &kind)
		}
		for k, n := range l.bodies {
			if n == num {
				parted = parted || bodies[k] != nil
				return readBytes(typ, b, &bodies[k])
			}
		}
		return 0
	})
	if err != nil {
		return err
	}
	k, ok := l.kind(kind)
	if !ok {
		return malformed("unknown type")
	}
	if !typed && bodies[Register] == nil {
		return malformed("no type")
	}
	m.Kind = k
	body := bodies[k]
	if parted {
		body = joined(b, l.bodies[k])
	}
	return m.parseBody(d, body, maxRecords)
}

// joined returns the parts of a message field that is there more than once:
// behind each other they are the encoding of the merged message.
//
// Spec: https://protobuf.dev/programming-guides/encoding/#last-one-wins
func joined(b []byte, field protowire.Number) (all []byte) {
	_ = fields(b, func(num protowire.Number, typ protowire.Type, b []byte) int { // it was read before
		if num != field {
			return 0
		}
		var part []byte
		n := readBytes(typ, b, &part)
		all = append(all, part...)
		return n
	})
	return all
}

func (m *Message) parseBody(d Dialect, b []byte, maxRecords int) error {
	switch m.Kind {
	case Register:
		return m.parseRegister(b)
	case RegisterResponse:
		return m.parseRegisterResponse(b)
	case Unregister:
		return m.parseUnregister(b)
	case Discover:
		return m.parseDiscover(d, b)
	default:
		return m.parseDiscoverResponse(d, b, maxRecords)
	}
}

func (m *Message) parseRegister(b []byte) error {
	var r Registration
	if err := r.parse(b, ""); err != nil {
		return err
	}
	m.NS, m.Record, m.TTL, m.HasTTL = r.NS, r.Record, r.TTL, r.HasTTL
	return nil
}

// parse reads a Register. If its ns is the one of last, no copy is made.
func (r *Registration) parse(b []byte, last string) error {
	var ns []byte
	err := fields(b, func(num protowire.Number, typ protowire.Type, b []byte) int {
		switch num {
		case 1:
			return readBytes(typ, b, &ns)
		case 2:
			return readBytes(typ, b, &r.Record)
		case 3:
			r.HasTTL = true
			return readVarint(typ, b, &r.TTL)
		default:
			return 0
		}
	})
	if r.NS = last; string(ns) != last {
		r.NS = string(ns)
	}
	return err
}

func (m *Message) parseRegisterResponse(b []byte) error {
	var status uint64
	var text []byte
	err := fields(b, func(num protowire.Number, typ protowire.Type, b []byte) int {
		switch num {
		case 1:
			return readVarint(typ, b, &status)
		case 2:
			return readBytes(typ, b, &text)
		case 3:
			m.HasTTL = true
			return readVarint(typ, b, &m.TTL)
		default:
			return 0
		}
	})
	m.Status, m.Text = clipStatus(status), clipText(text)
	return err
}

func (m *Message) parseUnregister(b []byte) error {
	var ns []byte
	err := fields(b, func(num protowire.Number, typ protowire.Type, b []byte) int {
		switch num {
		case 1:
			return readBytes(typ, b, &ns)
		case 2:
			return readBytes(typ, b, &m.ID)
		default:
			return 0
		}
	})
	m.NS = string(ns)
	return err
}

func (m *Message) parseDiscover(d Dialect, b []byte) error {
	var ns []byte
	err := fields(b, func(num protowire.Number, typ protowire.Type, b []byte) int {
		switch num {
		case 1:
			m.HasNS = true
			return readBytes(typ, b, &ns)
		case 2:
			m.HasLim = true
			return readVarint(typ, b, &m.Limit)
		case 3:
			if d != Libp2p {
				return 0
			}
			return readBytes(typ, b, &m.Cookie)
		default:
			return 0
		}
	})
	m.NS = string(ns)
	return err
}

func (m *Message) parseDiscoverResponse(d Dialect, b []byte, maxRecords int) error {
	var status uint64
	var text []byte
	var last string
	err := fields(b, func(num protowire.Number, typ protowire.Type, b []byte) int {
		switch num {
		case 1:
			return m.parseFound(typ, b, &last, maxRecords)
		case 2:
			if d != Libp2p {
				return 0
			}
			return readBytes(typ, b, &m.Cookie)
		case 3:
			return readVarint(typ, b, &status)
		case 4:
			return readBytes(typ, b, &text)
		default:
			return 0
		}
	})
	m.Status, m.Text = clipStatus(status), clipText(text)
	return err
}

// parseFound reads one of the registrations of a DISCOVER_RESPONSE.
func (m *Message) parseFound(typ protowire.Type, b []byte, last *string, maxRecords int) int {
	var body []byte
	n := readBytes(typ, b, &body)
	if n < 0 {
		return n
	}
	if len(m.Records) >= maxRecords {
		m.More = true
		return n
	}
	var r Registration
	if err := r.parse(body, *last); err != nil {
		return wrong
	}
	*last = r.NS
	m.Records = append(m.Records, r)
	return n
}

// clipStatus keeps what does not fit from looking like a status that does.
func clipStatus(v uint64) Status {
	const maxStatus = 1<<31 - 1 // protobuf enums are int32
	return Status(min(v, maxStatus))
}

// clipText keeps the beginning of a stranger's text, as valid UTF-8.
func clipText(b []byte) string {
	if len(b) > MaxText {
		b = b[:MaxText]
	}
	return strings.ToValidUTF8(string(b), "")
}
