// Package gohost makes the go-libp2p hosts of the Go peers and of the runner:
// TCP on loopback, Noise, yamux, no resource limits.
package gohost

import (
	"context"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

// New returns a host that listens on a free loopback port.
func New(more ...libp2p.Option) (host.Host, error) {
	opts := []libp2p.Option{
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.DisableRelay(),
	}
	return libp2p.New(append(opts, more...)...)
}

// Addr is the host's first listening address with its peer ID.
func Addr(h host.Host) string {
	return h.Addrs()[0].String() + "/p2p/" + h.ID().String()
}

// Connect dials addr, which ends in /p2p/ID, unless it is connected already.
func Connect(ctx context.Context, h host.Host, addr string) (peer.ID, error) {
	info, err := peer.AddrInfoFromString(addr)
	if err != nil {
		return "", err
	}
	return info.ID, h.Connect(ctx, *info)
}
