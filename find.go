package muster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/enr"
	"github.com/muster-p2p/muster/rendezvous"
)

// Find is the wing that looks for peers: by name at points, and without a
// server by discv5.
type Find struct {
	names atomic.Pointer[rendezvous.Discovery]
	nodes atomic.Pointer[discv5.Node]
}

func (n *Node) startFind(context.Context) error {
	cfg := rendezvous.DiscoveryConfig{
		Client: rendezvous.ClientConfig{Waku: n.cfg.Find.Waku, Logger: n.cfg.Logger},
		Points: n.cfg.Points, Interval: n.cfg.Find.Interval, Logger: n.cfg.Logger,
	}
	if n.Point != nil {
		cfg.Point = n.Point.rendezvous
	}
	d := rendezvous.NewDiscovery(n.inner, cfg)
	n.onClose(d.Close)
	n.Find.names.Store(d)
	if n.cfg.Find.Discv5 == nil {
		return nil
	}
	node, err := n.listenDiscv5(*n.cfg.Find.Discv5)
	if err != nil {
		return err
	}
	n.onClose(node.Close)
	n.Find.nodes.Store(node)
	return nil
}

func (n *Node) listenDiscv5(cfg discv5.Config) (*discv5.Node, error) {
	if cfg.Logger == nil {
		cfg.Logger = n.cfg.Logger
	}
	if cfg.Registerer == nil {
		cfg.Registerer = n.cfg.Registerer
	}
	own, err := enr.PrivateKeyOf(n.cfg.Key)
	if err == nil && cfg.Key == nil {
		cfg.Key = own
	}
	if cfg.Key == nil {
		if cfg.Key, err = enr.GenerateKey(); err != nil {
			return nil, fmt.Errorf("muster: make a node identity: %w", err)
		}
	}
	cfg.Entries = cfg.Entries.Clone()
	// Who finds a record with a TCP port takes its key for that of a libp2p peer.
	if own != nil && enr.PeerIDOf(cfg.Key.Public()) == n.host.ID() {
		for _, a := range n.host.Addrs() {
			tellTCP(&cfg.Entries, a)
		}
	}
	for _, listen := range cfg.Listen {
		if ip := n.addrLike(listen.Addr()); ip.IsValid() && listen.Port() != 0 {
			cfg.Entries.SetUDPEndpoint(netip.AddrPortFrom(ip, listen.Port()))
		}
	}
	return discv5.Listen(cfg)
}

// addrLike returns an address of this machine to name in a record until peers
// have agreed on one, for a socket that is bound to all addresses of a family.
// The loopback address is nobody else's.
func (n *Node) addrLike(bound netip.Addr) netip.Addr {
	if !bound.IsUnspecified() {
		return netip.Addr{}
	}
	var private netip.Addr
	for _, a := range n.host.Addrs() {
		ip := addrPortOf(toNetAddr(a)).Addr()
		switch {
		case ip.Is4() != bound.Is4() || !ip.IsGlobalUnicast():
		case manet.IsPublicAddr(a):
			return ip
		case !private.IsValid():
			private = ip
		}
	}
	return private
}

// tellTCP enters the port of a listening address into a record.
func tellTCP(c *enr.Content, a ma.Multiaddr) {
	na, err := manet.ToNetAddr(a)
	if err != nil {
		return
	}
	ap := addrPortOf(na)
	switch {
	case !ap.IsValid():
	case ap.Addr().Is4():
		c.SetTCP(ap.Port())
	default:
		c.SetTCP6(ap.Port())
	}
}

// Register registers this node under a name at all points, and keeps it there
// until ctx ends. It succeeds if one point has taken it.
func (f *Find) Register(ctx context.Context, name string) error {
	d := f.names.Load()
	if d == nil {
		return ErrNotStarted
	}
	_, err := d.Advertise(ctx, name)
	return err
}

// Peers asks all points at once and returns up to limit peers under a name,
// each with its best record; zero is no limit. It is an error if no point
// answered and nobody is known.
func (f *Find) Peers(ctx context.Context, name string, limit int) ([]rendezvous.Found, error) {
	d := f.names.Load()
	if d == nil {
		return nil, ErrNotStarted
	}
	found, err := d.Request(ctx, name, limit)
	if err != nil && errors.Is(err, rendezvous.ErrNoPoints) {
		if local := d.RequestLocally(name); len(local) > 0 {
			return local, nil
		}
	}
	return found, err
}

// Watch sends the peers under a name and then what changes, until ctx ends;
// then the channel is closed.
func (f *Find) Watch(ctx context.Context, name string) (<-chan rendezvous.Event, error) {
	d := f.names.Load()
	if d == nil {
		return nil, ErrNotStarted
	}
	return d.Watch(ctx, name)
}

// Names returns what the wing asks points by: a go-libp2p discovery.Discovery,
// nil before Start.
func (f *Find) Names() *rendezvous.Discovery { return f.names.Load() }

// Nodes returns the discv5 node, nil before Start and if there is none.
func (f *Find) Nodes() *discv5.Node { return f.nodes.Load() }
