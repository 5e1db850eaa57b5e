// Package wire holds the bytes of muster's file transfer as values: parse from
// a slice, append to a slice, no I/O.
//
// Each end begins with a line that says what it is going to do:
//
//	muster-send/1\n      or      muster-recv/1\n
//
// Frames follow, with integers in big endian, varints as in package
// encoding/binary, and no padding:
//
//	type (1) │ length (4) │ payload
//
//	from the sender:
//	OFFER   files, directories, bytes (uvarint each)
//	ENTRIES any number of: kind (1) │ permission (uvarint) │ modified, Unix
//	        seconds (varint) │ size (uvarint) │ length, path
//	SUM     index (uvarint) │ SHA-256 of as many bytes of it as ASK said
//	FILE    index │ offset (uvarint each)
//	DATA    bytes of the file, from the offset on
//	END     SHA-256 of the whole file
//	FIN     nothing: all that was wanted is sent
//
//	from the receiver:
//	ASK     index │ number of bytes (uvarint each), answered with SUM
//	WANT    any number of: index │ offset (uvarint each)
//	GO      nothing: all that is wanted is said
//	DONE    nothing: all is received, verified and on disk
//
//	from both:
//	BUSY    nothing: still here, reading a disk or asking a person
//	ERROR   code (1) │ text
//
// docs/spec/transfer.md says in which order.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// A Role is the line that an end begins with.
type Role string

// The roles. They are of one length, so that a reader knows how much to read.
const (
	RoleSend Role = "muster-send/1\n"
	RoleRecv Role = "muster-recv/1\n"

	// RoleSize is the length of a role's line.
	RoleSize = len(RoleSend)
)

// Errors of the parsers.
var (
	ErrRole    = errors.New("transfer: the other end does not speak muster's file transfer")
	ErrVersion = errors.New("transfer: the other end speaks another version of the file transfer")
	ErrFrame   = errors.New("transfer: malformed frame")
)

// ParseRole reads the line that the other end began with.
func ParseRole(b []byte) (Role, error) {
	r := Role(b)
	if r == RoleSend || r == RoleRecv {
		return r, nil
	}
	if strings.HasPrefix(string(b), "muster-send/") || strings.HasPrefix(string(b), "muster-recv/") {
		return "", ErrVersion
	}
	return "", ErrRole
}

// A Type says what a frame is.
type Type byte

// Types of frames. The numbers are on the wire.
const (
	Offer   Type = 1
	Entries Type = 2
	Sum     Type = 3
	File    Type = 4
	Data    Type = 5
	End     Type = 6
	Fin     Type = 7

	Ask  Type = 16
	Want Type = 17
	Go   Type = 18
	Done Type = 19

	Busy  Type = 32
	Error Type = 33
)

// Bounds of what is read from a stranger.
const (
	// HeadSize is the size of a frame's type and length.
	HeadSize = 5

	// MaxData bounds a DATA frame: large enough that its head costs nothing.
	MaxData = 1 << 20

	// MaxList bounds the frames that hold a list, and must hold one entry with
	// the longest path.
	MaxList = 64 << 10

	// MaxText bounds the text of an ERROR.
	MaxText = 512

	// HashSize is the size of a SHA-256.
	HashSize = 32

	// MaxPath bounds a path, in bytes: Linux' PATH_MAX.
	MaxPath = 4096

	// MaxSize bounds a file, so that sums of a few do not overflow.
	MaxSize = 1 << 60

	// MaxPerm is the largest permission: the nine bits of rwxrwxrwx. Bits above
	// them, setuid among them, cannot be said.
	MaxPerm = 0o777

	maxIndex = 1 << 31
)

// maxPayload is how long each frame may be; -1 means that there is no such type.
func maxPayload(t Type) int {
	switch t {
	case Data:
		return MaxData
	case Entries, Want:
		return MaxList
	case Offer:
		return 3 * binary.MaxVarintLen64
	case Sum:
		return binary.MaxVarintLen64 + HashSize
	case File, Ask:
		return 2 * binary.MaxVarintLen64
	case End:
		return HashSize
	case Error:
		return 1 + MaxText
	case Fin, Go, Done, Busy:
		return 0
	default:
		return -1
	}
}

// AppendHead appends the head of a frame whose payload has n bytes.
func AppendHead(b []byte, t Type, n int) []byte {
	return binary.BigEndian.AppendUint32(append(b, byte(t)), uint32(n))
}

// AppendFrame appends a whole frame.
func AppendFrame(b []byte, t Type, payload []byte) []byte {
	return append(AppendHead(b, t, len(payload)), payload...)
}

// ParseHead reads the head of a frame, of HeadSize bytes, and refuses an
// unknown type and a payload that is too long for its type.
func ParseHead(b []byte) (Type, int, error) {
	if len(b) != HeadSize {
		return 0, 0, ErrFrame
	}
	t, n := Type(b[0]), binary.BigEndian.Uint32(b[1:])
	limit := maxPayload(t)
	switch {
	case limit < 0:
		return 0, 0, fmt.Errorf("%w: type %d", ErrFrame, t)
	case int64(n) > int64(limit):
		return 0, 0, fmt.Errorf("%w: %d bytes in a frame of type %d", ErrFrame, n, t)
	}
	return t, int(n), nil
}
