package pubsub

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/record"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/muster-p2p/muster/pubsub/wire"
)

// A dialer dials the peers that others named, a few at a time. What finds no
// room in its queue is dropped: there will be other names.
type dialer struct {
	ps    *PubSub
	queue chan peer.AddrInfo
}

func newDialer(ps *PubSub) *dialer {
	d := &dialer{ps: ps, queue: make(chan peer.AddrInfo, max(1, ps.cfg.Params.MaxPendingConnections))}
	for range max(1, ps.cfg.Params.Connectors) {
		ps.wg.Go(d.run)
	}
	return d
}

func (d *dialer) dial(pi peer.AddrInfo) {
	select {
	case d.queue <- pi:
	default:
	}
}

func (d *dialer) run() {
	for {
		select {
		case pi := <-d.queue:
			d.connect(pi)
		case <-d.ps.ctx.Done():
			return
		}
	}
}

func (d *dialer) connect(pi peer.AddrInfo) {
	ps := d.ps
	if ps.host.Network().Connectedness(pi.ID) == network.Connected {
		return
	}
	ctx, cancel := context.WithTimeout(ps.ctx, ps.cfg.Params.ConnectionTimeout)
	defer cancel()
	if err := ps.host.Connect(ctx, pi); err != nil {
		ps.log.Debug("dial failed", "peer", pi.ID, "err", err)
	}
}

// outPrune makes the PRUNE that the router decided on, with the signed
// records of the peers that it names.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md#prune-backoff-and-peer-exchange
func (ps *PubSub) outPrune(a action) wire.OutPrune {
	out := wire.OutPrune{Topic: a.topic, Backoff: uint64(a.backoff / time.Second)}
	if len(a.px) == 0 {
		return out
	}
	cab, ok := peerstore.GetCertifiedAddrBook(ps.host.Peerstore())
	for _, px := range a.px {
		info := wire.PeerInfo{ID: []byte(px.id)}
		if ok {
			info.Record = ps.recordOf(cab, px.id)
		}
		if ps.cfg.PublicPXOnly && info.Record == nil {
			continue
		}
		out.Peers = append(out.Peers, info)
	}
	return out
}

// keepRecord keeps the signed record that a peer gave of itself, to pass it on
// with a PRUNE: the host does not keep the records of others.
func (ps *PubSub) keepRecord(id peer.ID, env *record.Envelope) {
	if env == nil || !ps.cfg.PeerExchange || !id.MatchesPublicKey(env.PublicKey) {
		return
	}
	if cab, ok := peerstore.GetCertifiedAddrBook(ps.host.Peerstore()); ok {
		if _, err := cab.ConsumePeerRecord(env, peerstore.RecentlyConnectedAddrTTL); err != nil {
			ps.log.Debug("bad peer record", "peer", id, "err", err)
		}
	}
}

func (ps *PubSub) recordOf(cab peerstore.CertifiedAddrBook, id peer.ID) []byte {
	env := cab.GetPeerRecord(id)
	if env == nil {
		return nil
	}
	if ps.cfg.PublicPXOnly {
		rec, err := env.Record()
		pr, ok := rec.(*peer.PeerRecord)
		if err != nil || !ok || !slices.ContainsFunc(pr.Addrs, manet.IsPublicAddr) {
			return nil
		}
	}
	b, err := env.Marshal()
	if err != nil {
		return nil
	}
	return b
}

// acceptRecords dials the peers that a PRUNE named. A record that is not what
// it says it is drops its peer; a peer without record is only dialled if its
// addresses are known.
func (ps *PubSub) acceptRecords(px []pxPeer) {
	for _, p := range px {
		if p.id == ps.self || ps.blacklisted(p.id) {
			continue
		}
		if len(p.record) > 0 {
			if !ps.acceptRecord(p) {
				continue
			}
		} else if len(ps.host.Peerstore().Addrs(p.id)) == 0 {
			continue
		}
		ps.dials.dial(peer.AddrInfo{ID: p.id})
	}
}

func (ps *PubSub) acceptRecord(p pxPeer) bool {
	env, rec, err := record.ConsumeEnvelope(p.record, peer.PeerRecordEnvelopeDomain)
	if err != nil {
		ps.log.Debug("bad peer record", "peer", p.id, "err", err)
		return false
	}
	pr, ok := rec.(*peer.PeerRecord)
	if !ok || pr.PeerID != p.id || !p.id.MatchesPublicKey(env.PublicKey) {
		ps.log.Debug("peer record of another peer", "peer", p.id)
		return false
	}
	cab, ok := peerstore.GetCertifiedAddrBook(ps.host.Peerstore())
	if !ok {
		return false
	}
	_, err = cab.ConsumePeerRecord(env, peerstore.TempAddrTTL)
	return err == nil
}

// startDirect dials the direct peers once the initial delay has passed.
func (ps *PubSub) startDirect() {
	for _, d := range ps.cfg.DirectPeers {
		ps.addDirect(d)
	}
	if len(ps.cfg.DirectPeers) == 0 {
		return
	}
	ps.wg.Go(func() {
		t := time.NewTimer(ps.cfg.Params.DirectConnectInitialDelay)
		defer t.Stop()
		select {
		case <-t.C:
			ps.post(func(time.Time) { ps.mesh.dialDirect() })
		case <-ps.ctx.Done():
		}
	})
}

func (ps *PubSub) addDirect(pi peer.AddrInfo) {
	ps.directs.Store(pi.ID, struct{}{})
	ps.host.Peerstore().AddAddrs(pi.ID, pi.Addrs, peerstore.PermanentAddrTTL)
	ps.host.ConnManager().Protect(pi.ID, directTag)
}

// directTag keeps the connection manager from closing connections to direct peers.
const directTag = "pubsub:<direct>"

func (ps *PubSub) isDirect(id peer.ID) bool {
	_, ok := ps.directs.Load(id)
	return ok
}

// AddDirectPeer adds a peering agreement: the peer is kept connected and gets
// every message, outside the mesh. It should do the same for us.
func (ps *PubSub) AddDirectPeer(pi peer.AddrInfo) error {
	ps.addDirect(pi)
	return ps.do(func(now time.Time) {
		ps.mesh.setDirect(now, pi.ID, true)
		ps.dials.dial(pi)
	})
}

// RemoveDirectPeer ends a peering agreement. The connection stays.
func (ps *PubSub) RemoveDirectPeer(id peer.ID) error {
	ps.directs.Delete(id)
	ps.host.ConnManager().Unprotect(id, directTag)
	return ps.do(func(now time.Time) { ps.mesh.setDirect(now, id, false) })
}
