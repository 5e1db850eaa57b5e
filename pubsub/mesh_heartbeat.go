package pubsub

import (
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// heartbeat is the router's periodic work: it keeps every mesh within its
// bounds, emits gossip, and starts the counters of the next period.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md
// and https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.0.md#heartbeat
func (m *mesh) heartbeat(now time.Time) {
	m.tick++
	if m.tick%backoffGCTicks == 0 {
		m.backoffs.gc(now, backoffSlack*m.c.params.HeartbeatInterval)
	}
	m.ageRequests()
	for _, p := range m.peers {
		p.beat()
	}
	if m.c.flood {
		return
	}
	m.beating = true
	defer func() { m.beating = false }()
	m.connectDirect()
	for _, name := range slices.Sorted(maps.Keys(m.topics)) {
		t := m.topics[name]
		if t.joined {
			m.keepMesh(now, t)
		} else {
			m.keepFanout(now, t)
		}
	}
}

// beat starts the counters of a heartbeat.
func (p *meshPeer) beat() {
	p.quickGrafts, p.ihaveRPCs, p.ihaveIDs, p.asked, p.iwantIDs, p.iwantBytes = 0, 0, 0, 0, 0, 0
	p.pruned = nil
}

// ageRequests lets ids be asked for again in the heartbeat after the next.
// Longer would let a peer that announces first and never sends keep a message
// from us: the others announce it for HistoryGossip heartbeats only.
func (m *mesh) ageRequests() {
	m.requested, m.requestedBefore = m.requestedBefore, m.requested
	clear(m.requested)
}

// connectDirect asks for the direct peers that are not there, every
// DirectConnectTicks.
func (m *mesh) connectDirect() {
	if n := m.c.params.DirectConnectTicks; n > 0 && m.tick%n == 0 {
		m.dialDirect()
	}
}

func (m *mesh) dialDirect() {
	for _, id := range slices.Sorted(maps.Keys(m.direct)) {
		if p := m.peers[id]; p == nil || !p.up {
			m.out = append(m.out, action{kind: actConnect, peer: id})
		}
	}
}

// setDirect adds or removes a peering agreement.
func (m *mesh) setDirect(now time.Time, id peer.ID, direct bool) {
	if direct {
		m.direct[id] = struct{}{}
	} else {
		delete(m.direct, id)
	}
	p := m.peers[id]
	if p == nil || p.direct == direct {
		return
	}
	p.direct = direct
	for _, name := range slices.Sorted(maps.Keys(m.topics)) {
		t := m.topics[name]
		m.touch(t)
		if direct && t.mesh.has(p) {
			m.prunePeer(now, t, p, m.c.params.PruneBackoff, false)
		}
	}
}

// keepMesh brings the mesh of a joined topic within its bounds.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md#adaptive-gossip-dissemination
func (m *mesh) keepMesh(now time.Time, t *meshTopic) {
	c := &m.c.params
	if m.c.scoring {
		m.touch(t) // who is served at all follows the scores
	}
	for _, p := range t.mesh.clone() {
		if m.score(now, p) < 0 {
			m.prunePeer(now, t, p, c.PruneBackoff, false)
		}
	}
	if t.mesh.len() < c.Dlo {
		m.fill(now, t, c.D)
	}
	if t.mesh.len() >= c.Dhi {
		m.shrink(now, t)
	}
	if t.mesh.len() >= c.Dlo {
		m.graftOutbound(now, t)
	}
	if n := c.OpportunisticGraftTicks; n > 0 && m.tick%n == 0 && t.mesh.len() > 1 {
		m.graftOpportunistically(now, t)
	}
	m.emitGossip(now, t, &t.mesh)
}

// shrink keeps the Dscore best peers and random others up to D, and sees to
// it that Dout of them are ones that we dialled.
func (m *mesh) shrink(now time.Time, t *meshTopic) {
	c := &m.c.params
	plan := m.shuffled(t.mesh.list)
	slices.SortStableFunc(plan, func(a, b *meshPeer) int { return compareScores(m.score(now, b), m.score(now, a)) })
	rest := plan[min(c.Dscore, len(plan)):]
	m.rng.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	keepOutbound(plan, c.D, c.Dout)
	for _, p := range plan[min(c.D, len(plan)):] {
		m.prunePeer(now, t, p, c.PruneBackoff, true)
	}
}

func compareScores(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// keepOutbound moves peers that we dialled from behind the first d to their
// end, until dout of the first d are such, as far as there are enough.
func keepOutbound(plan []*meshPeer, d, dout int) {
	if len(plan) <= d {
		return
	}
	have := 0
	for _, p := range plan[:d] {
		if p.outbound {
			have++
		}
	}
	give := d - 1
	for take := d; take < len(plan) && have < dout; take++ {
		if !plan[take].outbound {
			continue
		}
		for give >= 0 && plan[give].outbound {
			give--
		}
		if give < 0 {
			return
		}
		plan[give], plan[take] = plan[take], plan[give]
		have++
	}
}

// graftOutbound fills the quota of mesh peers that we dialled: an attacker
// can open many connections to us, and none from us.
func (m *mesh) graftOutbound(now time.Time, t *meshTopic) {
	have := 0
	for _, p := range t.mesh.list {
		if p.outbound {
			have++
		}
	}
	if have >= m.c.params.Dout {
		return
	}
	for _, p := range m.shuffled(t.peers.list) {
		if have >= m.c.params.Dout {
			return
		}
		if p.outbound && m.eligible(now, p, t) {
			m.graftPeer(now, t, p)
			have++
		}
	}
}

// graftOpportunistically adds peers that are better than the mesh's median,
// if that is below the threshold: a mesh of Sybils that score just above
// zero is left that way.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md#opportunistic-grafting
func (m *mesh) graftOpportunistically(now time.Time, t *meshTopic) {
	if !m.c.scoring {
		return
	}
	scores := make([]float64, 0, t.mesh.len())
	for _, p := range t.mesh.list {
		scores = append(scores, m.score(now, p))
	}
	slices.Sort(scores)
	median := scores[len(scores)/2]
	if median >= m.c.thresholds.OpportunisticGraftThreshold {
		return
	}
	n := m.c.params.OpportunisticGraftPeers
	for _, p := range m.shuffled(t.peers.list) {
		if n == 0 {
			return
		}
		if m.eligible(now, p, t) && m.score(now, p) > median {
			m.graftPeer(now, t, p)
			n--
		}
	}
}

// keepFanout forgets fanout peers after FanoutTTL, replaces those that left
// or fell below the publish threshold, and gossips to the rest of the topic.
func (m *mesh) keepFanout(now time.Time, t *meshTopic) {
	if t.lastPub.IsZero() {
		return
	}
	m.touch(t)
	if now.Sub(t.lastPub) >= m.c.params.FanoutTTL {
		t.fanout, t.lastPub = peerSet{}, time.Time{}
		return
	}
	for _, p := range t.fanout.clone() {
		if !t.peers.has(p) || m.score(now, p) < m.c.thresholds.PublishThreshold {
			t.fanout.remove(p)
		}
	}
	m.fillFanout(now, t)
	m.emitGossip(now, t, &t.fanout)
}

// emitGossip advertises recent messages to random peers of the topic that
// are not in the set which gets them in full.
//
// "the maximum of Dlazy and GossipFactor × the number of eligible peers":
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md#adaptive-gossip-dissemination
func (m *mesh) emitGossip(now time.Time, t *meshTopic, served *peerSet) {
	ids := m.c.ids(t.name)
	if len(ids) == 0 {
		return
	}
	var to []*meshPeer
	for _, p := range t.peers.list {
		if p.features.has(featureMesh) && !p.direct && !served.has(p) && m.score(now, p) >= m.c.thresholds.GossipThreshold {
			to = append(to, p)
		}
	}
	n := max(m.c.params.Dlazy, int(m.c.params.GossipFactor*float64(len(to))))
	to = m.shuffled(to)
	m.rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	for _, p := range to[:min(n, len(to))] {
		m.out = append(m.out, action{kind: actIHave, peer: p.id, topic: t.name, ids: m.subset(ids)})
	}
}

// subset returns ids, or a random part of them if they are too many for one
// IHAVE: each peer gets another part.
func (m *mesh) subset(ids []string) []string {
	n := m.c.params.MaxIHaveLength
	if n <= 0 || len(ids) <= n {
		return ids
	}
	ids = slices.Clone(ids)
	m.rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids[:n]
}
