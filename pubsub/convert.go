package pubsub

import (
	"errors"

	"github.com/libp2p/go-libp2p/core/peer"

	pb "github.com/muster-p2p/muster/pubsub/pb"
	"github.com/muster-p2p/muster/pubsub/wire"
)

// rpcOf copies a decoded view into structs of its own.
func rpcOf(w *wire.RPC, from peer.ID) *RPC {
	r := &RPC{from: from}
	for i := range w.Subscriptions {
		s := &w.Subscriptions[i]
		r.Subscriptions = append(r.Subscriptions, &pb.RPC_SubOpts{Subscribe: new(s.Subscribe), Topicid: new(string(s.Topic))})
	}
	for i := range w.Publish {
		r.Publish = append(r.Publish, messageOf(&w.Publish[i]))
	}
	if w.HasControl {
		r.Control = controlOf(w)
	}
	return r
}

func messageOf(w *wire.Message) *pb.Message {
	return &pb.Message{
		From: cloned(w.From), Data: cloned(w.Data), Seqno: cloned(w.Seqno), Topic: new(string(w.Topic)),
		Signature: cloned(w.Signature), Key: cloned(w.Key),
	}
}

// cloned copies b; nil stays nil and empty stays empty.
func cloned(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

func controlOf(w *wire.RPC) *pb.ControlMessage {
	c := &pb.ControlMessage{}
	for _, h := range w.IHave {
		c.Ihave = append(c.Ihave, &pb.ControlIHave{TopicID: new(string(h.Topic)), MessageIDs: stringsOf(h.IDs)})
	}
	for _, l := range w.IWant {
		c.Iwant = append(c.Iwant, &pb.ControlIWant{MessageIDs: stringsOf(l.IDs)})
	}
	for _, g := range w.Graft {
		c.Graft = append(c.Graft, &pb.ControlGraft{TopicID: new(string(g.Topic))})
	}
	for i := range w.Prune {
		in := &w.Prune[i]
		p := &pb.ControlPrune{TopicID: new(string(in.Topic))}
		if in.HasBackoff {
			p.Backoff = new(in.Backoff)
		}
		for _, e := range in.Peers {
			p.Peers = append(p.Peers, &pb.PeerInfo{PeerID: cloned(e.ID), SignedPeerRecord: cloned(e.Record)})
		}
		c.Prune = append(c.Prune, p)
	}
	for _, l := range w.IDontWant {
		c.Idontwant = append(c.Idontwant, &pb.ControlIDontWant{MessageIDs: stringsOf(l.IDs)})
	}
	return c
}

func stringsOf(ids [][]byte) []string {
	s := make([]string, len(ids))
	for i, id := range ids {
		s[i] = string(id)
	}
	return s
}

func bytesOf(ids []string) [][]byte {
	b := make([][]byte, len(ids))
	for i, id := range ids {
		b[i] = []byte(id)
	}
	return b
}

// appendRPC encodes r, without a length prefix.
func appendRPC(dst []byte, r *pb.RPC) []byte {
	var w wire.RPC
	for _, s := range r.Subscriptions {
		w.Subscriptions = append(w.Subscriptions, wire.SubOpts{Subscribe: s.GetSubscribe(), Topic: []byte(s.GetTopicid())})
	}
	for _, m := range r.Publish {
		f := fieldsOf(m)
		w.Publish = append(w.Publish, wire.Message{Raw: f.AppendMessage(nil)})
	}
	if c := r.Control; c != nil {
		w.HasControl = true
		for _, h := range c.Ihave {
			w.IHave = append(w.IHave, wire.IHave{Topic: []byte(h.GetTopicID()), IDs: bytesOf(h.MessageIDs)})
		}
		for _, l := range c.Iwant {
			w.IWant = append(w.IWant, wire.IDList{IDs: bytesOf(l.MessageIDs)})
		}
		for _, g := range c.Graft {
			w.Graft = append(w.Graft, wire.Graft{Topic: []byte(g.GetTopicID())})
		}
		for _, p := range c.Prune {
			w.Prune = append(w.Prune, wire.Prune{
				Topic: []byte(p.GetTopicID()), Backoff: p.GetBackoff(), HasBackoff: p.Backoff != nil, Peers: peersOf(p.Peers),
			})
		}
		for _, l := range c.Idontwant {
			w.IDontWant = append(w.IDontWant, wire.IDList{IDs: bytesOf(l.MessageIDs)})
		}
	}
	return wire.AppendRPC(dst, &w)
}

func peersOf(in []*pb.PeerInfo) []wire.PeerInfo {
	var out []wire.PeerInfo
	for _, p := range in {
		out = append(out, wire.PeerInfo{ID: p.PeerID, Record: p.SignedPeerRecord})
	}
	return out
}

func fieldsOf(m *pb.Message) wire.Fields {
	return wire.Fields{
		From: m.From, Data: m.Data, Seqno: m.Seqno, Topic: m.GetTopic(), Signature: m.Signature, Key: m.Key,
	}
}

var errNoMessage = errors.New("pubsub: an RPC with a nil message")

// messagesOf makes messages of the publish part of an RPC.
func messagesOf(r *pb.RPC, from peer.ID) ([]*Message, error) {
	out := make([]*Message, 0, len(r.Publish))
	for _, p := range r.Publish {
		if p == nil {
			return nil, errNoMessage
		}
		f := fieldsOf(p)
		raw := f.AppendMessage(nil)
		var w wire.Message
		if err := w.Decode(raw); err != nil {
			return nil, err
		}
		topic := p.GetTopic()
		out = append(out, newMessage(&w, &topic, from))
	}
	return out, nil
}
