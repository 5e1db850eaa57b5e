package wire

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers.
const (
	fieldKind = iota + 1
	fieldCall
	fieldPeer
	fieldService
	fieldAccess
	fieldStatus
	fieldText
	fieldToken
	fieldBearer
	fieldServers
	fieldNumber
	fieldCaller
	fieldSource
)

// Append appends m, without its length, to dst and returns the extended slice.
// What is empty is left out.
func Append(dst []byte, m *Message) []byte {
	dst = appendVarint(dst, fieldKind, uint64(m.Kind))
	if m.Call != [CallSize]byte{} {
		dst = protowire.AppendTag(dst, fieldCall, protowire.BytesType)
		dst = protowire.AppendBytes(dst, m.Call[:])
	}
	dst = appendString(dst, fieldPeer, string(m.Peer))
	dst = appendString(dst, fieldService, m.Service)
	dst = appendString(dst, fieldAccess, m.Access)
	dst = appendVarint(dst, fieldStatus, uint64(m.Status))
	dst = appendString(dst, fieldText, m.Text)
	dst = appendString(dst, fieldToken, m.Token)
	dst = appendString(dst, fieldBearer, m.Bearer)
	for _, s := range m.Servers {
		dst = protowire.AppendTag(dst, fieldServers, protowire.BytesType)
		dst = protowire.AppendString(dst, s)
	}
	dst = appendVarint(dst, fieldNumber, m.Number)
	dst = appendString(dst, fieldCaller, string(m.Caller))
	return appendString(dst, fieldSource, string(m.Source.AsSlice()))
}

func appendVarint(dst []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), v)
}

func appendString(dst []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return protowire.AppendString(protowire.AppendTag(dst, num, protowire.BytesType), s)
}

// AppendFrame appends m behind its length to dst.
func AppendFrame(dst []byte, m *Message) []byte {
	body := Append(make([]byte, 0, 128), m) // most messages
	dst = binary.AppendUvarint(dst, uint64(len(body)))
	return append(dst, body...)
}
