package pubsub

import (
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/pubsub/wire"
)

// sortedTopics returns the topics of p by name, so that what follows from
// walking them does not depend on the order of a map.
func (m *mesh) sortedTopics(p *meshPeer) []*meshTopic {
	s := make([]*meshTopic, 0, len(p.topics))
	for _, t := range p.topics {
		s = append(s, t)
	}
	slices.SortFunc(s, func(a, b *meshTopic) int { return strings.Compare(a.name, b.name) })
	return s
}

// control handles the control part of an RPC, whose bytes it does not keep.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.0.md#control-messages
func (m *mesh) control(now time.Time, id peer.ID, rpc *wire.RPC) {
	if m.c.flood || !rpc.HasControl {
		return
	}
	p := m.peer(id)
	m.ihave(now, p, rpc.IHave)
	m.iwant(now, p, rpc.IWant)
	for i := range rpc.Graft {
		m.graft(now, p, rpc.Graft[i].Topic)
	}
	for i := range rpc.Prune {
		m.prune(now, p, &rpc.Prune[i])
	}
}

// graft handles one GRAFT. The order of the checks decides who is punished.
func (m *mesh) graft(now time.Time, p *meshPeer, topic []byte) {
	t := m.topics[string(topic)]
	// "If the topic is not known, ignore": a PRUNE for any name that a
	// stranger invents would let it make us talk and remember.
	if t == nil || !t.joined || !m.c.filter(p.id, t.name) || t.mesh.has(p) {
		return
	}
	backoff := m.c.params.PruneBackoff
	switch {
	case p.direct:
		m.refuseGraft(now, t, p, backoff, false)
	case m.inBackoff(now, t, p, 0):
		m.penalizeGraft(now, t, p)
		m.refuseGraft(now, t, p, backoff, false)
	case m.score(now, p) < 0:
		m.refuseGraft(now, t, p, backoff, false)
	case t.mesh.len() >= m.c.params.Dhi && !p.outbound:
		m.refuseGraft(now, t, p, backoff, true)
	default:
		t.mesh.add(p)
		m.c.meshed(now, p.id, t.name, true)
		m.touch(t)
		m.out = append(m.out, action{kind: actAdded, peer: p.id, topic: t.name})
	}
}

// penalizeGraft punishes a GRAFT inside its back-off, and once more if it
// comes right after the PRUNE.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md#flood-protection
func (m *mesh) penalizeGraft(now time.Time, t *meshTopic, p *meshPeer) {
	m.c.refused(refusedGraft)
	n := 1
	pruned := m.backoffs.until(t.name, p.id).Add(-m.c.params.PruneBackoff)
	if now.Before(pruned.Add(m.c.params.GraftFloodThreshold)) {
		n = 2
	}
	m.c.penalize(now, p.id, n)
}

// refuseGraft answers a GRAFT by PRUNE, once per topic and heartbeat, however
// often the peer asks: the answers to 20,000 equal GRAFTs are one.
func (m *mesh) refuseGraft(now time.Time, t *meshTopic, p *meshPeer, backoff time.Duration, px bool) {
	if _, done := p.pruned[t.name]; done {
		m.backoffs.add(t.name, p.id, now.Add(backoff))
		return
	}
	if p.pruned == nil {
		p.pruned = make(map[string]struct{})
	}
	p.pruned[t.name] = struct{}{}
	m.sendPrune(now, t, p, backoff, px, false)
}

// prune handles one PRUNE.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md#prune-backoff-and-peer-exchange
func (m *mesh) prune(now time.Time, p *meshPeer, in *wire.Prune) {
	t := m.topics[string(in.Topic)]
	if t == nil || !t.joined {
		return
	}
	if m.dropFromMesh(now, t, p) {
		m.out = append(m.out, action{kind: actDropped, peer: p.id, topic: t.name})
	}
	m.backoffs.add(t.name, p.id, now.Add(m.clampBackoff(in)))
	if len(in.Peers) == 0 || m.score(now, p) < m.c.thresholds.AcceptPXThreshold {
		return
	}
	m.acceptPX(p, in.Peers)
}

func (m *mesh) clampBackoff(in *wire.Prune) time.Duration {
	if !in.HasBackoff || in.Backoff == 0 {
		return m.c.params.PruneBackoff
	}
	if in.Backoff > uint64(maxPruneBackoff/time.Second) {
		return maxPruneBackoff
	}
	return time.Duration(in.Backoff) * time.Second
}

// acceptPX takes at most PrunePeers random entries that we are not connected to.
func (m *mesh) acceptPX(p *meshPeer, in []wire.PeerInfo) {
	in = slices.Clone(in)
	m.rng.Shuffle(len(in), func(i, j int) { in[i], in[j] = in[j], in[i] })
	var px []pxPeer
	for _, e := range in {
		if len(px) == m.c.params.PrunePeers {
			break
		}
		id, err := peer.IDFromBytes(e.ID)
		if err != nil || m.peers[id] != nil {
			continue
		}
		px = append(px, pxPeer{id: id, record: slices.Clone(e.Record)})
	}
	if len(px) > 0 {
		m.out = append(m.out, action{kind: actRecords, peer: p.id, px: px})
	}
}

// ihave asks for what p advertises and we have not seen.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.0.md#ihave
func (m *mesh) ihave(now time.Time, p *meshPeer, in []wire.IHave) {
	if len(in) == 0 || m.score(now, p) < m.c.thresholds.GossipThreshold {
		return
	}
	// Only RPCs that hold an IHAVE count: counting every control RPC would
	// let ten IDONTWANTs silence a peer's gossip.
	p.ihaveRPCs++
	if p.ihaveRPCs > m.c.params.MaxIHaveMessages {
		m.c.refused(refusedIHave)
		return
	}
	var want []string
	for _, h := range in {
		t := m.topics[string(h.Topic)]
		if t == nil || !t.joined || !m.c.filter(p.id, t.name) {
			continue
		}
		want = m.wanted(now, p, h.IDs, want)
	}
	m.request(now, p, want)
}

// wanted appends to want the ids that we have not seen nor asked for.
func (m *mesh) wanted(now time.Time, p *meshPeer, ids [][]byte, want []string) []string {
	for _, id := range ids {
		if p.ihaveIDs >= m.c.params.MaxIHaveLength {
			m.c.refused(refusedIHave)
			return want
		}
		p.ihaveIDs++
		if m.alreadyRequested(id) || m.c.seen(now, id) {
			continue
		}
		want = append(want, string(id))
	}
	return want
}

func (m *mesh) alreadyRequested(id []byte) bool {
	if _, ok := m.requested[string(id)]; ok {
		return true
	}
	_, ok := m.requestedBefore[string(id)]
	return ok
}

// request sends IWANT for want, in random order and within what p may still
// be asked for in this heartbeat, and keeps one of the ids as p's promise.
func (m *mesh) request(now time.Time, p *meshPeer, want []string) {
	room := m.c.params.MaxIHaveLength - p.asked
	if len(want) == 0 || room <= 0 {
		return
	}
	m.rng.Shuffle(len(want), func(i, j int) { want[i], want[j] = want[j], want[i] })
	want = want[:min(room, len(want))]
	p.asked += len(want)
	for _, id := range want {
		if len(m.requested) < maxRequestedIDs {
			m.requested[id] = struct{}{}
		}
	}
	m.c.promise(now, p.id, want[m.rng.IntN(len(want))], want)
	m.out = append(m.out, action{kind: actIWant, peer: p.id, ids: want})
}

// iwant answers a pull from the message cache, at most GossipRetransmission
// times per message and peer.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.0.md#iwant
func (m *mesh) iwant(now time.Time, p *meshPeer, in []wire.IDList) {
	if len(in) == 0 || m.score(now, p) < m.c.thresholds.GossipThreshold {
		return
	}
	for _, l := range in {
		for _, id := range l.IDs {
			if p.iwantIDs >= m.c.params.MaxIHaveLength || p.iwantBytes >= m.c.maxIWantBytes {
				m.c.refused(refusedIWant)
				return
			}
			p.iwantIDs++
			m.answer(p, id)
		}
	}
}

func (m *mesh) answer(p *meshPeer, id []byte) {
	msg, count, size := m.c.fetch(id, p.id)
	switch {
	case msg == nil || !m.c.filter(p.id, msg.GetTopic()):
	case count > m.c.params.GossipRetransmission:
		m.c.refused(refusedIWant)
	default:
		p.iwantBytes += size
		m.out = append(m.out, action{kind: actSend, peer: p.id, topic: msg.GetTopic(), msg: msg})
	}
}
