package wire

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/muster-p2p/muster/internal/protoskip"
)

// ErrMalformed says that bytes are not an RPC: truncated, or a known field of
// the wrong wire type. The sender is broken or hostile.
var ErrMalformed = errors.New("wire: malformed RPC")

// ErrLimit says that an RPC is longer than its limit.
var ErrLimit = errors.New("wire: RPC too large")

// Tags of the fields we know: number<<3 | wire type. All fit one byte.
const (
	varintType = 0
	bytesType  = 2

	rpcSubscriptions = 1<<3 | bytesType
	rpcPublish       = 2<<3 | bytesType
	rpcControl       = 3<<3 | bytesType

	subSubscribe = 1<<3 | varintType
	subTopic     = 2<<3 | bytesType

	subRequestsPartial = 3<<3 | varintType
	subSupportsPartial = 4<<3 | varintType

	msgFrom      = 1<<3 | bytesType
	msgData      = 2<<3 | bytesType
	msgSeqno     = 3<<3 | bytesType
	msgTopic     = 4<<3 | bytesType
	msgSignature = 5<<3 | bytesType
	msgKey       = 6<<3 | bytesType

	ctlIHave      = 1<<3 | bytesType
	ctlIWant      = 2<<3 | bytesType
	ctlGraft      = 3<<3 | bytesType
	ctlPrune      = 4<<3 | bytesType
	ctlIDontWant  = 5<<3 | bytesType
	ctlExtensions = 6<<3 | bytesType

	ihaveTopic = 1<<3 | bytesType
	ihaveID    = 2<<3 | bytesType
	idsID      = 1<<3 | bytesType // of IWant and IDontWant
	graftTopic = 1<<3 | bytesType

	pruneTopic   = 1<<3 | bytesType
	prunePeer    = 2<<3 | bytesType
	pruneBackoff = 3<<3 | varintType

	peerID     = 1<<3 | bytesType
	peerRecord = 2<<3 | bytesType
)

// field cuts the first field off b. val is its content if it is of bytes
// type, n if it is a varint; other types are skipped over. The tag is returned
// whole; rest is what follows. ok is false if b does not start with a field.
func field(b []byte) (tag uint64, val []byte, n uint64, rest []byte, ok bool) {
	// Nearly every field of an RPC has a tag of one byte and a length of one
	// or two, so those are read here and the rest by protowire.
	if len(b) >= 2 && b[0] < 0x80 && b[0]&7 == bytesType && b[0] >= 1<<3 {
		if b[1] < 0x80 {
			if end := 2 + int(b[1]); end <= len(b) {
				return uint64(b[0]), b[2:end:end], 0, b[end:], true
			}
			return 0, nil, 0, nil, false
		}
		if len(b) >= 3 && b[2] < 0x80 {
			if end := 3 + (int(b[1]&0x7f) | int(b[2])<<7); end <= len(b) {
				return uint64(b[0]), b[3:end:end], 0, b[end:], true
			}
			return 0, nil, 0, nil, false
		}
	}
	return slowField(b)
}

func slowField(b []byte) (tag uint64, val []byte, n uint64, rest []byte, ok bool) {
	num, typ, k := protowire.ConsumeTag(b)
	if k < 0 || num > protowire.MaxValidNumber {
		return 0, nil, 0, nil, false
	}
	tag = uint64(num)<<3 | uint64(typ)
	b = b[k:]
	switch typ {
	case protowire.BytesType:
		val, k = protowire.ConsumeBytes(b)
		if k >= 0 {
			val = val[:len(val):len(val)]
		}
	case protowire.VarintType:
		n, k = protowire.ConsumeVarint(b)
	default:
		k = protoskip.Value(num, typ, b)
	}
	if k < 0 {
		return 0, nil, 0, nil, false
	}
	return tag, val, n, b[k:], true
}

// wrongType reports whether tag names one of the first limit fields of a
// message: a caller's switch that did not match it has met a known field
// under a foreign wire type.
func wrongType(tag, limit uint64) bool { return tag>>3 <= limit }
