package wire

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/muster-p2p/muster/internal/rlp"
)

// A Kind is the type byte of a message.
type Kind uint8

// The kinds of message. 07 to 0a belong to topic advertisement, whose
// specification is still moving: they are recognised and not interpreted.
const (
	KindPing            Kind = 0x01
	KindPong            Kind = 0x02
	KindFindNode        Kind = 0x03
	KindNodes           Kind = 0x04
	KindTalkReq         Kind = 0x05
	KindTalkResp        Kind = 0x06
	KindRegTopic        Kind = 0x07
	KindRegConfirmation Kind = 0x08
	KindTopicQuery      Kind = 0x09
	KindTopicNodes      Kind = 0x0a
)

// String returns the specification's name of the kind.
func (k Kind) String() string {
	names := [...]string{
		KindPing: "PING", KindPong: "PONG", KindFindNode: "FINDNODE", KindNodes: "NODES",
		KindTalkReq: "TALKREQ", KindTalkResp: "TALKRESP", KindRegTopic: "REGTOPIC",
		KindRegConfirmation: "REGCONFIRMATION", KindTopicQuery: "TOPICQUERY", KindTopicNodes: "TOPICNODES",
	}
	if int(k) < len(names) && names[k] != "" {
		return names[k]
	}
	return "unknown"
}

// Topic reports whether k belongs to topic advertisement.
func (k Kind) Topic() bool { return k >= KindRegTopic && k <= KindTopicNodes }

const (
	// MaxReqID is the longest request ID: "request-id is an RLP byte array
	// of length <= 8 bytes".
	MaxReqID = 8
	// MaxDistance is the largest distance of two nodes.
	MaxDistance = 256
	// maxRecords is how many records one NODES packet may hold: more than
	// fit, were each as short as a signature and a key allow.
	maxRecords = 16
)

// ErrMessage is the reason to drop a decrypted message that cannot be read.
var ErrMessage = errors.New("wire: malformed message")

// A ReqID ties an answer to its request. It is a string of 0 to 8 bytes that
// is mirrored as it is.
type ReqID struct {
	n uint8
	b [MaxReqID]byte
}

// NewReqID returns the request ID with these 8 bytes.
func NewReqID(v uint64) ReqID {
	id := ReqID{n: MaxReqID}
	binary.BigEndian.PutUint64(id.b[:], v)
	return id
}

// ReqIDOf returns the request ID b, of at most 8 bytes.
func ReqIDOf(b []byte) (ReqID, bool) {
	var id ReqID
	if len(b) > MaxReqID {
		return id, false
	}
	id.n = uint8(copy(id.b[:], b))
	return id, true
}

// Bytes returns the ID's bytes.
func (id ReqID) Bytes() []byte { return id.b[:id.n] }

// A Message is any of the messages: a value for all kinds, so that reading
// and writing allocate nothing. Kind says which fields count. Slices alias
// the plaintext they were read from.
type Message struct {
	Kind  Kind
	ReqID ReqID

	Seq uint64         // PING, PONG: the sender's record number
	To  netip.AddrPort // PONG: where the PING came from

	// FINDNODE. Decode drops distances above 256, which no node has, and
	// repetitions.
	Distances []uint16

	Total   uint64   // NODES: how many packets make the answer
	Records [][]byte // NODES: each an RLP list, not verified

	Protocol []byte // TALKREQ
	Payload  []byte // TALKREQ, TALKRESP
}

// Decode reads a decrypted message into m. It keeps the capacity of m's
// slices, so a Message used again does not allocate. The whole of b must be
// one message in canonical form; ErrMessage is the only error.
func (m *Message) Decode(b []byte) error {
	*m = Message{Distances: m.Distances[:0], Records: m.Records[:0]}
	if len(b) == 0 {
		return ErrMessage
	}
	m.Kind = Kind(b[0])
	items, rest, err := rlp.List(b[1:])
	if err != nil || len(rest) != 0 {
		return ErrMessage
	}
	id, items, err := rlp.String(items)
	if err != nil {
		return ErrMessage
	}
	var ok bool
	if m.ReqID, ok = ReqIDOf(id); !ok {
		return ErrMessage
	}
	if items, err = m.decodeBody(items); err != nil || len(items) != 0 {
		return ErrMessage
	}
	return nil
}

func (m *Message) decodeBody(b []byte) (rest []byte, err error) {
	switch m.Kind {
	case KindPing:
		m.Seq, b, err = rlp.Uint(b)
	case KindPong:
		if m.Seq, b, err = rlp.Uint(b); err == nil {
			b, err = m.decodeTo(b)
		}
	case KindFindNode:
		b, err = m.decodeDistances(b)
	case KindNodes:
		if m.Total, b, err = rlp.Uint(b); err == nil {
			b, err = m.decodeRecords(b)
		}
	case KindTalkReq:
		if m.Protocol, b, err = rlp.String(b); err == nil {
			m.Payload, b, err = rlp.String(b)
		}
	case KindTalkResp:
		m.Payload, b, err = rlp.String(b)
	case KindRegTopic, KindRegConfirmation, KindTopicQuery, KindTopicNodes:
		return nil, nil
	default:
		return nil, ErrMessage
	}
	return b, err
}

// decodeTo reads "16 or 4 byte IP address of the intended recipient" and
// "recipient UDP port, a 16-bit integer".
func (m *Message) decodeTo(b []byte) (rest []byte, err error) {
	ip, b, err := rlp.String(b)
	if err != nil {
		return nil, err
	}
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return nil, ErrMessage
	}
	port, b, err := rlp.Uint(b)
	if err != nil || port > 0xffff {
		return nil, ErrMessage
	}
	m.To = netip.AddrPortFrom(addr.Unmap(), uint16(port))
	return b, nil
}

func (m *Message) decodeDistances(b []byte) (rest []byte, err error) {
	list, rest, err := rlp.List(b)
	if err != nil {
		return nil, err
	}
	var seen [MaxDistance/64 + 1]uint64
	for len(list) > 0 {
		var d uint64
		if d, list, err = rlp.Uint(list); err != nil {
			return nil, err
		}
		if d > MaxDistance || seen[d/64]&(1<<(d%64)) != 0 {
			continue
		}
		seen[d/64] |= 1 << (d % 64)
		m.Distances = append(m.Distances, uint16(d))
	}
	return rest, nil
}

func (m *Message) decodeRecords(b []byte) (rest []byte, err error) {
	list, rest, err := rlp.List(b)
	if err != nil || m.Total == 0 {
		return nil, ErrMessage
	}
	for len(list) > 0 {
		_, after, err := rlp.List(list)
		if err != nil || len(m.Records) == maxRecords {
			return nil, ErrMessage
		}
		m.Records = append(m.Records, list[:len(list)-len(after)])
		list = after
	}
	return rest, nil
}

// AppendTo appends the message as it is encrypted: its kind and its RLP list.
func (m *Message) AppendTo(dst []byte) ([]byte, error) {
	id := m.ReqID.Bytes()
	size := rlp.StringSize(id) + m.bodySize()
	if size > MaxPlaintext {
		return dst, ErrTooLarge
	}
	dst = append(dst, byte(m.Kind))
	dst = rlp.AppendList(dst, size)
	dst = rlp.AppendString(dst, id)
	switch m.Kind {
	case KindPing:
		dst = rlp.AppendUint(dst, m.Seq)
	case KindPong:
		dst = rlp.AppendUint(dst, m.Seq)
		dst = appendAddr(dst, m.To.Addr())
		dst = rlp.AppendUint(dst, uint64(m.To.Port()))
	case KindFindNode:
		dst = rlp.AppendList(dst, m.distancesSize())
		for _, d := range m.Distances {
			dst = rlp.AppendUint(dst, uint64(d))
		}
	case KindNodes:
		dst = rlp.AppendUint(dst, m.Total)
		dst = rlp.AppendList(dst, m.recordsSize())
		for _, r := range m.Records {
			dst = append(dst, r...)
		}
	case KindTalkReq:
		dst = rlp.AppendString(dst, m.Protocol)
		dst = rlp.AppendString(dst, m.Payload)
	case KindTalkResp:
		dst = rlp.AppendString(dst, m.Payload)
	default:
		return dst, ErrMessage
	}
	return dst, nil
}

// Size is the length of what AppendTo appends.
func (m *Message) Size() int {
	return 1 + rlp.ListSize(rlp.StringSize(m.ReqID.Bytes())+m.bodySize())
}

func (m *Message) bodySize() int {
	switch m.Kind {
	case KindPing:
		return rlp.UintSize(m.Seq)
	case KindPong:
		return rlp.UintSize(m.Seq) + 1 + m.To.Addr().BitLen()/8 + rlp.UintSize(uint64(m.To.Port()))
	case KindFindNode:
		return rlp.ListSize(m.distancesSize())
	case KindNodes:
		return rlp.UintSize(m.Total) + rlp.ListSize(m.recordsSize())
	case KindTalkReq:
		return rlp.StringSize(m.Protocol) + rlp.StringSize(m.Payload)
	case KindTalkResp:
		return rlp.StringSize(m.Payload)
	default:
		return 0
	}
}

func (m *Message) distancesSize() (n int) {
	for _, d := range m.Distances {
		n += rlp.UintSize(uint64(d))
	}
	return n
}

func (m *Message) recordsSize() (n int) {
	for _, r := range m.Records {
		n += len(r)
	}
	return n
}

func appendAddr(dst []byte, a netip.Addr) []byte {
	if a.Is4() {
		b := a.As4()
		return rlp.AppendString(dst, b[:])
	}
	b := a.As16()
	return rlp.AppendString(dst, b[:])
}
