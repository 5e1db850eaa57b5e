package pubsub

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// act does what the router decided. It runs on the owner.
func (ps *PubSub) act(now time.Time) {
	for _, a := range ps.mesh.take() {
		ps.actOne(now, a)
	}
	for _, t := range ps.mesh.takeDirty() {
		ps.retarget(now, t)
	}
}

func (ps *PubSub) actOne(now time.Time, a action) {
	p := ps.peers[a.peer]
	switch a.kind {
	case actConnect:
		ps.dials.dial(peer.AddrInfo{ID: a.peer})
		return
	case actRecords:
		ps.acceptRecords(a.px)
		return
	default:
		if p == nil {
			return
		}
	}
	switch a.kind {
	case actGraft:
		p.SendGraft(a.topic)
		ps.trace.graft(a.peer, a.topic)
		ps.tag(a.peer, a.topic, true)
	case actAdded:
		ps.trace.graft(a.peer, a.topic)
		ps.tag(a.peer, a.topic, true)
	case actPrune:
		p.sendPrune(ps.outPrune(a))
		if a.left {
			ps.trace.prune(a.peer, a.topic)
			ps.tag(a.peer, a.topic, false)
		}
	case actDropped:
		ps.trace.prune(a.peer, a.topic)
		ps.tag(a.peer, a.topic, false)
	case actIHave:
		p.gossip(now, ihaveItem(a.topic, a.ids))
		ps.stats.ihaveSent.Add(uint64(len(a.ids)))
	case actIWant:
		p.gossip(now, iwantItem(a.ids))
		ps.stats.iwantSent.Add(uint64(len(a.ids)))
	case actSend:
		ps.stats.iwantServed.Add(1)
		ln := LaneGossip
		if a.msg.enc.size() >= ps.cfg.BulkSize {
			ln = LaneBulk
		}
		ps.sendTo(p, a.msg, ln)
	case actConnect, actRecords: // done above
	}
}

// meshTag protects mesh peers from the connection manager.
const meshTagWeight = 20

func (ps *PubSub) tag(p peer.ID, topic string, in bool) {
	cm := ps.host.ConnManager()
	if in {
		cm.TagPeer(p, "pubsub:"+topic, meshTagWeight)
	} else {
		cm.UntagPeer(p, "pubsub:"+topic)
	}
}

// retarget rebuilds the lists of peers that messages of a topic go to.
func (ps *PubSub) retarget(now time.Time, t *meshTopic) {
	ts := (*ps.topics.Load())[t.name]
	if ts == nil {
		return
	}
	var ids []peer.ID
	tg := &targets{relay: ps.lookup(ps.mesh.relayTargets(now, t, ids))}
	tg.publish = ps.lookup(ps.mesh.publishTargets(now, t, ids))
	for _, p := range t.mesh.list {
		if p.features.has(featureIDontWant) {
			if q := ps.peers[p.id]; q != nil {
				tg.dontWant = append(tg.dontWant, q)
			}
		}
	}
	if ps.cfg.RandomPeers > 0 {
		tg.flood = floodFirst(tg.relay)
	}
	ts.targets.Store(tg)
	ts.peers.Store(new(ps.idsOf(t)))
}

func (ps *PubSub) idsOf(t *meshTopic) []peer.ID {
	ids := make([]peer.ID, 0, t.peers.len())
	for _, p := range t.peers.list {
		ids = append(ids, p.id)
	}
	return ids
}

func (ps *PubSub) lookup(ids []peer.ID) []*Peer {
	out := make([]*Peer, 0, len(ids))
	for _, id := range ids {
		if p := ps.peers[id]; p != nil {
			out = append(out, p)
		}
	}
	return out
}
