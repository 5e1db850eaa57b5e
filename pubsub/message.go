package pubsub

import (
	"github.com/libp2p/go-libp2p/core/peer"

	pb "github.com/muster-p2p/muster/pubsub/pb"
	"github.com/muster-p2p/muster/pubsub/wire"
)

// A Message is one message on a topic. It is shared by everyone who gets it,
// and by the router: neither the message nor the bytes it points to may be
// changed, but for ValidatorData while a validator has it.
type Message struct {
	*pb.Message

	// ID is what the topic's message-id function made of it. It is not
	// printable in general.
	ID string
	// ReceivedFrom is the peer that sent it to us, or our own id.
	ReceivedFrom peer.ID
	// ValidatorData is handed from validators to subscribers.
	ValidatorData any
	// Local says that it was published here, for here only
	// ([WithLocalPublication]); other messages of ours have our id as ReceivedFrom.
	Local bool

	value pb.Message // what Message points to
	enc   encoded    // as an entry of an RPC
	key   seenKey    // of ID
	size  int        // of the encoded message
	seqno [8]byte    // of our own
}

// GetFrom returns the author, which is not the peer that relayed the message,
// or an empty id if it has none.
func (m *Message) GetFrom() peer.ID { return peer.ID(m.Message.GetFrom()) }

// newMessage makes a message of a view; topic is the shared name of its topic.
func newMessage(w *wire.Message, topic *string, from peer.ID) *Message {
	m := &Message{
		ReceivedFrom: from,
		value: pb.Message{
			From: w.From, Data: w.Data, Seqno: w.Seqno, Topic: topic, Signature: w.Signature, Key: w.Key,
		},
		size: len(w.Raw),
	}
	m.Message = &m.value
	m.enc.head = w.Field
	if m.enc.head == nil {
		m.enc.head = wire.AppendPublishRaw(nil, w.Raw)
	}
	return m
}

// An RPC is what one peer sends another in one frame, decoded into structs of
// its own: observers, inspectors and tracers see it.
type RPC struct {
	pb.RPC
	from peer.ID
}

// From returns the peer that sent the RPC.
func (r *RPC) From() peer.ID { return r.from }
