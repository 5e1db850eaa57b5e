package pubsub

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// RandomSubID is the protocol of randomsub, which go-libp2p-pubsub defines.
const RandomSubID = protocol.ID("/randomsub/1.0.0")

// RandomSubD is the least number of randomsub peers that a message is sent to.
// It is read when a PubSub is made.
var RandomSubD = 6

// NewRandomSub starts randomsub on a host: every message goes to some of the
// topic's peers, drawn anew for each, as many as the square root of size, the
// expected number of peers in the network, and at least RandomSubD; and to all
// that speak floodsub only. Nothing repairs what the draw leaves out: it is for
// experiments and for networks that have it. The end of ctx closes it.
func NewRandomSub(ctx context.Context, h host.Host, size int, opts ...Option) (*PubSub, error) {
	if size < 0 {
		return nil, fmt.Errorf("pubsub: a network of %d peers", size)
	}
	fanOut := max(RandomSubD, int(math.Ceil(math.Sqrt(float64(size)))))
	cfg := Config{FloodSub: true, RandomPeers: fanOut, Protocols: []protocol.ID{RandomSubID, FloodSubID}}
	return newFromOptions(ctx, h, cfg, opts)
}

// floodFirst puts the peers that get every message before those of which some
// do, and returns how many the former are.
func floodFirst(list []*Peer) int {
	n := 0
	for i, p := range list {
		if p.Protocol() == FloodSubID {
			list[i], list[n] = list[n], list[i]
			n++
		}
	}
	return n
}

// draw returns whom of a topic's peers a message is sent to, but for the one
// it came from, which may be nil, and its author.
func (ps *PubSub) draw(tg *targets, from *Peer, author peer.ID) []*Peer {
	if ps.cfg.RandomPeers == 0 {
		return tg.relay
	}
	others := slices.DeleteFunc(slices.Clone(tg.relay[tg.flood:]), func(p *Peer) bool {
		return p == from || p.id == author
	})
	rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	return slices.Concat(tg.relay[:tg.flood], others[:min(ps.cfg.RandomPeers, len(others))])
}
