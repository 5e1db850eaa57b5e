package pubsub

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	pb "github.com/muster-p2p/muster/pubsub/pb"
)

// An EventTracer is told what happens as events of one type. It must not
// block, and may be called from several goroutines at once.
type EventTracer interface {
	Trace(evt *pb.TraceEvent)
}

// eventTracers turns what raw tracers are told into events.
type eventTracers struct {
	ps *PubSub
	to []EventTracer
}

func (t *eventTracers) trace(kind pb.TraceEvent_Type, fill func(*pb.TraceEvent)) {
	ev := &pb.TraceEvent{
		Type: kind.Enum(), PeerID: []byte(t.ps.self), Timestamp: new(t.ps.now().Round(0).UnixNano()),
	}
	fill(ev)
	for _, e := range t.to {
		e.Trace(ev)
	}
}

var _ RawTracer = (*eventTracers)(nil)

func (t *eventTracers) publish(m *Message) {
	t.trace(pb.TraceEvent_PUBLISH_MESSAGE, func(ev *pb.TraceEvent) {
		ev.PublishMessage = &pb.TraceEvent_PublishMessage{MessageID: []byte(m.ID), Topic: m.Topic}
	})
}

func (t *eventTracers) OnNewOutboundStream(p peer.ID, proto protocol.ID) {
	t.trace(pb.TraceEvent_ON_NEW_OUTBOUND_STREAM, func(ev *pb.TraceEvent) {
		ev.OnNewOutboundStream = &pb.TraceEvent_OnNewOutboundStream{PeerID: []byte(p), Proto: new(string(proto))}
	})
}

func (t *eventTracers) OnClosedOutboundStream(p peer.ID) {
	t.trace(pb.TraceEvent_ON_CLOSED_OUTBOUND_STREAM, func(ev *pb.TraceEvent) {
		ev.OnClosedOutboundStream = &pb.TraceEvent_OnClosedOutboundStream{PeerID: []byte(p)}
	})
}

func (t *eventTracers) Join(topic string) {
	t.trace(pb.TraceEvent_JOIN, func(ev *pb.TraceEvent) { ev.Join = &pb.TraceEvent_Join{Topic: &topic} })
}

func (t *eventTracers) Leave(topic string) {
	t.trace(pb.TraceEvent_LEAVE, func(ev *pb.TraceEvent) { ev.Leave = &pb.TraceEvent_Leave{Topic: &topic} })
}

func (t *eventTracers) Graft(p peer.ID, topic string) {
	t.trace(pb.TraceEvent_GRAFT, func(ev *pb.TraceEvent) {
		ev.Graft = &pb.TraceEvent_Graft{PeerID: []byte(p), Topic: &topic}
	})
}

func (t *eventTracers) Prune(p peer.ID, topic string) {
	t.trace(pb.TraceEvent_PRUNE, func(ev *pb.TraceEvent) {
		ev.Prune = &pb.TraceEvent_Prune{PeerID: []byte(p), Topic: &topic}
	})
}

func (t *eventTracers) ValidateMessage(*Message) {}

func (t *eventTracers) DeliverMessage(m *Message) {
	t.trace(pb.TraceEvent_DELIVER_MESSAGE, func(ev *pb.TraceEvent) {
		ev.DeliverMessage = &pb.TraceEvent_DeliverMessage{
			MessageID: []byte(m.ID), Topic: m.Topic, ReceivedFrom: []byte(m.ReceivedFrom),
		}
	})
}

func (t *eventTracers) RejectMessage(m *Message, reason string) {
	t.trace(pb.TraceEvent_REJECT_MESSAGE, func(ev *pb.TraceEvent) {
		ev.RejectMessage = &pb.TraceEvent_RejectMessage{
			MessageID: []byte(m.ID), ReceivedFrom: []byte(m.ReceivedFrom), Reason: &reason, Topic: m.Topic,
		}
	})
}

func (t *eventTracers) DuplicateMessage(m *Message) {
	t.trace(pb.TraceEvent_DUPLICATE_MESSAGE, func(ev *pb.TraceEvent) {
		ev.DuplicateMessage = &pb.TraceEvent_DuplicateMessage{
			MessageID: []byte(m.ID), ReceivedFrom: []byte(m.ReceivedFrom), Topic: m.Topic,
		}
	})
}

func (t *eventTracers) ThrottlePeer(peer.ID) {}

func (t *eventTracers) RecvRPC(rpc *RPC) {
	t.trace(pb.TraceEvent_RECV_RPC, func(ev *pb.TraceEvent) {
		ev.RecvRPC = &pb.TraceEvent_RecvRPC{ReceivedFrom: []byte(rpc.from), Meta: t.meta(rpc)}
	})
}

func (t *eventTracers) SendRPC(rpc *RPC, p peer.ID) {
	t.trace(pb.TraceEvent_SEND_RPC, func(ev *pb.TraceEvent) {
		ev.SendRPC = &pb.TraceEvent_SendRPC{SendTo: []byte(p), Meta: t.meta(rpc)}
	})
}

func (t *eventTracers) DropRPC(rpc *RPC, p peer.ID) {
	t.trace(pb.TraceEvent_DROP_RPC, func(ev *pb.TraceEvent) {
		ev.DropRPC = &pb.TraceEvent_DropRPC{SendTo: []byte(p), Meta: t.meta(rpc)}
	})
}

func (t *eventTracers) UndeliverableMessage(*Message) {}

// meta describes an RPC without its payloads.
func (t *eventTracers) meta(rpc *RPC) *pb.TraceEvent_RPCMeta {
	meta := &pb.TraceEvent_RPCMeta{}
	for _, m := range rpc.Publish {
		meta.Messages = append(meta.Messages, &pb.TraceEvent_MessageMeta{MessageID: []byte(t.ps.messageID(m)), Topic: m.Topic})
	}
	for _, s := range rpc.Subscriptions {
		meta.Subscription = append(meta.Subscription, &pb.TraceEvent_SubMeta{Subscribe: s.Subscribe, Topic: s.Topicid})
	}
	if c := rpc.Control; c != nil {
		meta.Control = controlMeta(c)
	}
	return meta
}

func controlMeta(c *pb.ControlMessage) *pb.TraceEvent_ControlMeta {
	m := &pb.TraceEvent_ControlMeta{}
	for _, h := range c.Ihave {
		m.Ihave = append(m.Ihave, &pb.TraceEvent_ControlIHaveMeta{Topic: h.TopicID, MessageIDs: bytesOf(h.MessageIDs)})
	}
	for _, l := range c.Iwant {
		m.Iwant = append(m.Iwant, &pb.TraceEvent_ControlIWantMeta{MessageIDs: bytesOf(l.MessageIDs)})
	}
	for _, g := range c.Graft {
		m.Graft = append(m.Graft, &pb.TraceEvent_ControlGraftMeta{Topic: g.TopicID})
	}
	for _, p := range c.Prune {
		pm := &pb.TraceEvent_ControlPruneMeta{Topic: p.TopicID}
		for _, px := range p.Peers {
			pm.Peers = append(pm.Peers, px.PeerID)
		}
		m.Prune = append(m.Prune, pm)
	}
	for _, l := range c.Idontwant {
		m.Idontwant = append(m.Idontwant, &pb.TraceEvent_ControlIDontWantMeta{MessageIDs: bytesOf(l.MessageIDs)})
	}
	return m
}

// messageID returns the id of a message by its topic's function.
func (ps *PubSub) messageID(m *pb.Message) string {
	if t := (*ps.topics.Load())[m.GetTopic()]; t != nil && t.idFn != nil {
		return t.idFn(m)
	}
	return ps.cfg.MessageID(m)
}

// traceFlush is how long a tracer that writes a file may keep an event.
const traceFlush = time.Second
