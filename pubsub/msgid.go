package pubsub

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"

	"github.com/libp2p/go-libp2p/core/peer"

	pb "github.com/muster-p2p/muster/pubsub/pb"
)

// MsgIdFunction makes a message's id, under which copies of it are recognised
// and which gossip announces. All peers of a topic must use the same one: the
// implementations' defaults differ, and between two of them nothing that is
// announced is ever recognised. It must not keep or change the message, which
// may be a view into a buffer, and may be called from many goroutines.
type MsgIdFunction func(pmsg *pb.Message) string //nolint:revive // the name that users of go-libp2p-pubsub know

// DefaultMsgIdFn is [MessageIDGo].
func DefaultMsgIdFn(pmsg *pb.Message) string { return MessageIDGo(pmsg) } //nolint:revive // see MsgIdFunction

// MessageIDGo is the id of go-libp2p-pubsub and of the specification: the
// author's peer id followed by the sequence number, both as bytes.
// https://github.com/libp2p/specs/blob/master/pubsub/README.md#message-identification
func MessageIDGo(m *pb.Message) string {
	var buf [64]byte // more than an Ed25519 author and eight bytes
	return string(append(append(buf[:0], m.GetFrom()...), m.GetSeqno()...))
}

// MessageIDRust is the default of rust-libp2p: the author in base58 followed by
// the sequence number in decimal. A message without an author counts as one of
// the peer id 00 01 00, one without a sequence number as number 0.
func MessageIDRust(m *pb.Message) string {
	from := m.GetFrom()
	if from == nil {
		from = []byte{0, 1, 0}
	}
	var seqno uint64
	if len(m.GetSeqno()) == 8 {
		seqno = binary.BigEndian.Uint64(m.GetSeqno())
	}
	return peer.ID(from).String() + strconv.FormatUint(seqno, 10)
}

// MessageIDNim is the default of nim-libp2p: the sequence number in hex
// followed by the author in base58.
func MessageIDNim(m *pb.Message) string {
	return hex.EncodeToString(m.GetSeqno()) + peer.ID(m.GetFrom()).String()
}

// MessageIDJS is the default of js-libp2p for signed messages: the author's
// public key, in its protobuf form, followed by the sequence number. The key is
// the message's or else the one that the author's peer id holds; if neither
// has one, the id is that of [MessageIDGo]. For unsigned messages js uses
// [MessageIDSHA256].
func MessageIDJS(m *pb.Message) string {
	key := m.GetKey()
	if len(key) == 0 {
		key = inlinedKey(m.GetFrom())
	}
	if key == nil {
		return MessageIDGo(m)
	}
	var buf [64]byte
	return string(append(append(buf[:0], key...), m.GetSeqno()...))
}

// MessageIDSHA256 is the SHA-256 of the data: for messages without an author.
func MessageIDSHA256(m *pb.Message) string {
	sum := sha256.Sum256(m.GetData())
	return string(sum[:])
}

// messageIDUnsigned is the id where unsigned messages may or may not have an
// author: that of go-libp2p-pubsub, or of js-libp2p.
func messageIDUnsigned(m *pb.Message) string {
	if len(m.GetFrom()) == 0 && len(m.GetSeqno()) == 0 {
		return MessageIDSHA256(m)
	}
	return MessageIDGo(m)
}

// Domains of [MessageIDEthereum], as the Ethereum consensus specification has
// them.
// https://github.com/ethereum/consensus-specs/blob/dev/specs/phase0/p2p-interface.md#configuration
var (
	EthereumDomainInvalidSnappy = [4]byte{0, 0, 0, 0}
	EthereumDomainValidSnappy   = [4]byte{1, 0, 0, 0}
)

// MessageIDEthereum makes the id function of the Ethereum consensus layer from
// Altair on: the first 20 bytes of the SHA-256 of a domain, the topic's length
// as 64 bits little-endian, the topic, and the payload. The payload is what
// decompress makes of the data, under validDomain, or if it returns an error
// the data itself, under invalidDomain. Decompress must bound what it returns.
// https://github.com/ethereum/consensus-specs/blob/dev/specs/altair/p2p-interface.md#topics-and-messages
func MessageIDEthereum(validDomain, invalidDomain [4]byte, decompress func([]byte) ([]byte, error)) MsgIdFunction {
	return func(m *pb.Message) string {
		domain, payload := invalidDomain, m.GetData()
		if plain, err := decompress(payload); err == nil {
			domain, payload = validDomain, plain
		}
		topic := m.GetTopic()
		h := sha256.New()
		var head [12]byte
		copy(head[:4], domain[:])
		binary.LittleEndian.PutUint64(head[4:], uint64(len(topic)))
		h.Write(head[:])
		h.Write([]byte(topic))
		h.Write(payload)
		return string(h.Sum(nil)[:20])
	}
}

// inlinedKey returns the public key, in its protobuf form, that a peer id
// holds if the key is at most 42 bytes long; nil if it holds only a hash. It
// is a view of the id.
// https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md#peer-ids
func inlinedKey(id []byte) []byte {
	const identity = 0x00 // the multihash that is the thing itself
	if len(id) < 2 || id[0] != identity || int(id[1]) != len(id)-2 {
		return nil
	}
	return id[2:]
}
