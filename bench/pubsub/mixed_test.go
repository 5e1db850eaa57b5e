package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"

	mpubsub "github.com/muster-p2p/muster/pubsub"
)

// TestMixed lets both libraries share a mesh: what each publishes, all get,
// once. Otherwise the comparison would be of two things that cannot replace
// each other.
func TestMixed(t *testing.T) {
	for _, tt := range []struct {
		name         string
		their, our   func(context.Context, host.Host, options) (node, error)
		hosts, count int
	}{
		{"signed", newTheirs, newOurs, 4, 500},
		{"unsigned, by content", unsigned(newTheirs), unsigned(newOurs), 4, 500},
		{"unsigned, with authors", theirStrictNoSign, ourStrictNoSign, 2, 500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &cluster{}
			ctx, cancel := context.WithCancel(t.Context())
			c.ctx = ctx
			t.Cleanup(func() {
				cancel()
				for _, h := range c.hosts {
					_ = h.Close()
				}
			})
			for i := range 2 * tt.hosts {
				h, err := newHost()
				if err != nil {
					t.Fatal(err)
				}
				c.hosts = append(c.hosts, h)
				make := tt.their
				if i%2 == 1 {
					make = tt.our
				}
				n, err := make(ctx, h, options{})
				if err != nil {
					t.Fatal(err)
				}
				if err := n.join(ctx, topicName, true); err != nil {
					t.Fatal(err)
				}
				c.nodes = append(c.nodes, n)
				for j := range i {
					if err := c.connect(i, j); err != nil {
						t.Fatal(err)
					}
				}
			}
			time.Sleep(3 * time.Second) // the meshes of go-libp2p-pubsub form at its heartbeats
			for round := range tt.count / 10 {
				for i := range 10 { // its queues lose what comes faster
					data := fmt.Appendf(nil, "%-32d", round*10+i)
					if err := c.nodes[i%len(c.nodes)].publish(ctx, data); err != nil {
						t.Fatal(err)
					}
				}
				for i, n := range c.nodes {
					got := map[string]int{}
					for range 10 {
						wait, cancel := context.WithTimeout(ctx, 20*time.Second)
						data, err := n.next(wait)
						cancel()
						if err != nil {
							t.Fatalf("round %d: host %d got %d of 10: %v", round, i, len(got), err)
						}
						if got[string(data)]++; got[string(data)] > 1 {
							t.Fatalf("round %d: host %d got %q twice", round, i, data)
						}
					}
				}
			}
		})
	}
}

func unsigned(make func(context.Context, host.Host, options) (node, error)) func(context.Context, host.Host, options) (node, error) {
	return func(ctx context.Context, h host.Host, o options) (node, error) {
		o.unsigned = true
		return make(ctx, h, o)
	}
}

// The policy alone, without WithNoAuthor and without an id function: messages
// have authors and sequence numbers, and no signatures.
func theirStrictNoSign(ctx context.Context, h host.Host, _ options) (node, error) {
	ps, err := pubsub.NewGossipSub(ctx, h, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign))
	return &theirs{ps: ps, trace: &theirTracer{}}, err
}

func ourStrictNoSign(ctx context.Context, h host.Host, _ options) (node, error) {
	ps, err := mpubsub.NewGossipSub(ctx, h, mpubsub.WithMessageSignaturePolicy(mpubsub.StrictNoSign))
	return &ours{ps: ps}, err
}
