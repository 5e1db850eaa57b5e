package main

import (
	"context"
	"crypto/sha256"

	"github.com/libp2p/go-libp2p/core/host"

	"github.com/muster-p2p/muster/pubsub"
	pb "github.com/muster-p2p/muster/pubsub/pb"
)

// ours is muster's.
type ours struct {
	ps    *pubsub.PubSub
	topic *pubsub.Topic
	sub   *pubsub.Subscription
}

func newOurs(ctx context.Context, h host.Host, o options) (node, error) {
	n := &ours{}
	opts := []pubsub.Option{pubsub.WithMaxMessageSize(maxMessage)}
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

func (n *ours) duplicates() uint64 { return n.ps.Stats().Duplicates }
