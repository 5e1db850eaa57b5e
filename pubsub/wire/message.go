package wire

import "math/bits"

// Message is one published message. A nil slice is an absent field, an empty
// one a field that is present and empty; signatures tell the two apart.
type Message struct {
	From, Data, Seqno, Topic, Signature, Key []byte

	// Raw is the encoded message as it was received: what is relayed, so that
	// fields this package does not know reach the next peer. Nil in a message
	// that was not decoded.
	Raw []byte

	// Field is Raw with its tag and length as it stood in the frame: what
	// [AppendPublishRaw] would write. Nil if the sender wrote those otherwise.
	Field []byte

	// SignedLen, if above zero, is the length of the prefix of Raw that the
	// author signed after [SignPrefix]. If zero, only [Message.AppendSigned]
	// can tell.
	SignedLen int

	extra bool // Raw has fields that we do not know
}

// Decode decodes raw, a message without tag and length, into m. The last value
// of a repeated field wins, as in all protobuf decoders.
func (m *Message) Decode(raw []byte) error {
	*m = Message{}
	if !m.decode(raw) {
		return ErrMalformed
	}
	return nil
}

// decode is Decode into a zero Message.
func (m *Message) decode(b []byte) bool {
	m.Raw = b
	var last uint64 // highest signed field so far
	prefix := true  // Raw up to here is what AppendSigned would write
	for i := 0; i < len(b); {
		start := i
		var tag uint64
		var val []byte
		if i+1 < len(b) && b[i] < 0x80 && b[i]&7 == bytesType && b[i+1] < 0x80 {
			// A tag and a length of one byte each, as all but the payload have.
			tag = uint64(b[i])
			i += 2 + int(b[i+1])
			if i > len(b) || tag < 1<<3 {
				return false
			}
			val = b[start+2 : i : i]
		} else {
			var next []byte
			var ok bool
			if tag, val, _, next, ok = field(b[i:]); !ok {
				return false
			}
			i = len(b) - len(next)
		}
		switch tag {
		case msgFrom:
			m.From = val
		case msgData:
			m.Data = val
		case msgSeqno:
			m.Seqno = val
		case msgTopic:
			m.Topic = val
		case msgSignature:
			m.Signature = val
			continue
		case msgKey:
			m.Key = val
			continue
		default:
			if wrongType(tag, 6) {
				return false
			}
			m.extra, prefix = true, false
			continue
		}
		// A signed field: still a prefix if it follows the smaller ones
		// directly and is written in the shortest way.
		if prefix && tag > last && start == m.SignedLen && i-start == fieldSize(len(val)) {
			last, m.SignedLen = tag, i
			continue
		}
		prefix = false
	}
	if !prefix {
		m.SignedLen = 0
	}
	return true
}

// SignPrefix stands before the message in what its author signs.
// https://github.com/libp2p/specs/blob/master/pubsub/README.md#message-signing
const SignPrefix = "libp2p-pubsub:"

// AppendSigned appends the bytes that the author signs: [SignPrefix] and the
// message without signature and key, its fields in number order, followed by
// those that we do not know in the order they came in.
//
// The specification leaves out only the signature; go, rust, js and nim leave
// out the key too, and so do we.
// https://github.com/libp2p/specs/blob/master/pubsub/README.md#message-signing
func (m *Message) AppendSigned(dst []byte) []byte {
	dst = append(dst, SignPrefix...)
	if m.SignedLen > 0 {
		return append(dst, m.Raw[:m.SignedLen]...)
	}
	dst = appendOptional(dst, msgFrom, m.From)
	dst = appendOptional(dst, msgData, m.Data)
	dst = appendOptional(dst, msgSeqno, m.Seqno)
	dst = appendOptional(dst, msgTopic, m.Topic)
	return m.appendExtra(dst)
}

func (m *Message) appendExtra(dst []byte) []byte {
	if !m.extra {
		return dst
	}
	for rest := m.Raw; len(rest) > 0; {
		tag, _, _, next, ok := field(rest)
		if !ok {
			break
		}
		if tag>>3 > 6 {
			dst = append(dst, rest[:len(rest)-len(next)]...)
		}
		rest = next
	}
	return dst
}

// AppendPublishRaw appends an RPC's entry for the encoded message raw.
func AppendPublishRaw(dst, raw []byte) []byte { return appendBytes(dst, rpcPublish, raw) }

// PublishSize is the length of an RPC's entry for a message of n bytes.
func PublishSize(n int) int { return fieldSize(n) }

// Fields is a message to be encoded. Nil slices are left out; the topic is
// always written.
type Fields struct {
	From, Data, Seqno []byte
	Topic             string
	Signature, Key    []byte
}

// Size is the length of the message without tag and length.
func (f *Fields) Size() int {
	return f.signedSize() + optionalSize(f.Signature) + optionalSize(f.Key)
}

func (f *Fields) signedSize() int {
	return optionalSize(f.From) + optionalSize(f.Data) + optionalSize(f.Seqno) + fieldSize(len(f.Topic))
}

// AppendMessage appends the message without tag and length.
func (f *Fields) AppendMessage(dst []byte) []byte {
	return f.AppendTail(append(f.appendBeforeData(dst), f.Data...))
}

// AppendSigned appends the bytes to be signed, from [SignPrefix] on.
func (f *Fields) AppendSigned(dst []byte) []byte {
	dst = append(dst, SignPrefix...)
	return f.appendSignedTail(append(f.appendBeforeData(dst), f.Data...))
}

// AppendHead appends an RPC's entry for the message up to where Data begins.
// AppendHead, Data and [Fields.AppendTail] together are the whole entry, so
// that a large payload need not be copied.
func (f *Fields) AppendHead(dst []byte) []byte {
	dst = append(dst, rpcPublish)
	dst = appendVarint(dst, uint64(f.Size()))
	return f.appendBeforeData(dst)
}

// AppendTail appends what follows Data.
func (f *Fields) AppendTail(dst []byte) []byte {
	dst = f.appendSignedTail(dst)
	dst = appendOptional(dst, msgSignature, f.Signature)
	return appendOptional(dst, msgKey, f.Key)
}

func (f *Fields) appendBeforeData(dst []byte) []byte {
	dst = appendOptional(dst, msgFrom, f.From)
	if f.Data == nil {
		return dst
	}
	dst = append(dst, msgData)
	return appendVarint(dst, uint64(len(f.Data)))
}

func (f *Fields) appendSignedTail(dst []byte) []byte {
	dst = appendOptional(dst, msgSeqno, f.Seqno)
	return appendBytes(dst, msgTopic, f.Topic)
}

// fieldSize is the length of a field of ours with n bytes of content.
func fieldSize(n int) int { return 1 + varintSize(uint64(n)) + n }

func varintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

func appendVarint(dst []byte, v uint64) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

func appendBytes[T ~string | ~[]byte](dst []byte, tag byte, val T) []byte {
	dst = append(dst, tag)
	dst = appendVarint(dst, uint64(len(val)))
	return append(dst, val...)
}

func appendOptional(dst []byte, tag byte, val []byte) []byte {
	if val == nil {
		return dst
	}
	return appendBytes(dst, tag, val)
}

func optionalSize(val []byte) int {
	if val == nil {
		return 0
	}
	return fieldSize(len(val))
}
