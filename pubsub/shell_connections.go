package pubsub

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

// A notifiee hears of connections.
type notifiee PubSub

// Listen does nothing: it is part of network.Notifiee.
func (*notifiee) Listen(network.Network, ma.Multiaddr) {}

// ListenClose does nothing: it is part of network.Notifiee.
func (*notifiee) ListenClose(network.Network, ma.Multiaddr) {}

// Connected notes a new connection.
func (n *notifiee) Connected(_ network.Network, c network.Conn) {
	(*PubSub)(n).connected(c.RemotePeer())
}

// Disconnected notes the end of one.
func (n *notifiee) Disconnected(_ network.Network, c network.Conn) {
	ps, id := (*PubSub)(n), c.RemotePeer()
	ps.post(func(now time.Time) {
		if !ps.usable(id) {
			ps.dropPeer(now, id)
		}
	})
}

// usable reports whether there is a connection to id that we may use.
func (ps *PubSub) usable(id peer.ID) bool {
	switch ps.host.Network().Connectedness(id) {
	case network.Connected:
		return true
	case network.Limited:
		return ps.cfg.AllowLimited
	default:
		return false
	}
}

func (ps *PubSub) connected(id peer.ID) {
	ps.post(func(time.Time) {
		if !ps.usable(id) {
			return
		}
		if p := ps.peers[id]; p != nil {
			signal(p.fresh) // what failed on the other connections may not on this one
			return
		}
		ps.addPeer(id)
	})
}

// watchProtocols retries peers that did not speak our protocols, and now may.
func (ps *PubSub) watchProtocols(sub event.Subscription) {
	defer func() { _ = sub.Close() }()
	for {
		select {
		case ev, ok := <-sub.Out():
			if !ok {
				return
			}
			var id peer.ID
			switch e := ev.(type) {
			case event.EvtPeerProtocolsUpdated:
				id = e.Peer
			case event.EvtPeerIdentificationCompleted:
				id = e.Peer
				ps.keepRecord(id, e.SignedPeerRecord)
			}
			ps.post(func(time.Time) {
				if p := ps.peers[id]; p != nil {
					p.mayRetry()
				}
			})
		case <-ps.ctx.Done():
			return
		}
	}
}

// addPeer returns the Peer of id, made if it is new. It runs on the owner.
func (ps *PubSub) addPeer(id peer.ID) *Peer {
	if p := ps.peers[id]; p != nil {
		return p
	}
	if ps.ctx.Err() != nil || id == ps.self || ps.blacklisted(id) {
		return nil
	}
	p := newPeer(ps, id)
	ps.peers[id] = p
	ps.mesh.peer(id)
	ps.storePeers()
	ps.scorePeer(id)
	return p
}

func (ps *PubSub) storePeers() {
	list := make([]*Peer, 0, len(ps.peers))
	for _, p := range ps.peers {
		list = append(list, p)
	}
	ps.peerList.Store(&list)
}

// dropPeer forgets a peer. It runs on the owner.
func (ps *PubSub) dropPeer(now time.Time, id peer.ID) {
	p := ps.peers[id]
	if p == nil {
		return
	}
	p.close()
	ps.peerLeft(id, ps.mesh.peer(id).topics)
	ps.mesh.remove(now, id)
	ps.act(now) // tells tracers while the peer is known
	delete(ps.peers, id)
	ps.storePeers()
	ps.unscorePeer(now, id)
	ps.promiseMu.Lock()
	ps.promises.forget(id)
	ps.promiseMu.Unlock()
}

// openStream opens an outbound stream to a peer.
func (ps *PubSub) openStream(ctx context.Context, id peer.ID, protos ...protocol.ID) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "pubsub"), openTimeout)
	defer cancel()
	if ps.cfg.AllowLimited {
		ctx = network.WithAllowLimitedConn(ctx, "pubsub")
	}
	return ps.host.NewStream(ctx, id, protos...)
}

// peerOpened tells the router what may be sent to a peer.
func (ps *PubSub) peerOpened(p *Peer, s network.Stream) {
	var f features
	for feat, bit := range map[GossipSubFeature]features{
		GossipSubFeatureMesh: featureMesh, GossipSubFeaturePX: featurePX,
		GossipSubFeatureIdontwant: featureIDontWant, GossipSubFeatureExtensions: featureExtensions,
	} {
		if ps.cfg.FeatureTest(feat, s.Protocol()) {
			f |= bit
		}
	}
	_ = ps.do(func(now time.Time) {
		if ps.peers[p.id] == p {
			ps.mesh.opened(now, p.id, f, ps.dialled(p.id))
			ps.trace.opened(p.id, s.Protocol())
		}
	})
}

func (ps *PubSub) peerClosed(p *Peer) {
	ps.post(func(now time.Time) {
		if ps.peers[p.id] == p {
			ps.mesh.closed(now, p.id)
			ps.trace.closed(p.id)
		}
	})
}

// dialled reports whether we opened a connection to id.
func (ps *PubSub) dialled(id peer.ID) bool {
	for _, c := range ps.host.Network().ConnsToPeer(id) {
		if c.Stat().Direction == network.DirOutbound {
			return true
		}
	}
	return false
}

// topicsIn returns the topics we are in, for a stream that opens.
func (ps *PubSub) topicsIn() []string { return *ps.joined.Load() }

// Peer returns the peer with this id, or nil if it is not connected.
func (ps *PubSub) Peer(id peer.ID) *Peer {
	for _, p := range *ps.peerList.Load() {
		if p.id == id {
			return p
		}
	}
	return nil
}

// Peers returns all connected peers, whether they speak pubsub or not.
func (ps *PubSub) Peers() []*Peer {
	return append([]*Peer(nil), *ps.peerList.Load()...)
}
