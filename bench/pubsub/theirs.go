package main

import (
	"context"
	"crypto/sha256"
	"sync/atomic"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
)

// theirs is go-libp2p-pubsub.
type theirs struct {
	ps    *pubsub.PubSub
	topic *pubsub.Topic
	sub   *pubsub.Subscription
	trace *theirTracer
}

func newTheirs(ctx context.Context, h host.Host, o options) (node, error) {
	n := &theirs{trace: &theirTracer{}}
	opts := []pubsub.Option{pubsub.WithMaxMessageSize(maxMessage)}
	if o.count {
		opts = append(opts, pubsub.WithRawTracer(n.trace))
	}
	if o.unsigned {
		opts = append(opts, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
			pubsub.WithMessageIdFn(func(m *pb.Message) string {
				sum := sha256.Sum256(m.GetData())
				return string(sum[:20])
			}))
	}
	var err error
	n.ps, err = pubsub.NewGossipSub(ctx, h, opts...)
	return n, err
}

func (n *theirs) join(_ context.Context, topic string, subscribe bool) (err error) {
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

func (n *theirs) publish(ctx context.Context, data []byte) error { return n.topic.Publish(ctx, data) }

func (n *theirs) next(ctx context.Context) ([]byte, error) {
	m, err := n.sub.Next(ctx)
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

func (n *theirs) duplicates() uint64 { return n.trace.dups.Load() }

// theirTracer counts duplicates, which muster does by itself.
type theirTracer struct {
	dups atomic.Uint64
}

func (t *theirTracer) DuplicateMessage(*pubsub.Message)         { t.dups.Add(1) }
func (t *theirTracer) Graft(peer.ID, string)                    {}
func (t *theirTracer) OnNewOutboundStream(peer.ID, protocol.ID) {}
func (t *theirTracer) OnClosedOutboundStream(peer.ID)           {}
func (t *theirTracer) Join(string)                              {}
func (t *theirTracer) Leave(string)                             {}
func (t *theirTracer) Prune(peer.ID, string)                    {}
func (t *theirTracer) ValidateMessage(*pubsub.Message)          {}
func (t *theirTracer) DeliverMessage(*pubsub.Message)           {}
func (t *theirTracer) RejectMessage(*pubsub.Message, string)    {}
func (t *theirTracer) ThrottlePeer(peer.ID)                     {}
func (t *theirTracer) RecvRPC(*pubsub.RPC)                      {}
func (t *theirTracer) SendRPC(*pubsub.RPC, peer.ID)             {}
func (t *theirTracer) DropRPC(*pubsub.RPC, peer.ID)             {}
func (t *theirTracer) UndeliverableMessage(*pubsub.Message)     {}

// unlimited is a resource manager that refuses nothing: the hosts of a mesh
// share one address.
func unlimited() network.ResourceManager {
	m, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.InfiniteLimits))
	if err != nil {
		panic(err)
	}
	return m
}
