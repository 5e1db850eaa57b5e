// Package wire is the frames of a link, as they are written on each of its
// paths below the secured stream that the path is. Numbers are big-endian.
//
//	frame = type (1) length (3) payload (length)
//
//	 1 HELLO  version (1) flags (1) session (16) proof (32) next (8) limit (8) rest (…)
//	 2 DATA   offset (8) bytes (1…)
//	 3 FIN    offset (8)
//	 4 ACK    next (8) limit (8)
//	 5 PING   id (8)
//	 6 PONG   id (8)
//	 7 MEET   number (4)
//	 8 CLOSE  code (2) reason (…, UTF-8, at most 256)
//
// HELLO is the first frame of both sides on every path and comes only there. A
// receiver ignores the rest of a HELLO, and frames of the types from 128 on;
// other types that it does not know are an error, so that versions to come can
// have both kinds. A frame has at most MaxFrame bytes, so that it fits into one
// record of TLS.
//
// A direction's bytes are counted from zero. FIN counts as one byte behind the
// last. next is the lowest offset that the sender of the frame has not
// received, limit the first that it does not want to receive yet.
//
// Parsers take the payload of one frame, refuse what the encoders would not
// write, and keep no reference to it unless they say so. Encoders append to
// the caller's slice.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Version is the version of the protocol that this package speaks.
const Version = 1

// Sizes in bytes.
const (
	HeaderLen = 4
	OffsetLen = 8

	// MaxFrame bounds a frame with its header: a record of TLS
	// (RFC 8446, section 5.1) holds 2^14 bytes.
	MaxFrame = 16384

	// DataHeaderLen is what comes before the bytes of a DATA frame, MaxData the
	// most of them in one.
	DataHeaderLen = HeaderLen + OffsetLen
	MaxData       = MaxFrame - DataHeaderLen

	SessionLen = 16
	ProofLen   = 32
	helloLen   = 2 + SessionLen + ProofLen + 16

	// FirstLimit is the limit that a sender of DATA goes by until it has heard
	// one: the dialer's first bytes follow its HELLO at once.
	FirstLimit = 256 << 10

	// MaxHello bounds the payload of a HELLO, with what later versions add.
	MaxHello = 1024

	// MaxReason bounds the reason of a CLOSE.
	MaxReason = 256
)

// A Type is the kind of a frame.
type Type uint8

// Types of frames.
const (
	HELLO Type = iota + 1
	DATA
	FIN
	ACK
	PING
	PONG
	MEET
	CLOSE

	// Ignored is the first of the types that a receiver ignores.
	Ignored Type = 128
)

func (t Type) String() string {
	names := [...]string{HELLO: "HELLO", DATA: "DATA", FIN: "FIN", ACK: "ACK", PING: "PING", PONG: "PONG", MEET: "MEET", CLOSE: "CLOSE"}
	if int(t) < len(names) && names[t] != "" {
		return names[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Flags of a HELLO.
const (
	// FlagNew says that the path is the first of a new session, and not one more
	// of a session that both sides know.
	FlagNew = 1 << iota

	// FlagRelayOnly says that the sender takes no direct path, so that there
	// is no point in trying.
	FlagRelayOnly

	knownFlags = FlagNew | FlagRelayOnly
)

// Errors of the parsers.
var (
	ErrType   = errors.New("link/wire: unknown type of frame")
	ErrLength = errors.New("link/wire: wrong length of a frame")
	ErrOffset = errors.New("link/wire: offset is out of range")
	ErrReason = errors.New("link/wire: reason is no text")
	ErrHello  = errors.New("link/wire: malformed HELLO")
)

// MaxOffset bounds offsets, so that sums of them do not overflow: a stream of
// a gigabyte per second gets there in a century.
const MaxOffset = 1 << 62

// A Header is what comes before the payload of a frame.
type Header struct {
	Type Type
	Len  int // of the payload
}

// AppendTo appends the header to b.
func (h Header) AppendTo(b []byte) []byte {
	return append(b, byte(h.Type), byte(h.Len>>16), byte(h.Len>>8), byte(h.Len))
}

// ParseHeader parses a header. It returns [ErrType] or [ErrLength] unless the
// payload has a length that its type may have.
func ParseHeader(b [HeaderLen]byte) (Header, error) {
	h := Header{Type: Type(b[0]), Len: int(b[1])<<16 | int(b[2])<<8 | int(b[3])}
	low, high := 0, 0
	switch h.Type {
	case HELLO:
		low, high = helloLen, MaxHello
	case DATA:
		low, high = OffsetLen+1, MaxFrame-HeaderLen
	case FIN, PING, PONG:
		low, high = OffsetLen, OffsetLen
	case ACK:
		low, high = 2*OffsetLen, 2*OffsetLen
	case MEET:
		low, high = 4, 4
	case CLOSE:
		low, high = 2, 2+MaxReason
	default:
		if h.Type < Ignored {
			return Header{}, ErrType
		}
		high = MaxFrame - HeaderLen
	}
	if h.Len < low || h.Len > high {
		return Header{}, ErrLength
	}
	return h, nil
}

// A Hello opens a path.
type Hello struct {
	Version uint8
	Flags   uint8
	Session [SessionLen]byte
	Proof   [ProofLen]byte // that the sender knows the session's secret, for this path
	Ack     Ack
	Rest    []byte // of a later version
}

// AppendTo appends the frame to b. Rest may have MaxHello bytes less what comes
// before it.
func (h Hello) AppendTo(b []byte) []byte {
	b = Header{HELLO, helloLen + len(h.Rest)}.AppendTo(b)
	b = append(b, h.Version, h.Flags)
	b = append(b, h.Session[:]...)
	b = append(b, h.Proof[:]...)
	b = h.Ack.append(b)
	return append(b, h.Rest...)
}

// ParseHello parses the payload of a HELLO. Rest is part of p. Of a version
// that is not [Version], flags that are not known are left in; version zero
// does not exist.
func ParseHello(p []byte) (h Hello, err error) {
	if len(p) < helloLen || len(p) > MaxHello {
		return h, ErrLength
	}
	h.Version, h.Flags, p = p[0], p[1], p[2:]
	if h.Version == 0 || (h.Version == Version && h.Flags&^knownFlags != 0) {
		return h, ErrHello
	}
	p = p[copy(h.Session[:], p):]
	p = p[copy(h.Proof[:], p):]
	if h.Ack, err = ParseAck(p[:2*OffsetLen]); err != nil {
		return h, err
	}
	if h.Rest = p[2*OffsetLen:]; len(h.Rest) == 0 {
		h.Rest = nil
	}
	return h, nil
}

// An Ack says what its sender has received and is ready to receive.
type Ack struct{ Next, Limit uint64 }

// AppendTo appends the frame to b.
func (a Ack) AppendTo(b []byte) []byte {
	return a.append(Header{ACK, 2 * OffsetLen}.AppendTo(b))
}

func (a Ack) append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, a.Next), a.Limit)
}

// ParseAck parses the payload of an ACK.
func ParseAck(p []byte) (Ack, error) {
	if len(p) != 2*OffsetLen {
		return Ack{}, ErrLength
	}
	a := Ack{binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[OffsetLen:])}
	if a.Next > MaxOffset || a.Limit > MaxOffset {
		return Ack{}, ErrOffset
	}
	return a, nil
}

// PutDataHeader writes what comes before n bytes at the given offset into b,
// which has DataHeaderLen bytes. n is from 1 to [MaxData].
func PutDataHeader(b []byte, offset uint64, n int) {
	n += OffsetLen
	b[0], b[1], b[2], b[3] = byte(DATA), byte(n>>16), byte(n>>8), byte(n)
	binary.BigEndian.PutUint64(b[HeaderLen:DataHeaderLen], offset)
}

// ParseOffset parses the payload of a FIN, or the first eight bytes of that of
// a DATA frame; n is how many bytes follow from there on.
func ParseOffset(p []byte, n int) (uint64, error) {
	if len(p) != OffsetLen {
		return 0, ErrLength
	}
	off := binary.BigEndian.Uint64(p)
	if off > MaxOffset || n < 0 || off+uint64(n) > MaxOffset {
		return 0, ErrOffset
	}
	return off, nil
}

// AppendFin appends a FIN to b.
func AppendFin(b []byte, offset uint64) []byte {
	return binary.BigEndian.AppendUint64(Header{FIN, OffsetLen}.AppendTo(b), offset)
}

// AppendEcho appends a PING or a PONG to b.
func AppendEcho(b []byte, t Type, id uint64) []byte {
	return binary.BigEndian.AppendUint64(Header{t, OffsetLen}.AppendTo(b), id)
}

// ParseEcho parses the payload of a PING or a PONG.
func ParseEcho(p []byte) (id uint64, err error) {
	if len(p) != OffsetLen {
		return 0, ErrLength
	}
	return binary.BigEndian.Uint64(p), nil
}

// AppendMeet appends a MEET to b.
func AppendMeet(b []byte, number uint32) []byte {
	return binary.BigEndian.AppendUint32(Header{MEET, 4}.AppendTo(b), number)
}

// ParseMeet parses the payload of a MEET.
func ParseMeet(p []byte) (number uint32, err error) {
	if len(p) != 4 {
		return 0, ErrLength
	}
	return binary.BigEndian.Uint32(p), nil
}

// A Close ends a session.
type Close struct {
	Code   Code
	Reason string // for people; valid UTF-8, at most MaxReason bytes
}

// A Code says why a session ends.
type Code uint16

// Codes of a CLOSE. Codes that are not known are errors like CodeError.
const (
	CodeDone    Code = iota // the sender has closed; all that it sent was acknowledged
	CodeRefused             // the sender does not want to talk to this peer
	CodeError               // the sender broke off
)

func (c Code) String() string {
	switch c {
	case CodeDone:
		return "done"
	case CodeRefused:
		return "refused"
	case CodeError:
		return "error"
	default:
		return fmt.Sprintf("code %d", uint16(c))
	}
}

// AppendTo appends the frame to b. A reason that is too long is cut, one that
// is no UTF-8 mended.
func (c Close) AppendTo(b []byte) []byte {
	reason := mend(c.Reason)
	b = Header{CLOSE, 2 + len(reason)}.AppendTo(b)
	return append(binary.BigEndian.AppendUint16(b, uint16(c.Code)), reason...)
}

// ParseClose parses the payload of a CLOSE.
func ParseClose(p []byte) (Close, error) {
	if len(p) < 2 || len(p) > 2+MaxReason {
		return Close{}, ErrLength
	}
	if !utf8.Valid(p[2:]) {
		return Close{}, ErrReason
	}
	return Close{Code(binary.BigEndian.Uint16(p)), string(p[2:])}, nil
}

// mend makes s a reason that may be written.
func mend(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= MaxReason {
		return s
	}
	cut := MaxReason
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
