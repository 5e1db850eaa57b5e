package pubsub

import (
	"context"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// NewFloodSub starts floodsub on a host: every message goes to every
// connected peer of its topic. The end of ctx closes it.
func NewFloodSub(ctx context.Context, h host.Host, opts ...Option) (*PubSub, error) {
	return newFromOptions(ctx, h, Config{FloodSub: true}, opts)
}

// NewFloodsubWithProtocols is NewFloodSub with protocols of one's own.
func NewFloodsubWithProtocols(ctx context.Context, h host.Host, protos []protocol.ID, opts ...Option) (*PubSub, error) {
	return newFromOptions(ctx, h, Config{FloodSub: true, Protocols: protos}, opts)
}
