package main

import (
	"context"
	"crypto/sha256"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/muster-p2p/muster/pubsub"
	pb "github.com/muster-p2p/muster/pubsub/pb"
)

// ours is muster's.
type ours struct {
	ps    *pubsub.PubSub
	topic *pubsub.Topic
	sub   *pubsub.Subscription
	trace *ourTracer
}

func newOurs(ctx context.Context, h host.Host, o options) (node, error) {
	n := &ours{trace: &ourTracer{grafted: o.grafted}}
	opts := []pubsub.Option{pubsub.WithMaxMessageSize(maxMessage), pubsub.WithRawTracer(n.trace)}
	if o.unsigned {
		opts = append(opts, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
			pubsub.WithMessageIdFn(func(m *pb.Message) string {
				sum := sha256.Sum256(m.GetData())
				return string(sum[:20])
			}))
	}
	if o.wait {
		opts = append(opts, pubsub.WithBackpressure())
	}
	var err error
	n.ps, err = pubsub.NewGossipSub(ctx, h, opts...)
	return n, err
}

func (n *ours) join(_ context.Context, topic string, subscribe bool) (err error) {
	if n.topic, err = n.ps.Join(topic); err != nil {
		return err
	}
	if !subscribe {
		_, err = n.topic.Relay()
		return err
	}
	n.sub, err = n.topic.Subscribe(pubsub.WithBufferSize(1 << 14))
	return err
}

func (n *ours) publish(ctx context.Context, data []byte) error { return n.topic.Publish(ctx, data) }

func (n *ours) next(ctx context.Context) ([]byte, error) {
	m, err := n.sub.Next(ctx)
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

func (n *ours) duplicates() uint64 { return n.trace.dups.Load() }

type ourTracer struct {
	dups    atomic.Uint64
	grafted func()
}

func (t *ourTracer) DuplicateMessage(*pubsub.Message) { t.dups.Add(1) }
func (t *ourTracer) Graft(peer.ID, string) {
	if t.grafted != nil {
		t.grafted()
	}
}
func (t *ourTracer) OnNewOutboundStream(peer.ID, protocol.ID) {}
func (t *ourTracer) OnClosedOutboundStream(peer.ID)           {}
func (t *ourTracer) Join(string)                              {}
func (t *ourTracer) Leave(string)                             {}
func (t *ourTracer) Prune(peer.ID, string)                    {}
func (t *ourTracer) ValidateMessage(*pubsub.Message)          {}
func (t *ourTracer) DeliverMessage(*pubsub.Message)           {}
func (t *ourTracer) RejectMessage(*pubsub.Message, string)    {}
func (t *ourTracer) ThrottlePeer(peer.ID)                     {}
func (t *ourTracer) RecvRPC(*pubsub.RPC)                      {}
func (t *ourTracer) SendRPC(*pubsub.RPC, peer.ID)             {}
func (t *ourTracer) DropRPC(*pubsub.RPC, peer.ID)             {}
func (t *ourTracer) UndeliverableMessage(*pubsub.Message)     {}
