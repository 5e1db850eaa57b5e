// Package rlp reads and writes RLP, the encoding of node records and discv5
// messages, in its one canonical form. It hides the length prefixes: readers
// get an item at a time out of a byte slice without copying or allocating,
// and writers append to the caller's slice.
//
// https://ethereum.org/en/developers/docs/data-structures-and-encoding/rlp/
//
// An item is a byte string or a list of items. What is not canonical (a
// length with a leading zero, a long form where the short one fits, a single
// byte below 0x80 with a prefix) is an error: two encodings of one value
// would be two records with one signature.
package rlp

import (
	"errors"
	"math/bits"
)

// Errors of the readers. ErrCanonical is returned for an encoding that
// another, shorter one stands for; ErrShort where the input ends inside an
// item; ErrKind where a list stands for a string or the other way round;
// ErrRange for an integer that does not fit.
var (
	ErrShort     = errors.New("rlp: input too short")
	ErrCanonical = errors.New("rlp: not canonical")
	ErrKind      = errors.New("rlp: wrong kind of item")
	ErrRange     = errors.New("rlp: integer too large")
)

const (
	stringOffset     = 0x80 // short string: 0x80 + length
	stringLongOffset = 0xb7 // long string: 0xb7 + length of length
	listOffset       = 0xc0 // short list
	listLongOffset   = 0xf7 // long list
	shortMax         = 55   // longest payload of a short form
)

// Split cuts the first item off b: its kind, its payload and what follows.
// The slices alias b. The payload of a list is not examined; [Valid] does.
func Split(b []byte) (list bool, payload, rest []byte, err error) {
	if len(b) == 0 {
		return false, nil, nil, ErrShort
	}
	switch p := b[0]; {
	case p < stringOffset:
		return false, b[:1], b[1:], nil
	case p <= stringLongOffset:
		payload, rest, err = cut(b[1:], int(p-stringOffset))
		if err == nil && len(payload) == 1 && payload[0] < stringOffset {
			return false, nil, nil, ErrCanonical
		}
		return false, payload, rest, err
	case p < listOffset:
		payload, rest, err = cutLong(b[1:], int(p-stringLongOffset))
		return false, payload, rest, err
	case p <= listLongOffset:
		payload, rest, err = cut(b[1:], int(p-listOffset))
		return true, payload, rest, err
	default:
		payload, rest, err = cutLong(b[1:], int(p-listLongOffset))
		return true, payload, rest, err
	}
}

func cut(b []byte, n int) (payload, rest []byte, err error) {
	if n > len(b) {
		return nil, nil, ErrShort
	}
	return b[:n], b[n:], nil
}

func cutLong(b []byte, lenlen int) (payload, rest []byte, err error) {
	if lenlen > len(b) {
		return nil, nil, ErrShort
	}
	if b[0] == 0 {
		return nil, nil, ErrCanonical
	}
	// Longer lengths cannot be met by anything in memory.
	if lenlen > 3 {
		return nil, nil, ErrShort
	}
	n := 0
	for _, c := range b[:lenlen] {
		n = n<<8 | int(c)
	}
	if n <= shortMax {
		return nil, nil, ErrCanonical
	}
	return cut(b[lenlen:], n)
}

// String cuts a byte string off b.
func String(b []byte) (s, rest []byte, err error) {
	list, s, rest, err := Split(b)
	if err == nil && list {
		return nil, nil, ErrKind
	}
	return s, rest, err
}

// List cuts a list off b and returns its payload.
func List(b []byte) (payload, rest []byte, err error) {
	list, payload, rest, err := Split(b)
	if err == nil && !list {
		return nil, nil, ErrKind
	}
	return payload, rest, err
}

// Uint cuts an unsigned integer off b: a string of at most 8 bytes, big
// endian and without leading zeros.
func Uint(b []byte) (v uint64, rest []byte, err error) {
	s, rest, err := String(b)
	if err != nil {
		return 0, nil, err
	}
	if len(s) > 8 {
		return 0, nil, ErrRange
	}
	if len(s) > 0 && s[0] == 0 {
		return 0, nil, ErrCanonical
	}
	for _, c := range s {
		v = v<<8 | uint64(c)
	}
	return v, rest, nil
}

// Valid reports whether b is exactly one canonical item, lists examined to
// any depth. Its cost is linear in len(b) times the depth of nesting.
func Valid(b []byte) bool {
	list, payload, rest, err := Split(b)
	if err != nil || len(rest) != 0 {
		return false
	}
	if !list {
		return true
	}
	return validItems(payload, 1)
}

// maxDepth bounds the recursion of Valid; 300 bytes cannot say anything
// useful so deep.
const maxDepth = 32

func validItems(b []byte, depth int) bool {
	for len(b) > 0 {
		list, payload, rest, err := Split(b)
		if err != nil {
			return false
		}
		if list && (depth >= maxDepth || !validItems(payload, depth+1)) {
			return false
		}
		b = rest
	}
	return true
}

// AppendString appends s as a byte string.
func AppendString(dst, s []byte) []byte {
	if len(s) == 1 && s[0] < stringOffset {
		return append(dst, s[0])
	}
	return append(appendHeader(dst, stringOffset, len(s)), s...)
}

// AppendUint appends v as an integer.
func AppendUint(dst []byte, v uint64) []byte {
	switch {
	case v == 0:
		return append(dst, stringOffset)
	case v < stringOffset:
		return append(dst, byte(v))
	}
	n := byteLen(v)
	dst = append(dst, stringOffset+byte(n))
	return appendBig(dst, v, n)
}

// AppendList appends the header of a list whose payload is size bytes long;
// the caller appends the payload.
func AppendList(dst []byte, size int) []byte { return appendHeader(dst, listOffset, size) }

// StringSize is the length of AppendString's encoding.
func StringSize(s []byte) int {
	if len(s) == 1 && s[0] < stringOffset {
		return 1
	}
	return headerSize(len(s)) + len(s)
}

// UintSize is the length of AppendUint's encoding.
func UintSize(v uint64) int {
	if v < stringOffset {
		return 1
	}
	return 1 + byteLen(v)
}

// ListSize is the length of a list whose payload is size bytes long.
func ListSize(size int) int { return headerSize(size) + size }

func headerSize(n int) int {
	if n <= shortMax {
		return 1
	}
	return 1 + byteLen(uint64(n))
}

func appendHeader(dst []byte, offset byte, n int) []byte {
	if n <= shortMax {
		return append(dst, offset+byte(n))
	}
	l := byteLen(uint64(n))
	dst = append(dst, offset+shortMax+byte(l))
	return appendBig(dst, uint64(n), l)
}

func appendBig(dst []byte, v uint64, n int) []byte {
	for i := n - 1; i >= 0; i-- {
		dst = append(dst, byte(v>>(8*i)))
	}
	return dst
}

func byteLen(v uint64) int { return (bits.Len64(v) + 7) / 8 }
