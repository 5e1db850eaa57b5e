package pubsub

import (
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// A RawTracer is told what happens, when it happens and where: it must not
// block, call back, or change what it is shown. Methods may be called from
// several goroutines at once.
type RawTracer interface {
	// OnNewOutboundStream is called when our stream to a peer is open.
	OnNewOutboundStream(p peer.ID, proto protocol.ID)
	// OnClosedOutboundStream is called when it is gone.
	OnClosedOutboundStream(p peer.ID)
	// Join is called when we enter a topic.
	Join(topic string)
	// Leave is called when we leave one.
	Leave(topic string)
	// Graft is called when a peer enters our mesh.
	Graft(p peer.ID, topic string)
	// Prune is called when a peer leaves it.
	Prune(p peer.ID, topic string)
	// ValidateMessage is called when a message is about to be validated.
	ValidateMessage(msg *Message)
	// DeliverMessage is called when a message was accepted.
	DeliverMessage(msg *Message)
	// RejectMessage is called when one was not, with a Reject constant.
	RejectMessage(msg *Message, reason string)
	// DuplicateMessage is called when a message came again.
	DuplicateMessage(msg *Message)
	// ThrottlePeer is called when the peer gater drops a peer's messages.
	ThrottlePeer(p peer.ID)
	// RecvRPC is called when an RPC was received.
	RecvRPC(rpc *RPC)
	// SendRPC is called when an RPC is about to be written.
	SendRPC(rpc *RPC, p peer.ID)
	// DropRPC is called when something was not sent for want of room or time.
	DropRPC(rpc *RPC, p peer.ID)
	// UndeliverableMessage is called when a subscription lost a message.
	UndeliverableMessage(msg *Message)
}

// tracers tells everyone who listens. With nobody listening each call costs
// a comparison.
type tracers struct {
	raw   []RawTracer
	event *eventTracers // nil without event tracers
}

func (t *tracers) init(ps *PubSub) {
	t.raw = ps.cfg.RawTracers
	if len(ps.cfg.EventTracers) > 0 {
		t.event = &eventTracers{ps: ps, to: ps.cfg.EventTracers}
		t.raw = append(append([]RawTracer(nil), t.raw...), t.event)
	}
}

func (t *tracers) active() bool { return len(t.raw) > 0 }

func (t *tracers) opened(p peer.ID, proto protocol.ID) {
	for _, r := range t.raw {
		r.OnNewOutboundStream(p, proto)
	}
}

func (t *tracers) closed(p peer.ID) {
	for _, r := range t.raw {
		r.OnClosedOutboundStream(p)
	}
}

func (t *tracers) join(topic string) {
	for _, r := range t.raw {
		r.Join(topic)
	}
}

func (t *tracers) leave(topic string) {
	for _, r := range t.raw {
		r.Leave(topic)
	}
}

func (t *tracers) graft(p peer.ID, topic string) {
	for _, r := range t.raw {
		r.Graft(p, topic)
	}
}

func (t *tracers) prune(p peer.ID, topic string) {
	for _, r := range t.raw {
		r.Prune(p, topic)
	}
}

func (t *tracers) validate(m *Message) {
	for _, r := range t.raw {
		r.ValidateMessage(m)
	}
}

func (t *tracers) deliver(m *Message) {
	for _, r := range t.raw {
		r.DeliverMessage(m)
	}
}

func (t *tracers) reject(m *Message, reason string) {
	for _, r := range t.raw {
		r.RejectMessage(m, reason)
	}
}

func (t *tracers) duplicate(m *Message) {
	for _, r := range t.raw {
		r.DuplicateMessage(m)
	}
}

func (t *tracers) throttle(p peer.ID) {
	for _, r := range t.raw {
		r.ThrottlePeer(p)
	}
}

func (t *tracers) recvRPC(rpc *RPC) {
	for _, r := range t.raw {
		r.RecvRPC(rpc)
	}
}

func (t *tracers) sendRPC(rpc *RPC, p peer.ID) {
	for _, r := range t.raw {
		r.SendRPC(rpc, p)
	}
}

func (t *tracers) dropRPC(rpc *RPC, p peer.ID) {
	for _, r := range t.raw {
		r.DropRPC(rpc, p)
	}
}

func (t *tracers) undeliverable(m *Message) {
	for _, r := range t.raw {
		r.UndeliverableMessage(m)
	}
}

// publish is for event tracers only: RawTracer has no method for it.
func (t *tracers) publish(m *Message) {
	if t.event != nil {
		t.event.publish(m)
	}
}
