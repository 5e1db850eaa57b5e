package pubsub

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// join enters a topic: fanout peers become mesh peers first, then others fill
// the mesh up to D.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.0.md#topic-membership
func (m *mesh) join(now time.Time, topic string) {
	t := m.topic(topic)
	if t.joined {
		return
	}
	t.joined = true
	m.touch(t)
	fanout := t.fanout
	t.fanout, t.lastPub = peerSet{}, time.Time{}
	for _, p := range fanout.list {
		if t.mesh.len() < m.c.params.D && m.eligible(now, p, t) {
			m.graftPeer(now, t, p)
		}
	}
	m.fill(now, t, m.c.params.D)
}

// fill grafts random eligible peers until the mesh has n.
func (m *mesh) fill(now time.Time, t *meshTopic, n int) {
	if t.mesh.len() >= n {
		return
	}
	for _, p := range m.shuffled(t.peers.list) {
		if t.mesh.len() >= n {
			return
		}
		if m.eligible(now, p, t) {
			m.graftPeer(now, t, p)
		}
	}
}

// leave leaves a topic: its mesh is pruned with the shorter back-off, which
// binds us as well.
func (m *mesh) leave(now time.Time, topic string) {
	t := m.topics[topic]
	if t == nil || !t.joined {
		return
	}
	t.joined = false
	m.touch(t)
	for _, p := range t.mesh.clone() {
		m.prunePeer(now, t, p, m.c.params.UnsubscribeBackoff, m.c.px)
	}
}

// publishing makes sure that a topic which we publish to without being in it
// has fanout peers, and keeps them for FanoutTTL from now.
func (m *mesh) publishing(now time.Time, topic string) {
	t := m.topic(topic)
	m.touch(t)
	if t.joined {
		return
	}
	t.lastPub = now
	m.fillFanout(now, t)
}

func (m *mesh) fillFanout(now time.Time, t *meshTopic) {
	if m.c.flood || t.fanout.len() >= m.c.params.D {
		return
	}
	for _, p := range m.shuffled(t.peers.list) {
		if t.fanout.len() >= m.c.params.D {
			return
		}
		if m.meshable(p) && m.score(now, p) >= m.c.thresholds.PublishThreshold && t.fanout.add(p) {
			m.touch(t)
		}
	}
}

// meshable reports whether p may get messages of ours in place of a mesh peer.
// One whose stream is not open yet may: they wait for it, and would be lost
// otherwise between its SUBSCRIBE and our stream to it.
func (m *mesh) meshable(p *meshPeer) bool {
	return !p.direct && (!p.up || p.features.has(featureMesh))
}

// relayTargets appends to dst the peers that a message in t is forwarded to,
// before the sender, the author and IDONTWANT are taken out.
func (m *mesh) relayTargets(now time.Time, t *meshTopic, dst []peer.ID) []peer.ID {
	if m.c.flood {
		for _, p := range t.peers.list {
			dst = append(dst, p.id)
		}
		return dst
	}
	for _, p := range t.mesh.list {
		dst = append(dst, p.id)
	}
	for _, p := range t.peers.list {
		if m.alwaysServed(now, p) && !t.mesh.has(p) {
			dst = append(dst, p.id)
		}
	}
	return dst
}

// reach returns how many peers a message of ours would be sent to or, for a
// topic that we are not in, could be.
func (m *mesh) reach(now time.Time, t *meshTopic) int {
	if t.joined && !m.c.flood {
		return len(m.relayTargets(now, t, nil))
	}
	n := 0
	for _, p := range t.peers.list {
		if p.up {
			n++
		}
	}
	return n
}

// alwaysServed reports whether p gets every message of its topics: direct
// peers, and peers that speak floodsub only and have a fair score.
func (m *mesh) alwaysServed(now time.Time, p *meshPeer) bool {
	if p.direct {
		return true
	}
	return p.up && !p.features.has(featureMesh) && m.score(now, p) >= m.c.thresholds.PublishThreshold
}

// publishTargets appends to dst the peers that get a message of our own.
func (m *mesh) publishTargets(now time.Time, t *meshTopic, dst []peer.ID) []peer.ID {
	if m.c.flood {
		return m.relayTargets(now, t, dst)
	}
	if m.c.floodOwn {
		for _, p := range t.peers.list {
			if p.direct || m.score(now, p) >= m.c.thresholds.PublishThreshold {
				dst = append(dst, p.id)
			}
		}
		for _, p := range t.mesh.list {
			if !t.peers.has(p) {
				dst = append(dst, p.id)
			}
		}
		return dst
	}
	dst = m.relayTargets(now, t, dst)
	for _, p := range t.fanout.list {
		if !m.alwaysServed(now, p) {
			dst = append(dst, p.id)
		}
	}
	return m.makeUpForMesh(now, t, dst)
}

// makeUpForMesh appends random peers while the mesh of a joined topic is
// short of them, because it was joined just now or back-offs hold: a message
// of our own should not go to nobody for want of a GRAFT.
func (m *mesh) makeUpForMesh(now time.Time, t *meshTopic, dst []peer.ID) []peer.ID {
	have := t.mesh.len()
	if !t.joined || have >= m.c.params.Dlo {
		return dst
	}
	for _, p := range m.shuffled(t.peers.list) {
		if have >= m.c.params.D {
			break
		}
		if m.meshable(p) && !t.mesh.has(p) && m.score(now, p) >= m.c.thresholds.PublishThreshold {
			dst = append(dst, p.id)
			have++
		}
	}
	return dst
}
