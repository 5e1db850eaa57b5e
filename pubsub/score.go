package pubsub

import (
	"iter"
	"maps"
	"math"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// maxRetained bounds the peers that have gone and whose scores are kept: who
// comes back under ever new identities must not fill the memory.
const maxRetained = 8192

// scorer keeps the counters behind peers' scores, as section "Peer Scoring" of
// gossipsub 1.1 has them. Counters are kept for the topics with parameters.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md#peer-scoring
//
// It has one owner.
type scorer struct {
	params     PeerScoreParams
	whitelist  []netip.Prefix
	peers      map[peer.ID]*peerStats
	ips        map[netip.Prefix]int // how many peers are there
	gone       []gonePeer           // oldest first
	deliveries deliveries
}

type peerStats struct {
	connected bool
	expire    time.Time // if not connected: when to forget it
	topics    map[string]*topicStats
	ips       []netip.Prefix
	behaviour float64 // P7
	slowness  float64 // P8
}

type topicStats struct {
	inMesh         bool
	graftTime      time.Time
	active         bool    // in the mesh for long enough for P3
	first          float64 // P2
	mesh           float64 // P3
	meshFailure    float64 // P3b
	invalid        float64 // P4
	lastTimeInMesh time.Duration
}

type gonePeer struct {
	p      peer.ID
	expire time.Time
}

// newScorer makes a scorer. The parameters are valid; they are not changed.
func newScorer(p *PeerScoreParams) *scorer {
	s := &scorer{params: *p, peers: map[peer.ID]*peerStats{}, ips: map[netip.Prefix]int{}}
	s.params.Topics = maps.Clone(p.Topics)
	if s.params.Topics == nil {
		s.params.Topics = map[string]*TopicScoreParams{}
	}
	if s.params.DecayInterval == 0 {
		s.params.DecayInterval = DefaultDecayInterval
	}
	if s.params.DecayToZero == 0 {
		s.params.DecayToZero = DefaultDecayToZero
	}
	for _, n := range p.IPColocationFactorWhitelist {
		addr, ok := netip.AddrFromSlice(n.IP)
		if ones, _ := n.Mask.Size(); ok {
			s.whitelist = append(s.whitelist, netip.PrefixFrom(addr.Unmap(), ones).Masked())
		}
	}
	s.deliveries.init(p.SeenMsgTTL)
	return s
}

// addPeer notes that p is connected, from ips.
func (s *scorer) addPeer(_ time.Time, p peer.ID, ips []netip.Addr) {
	ps := s.peers[p]
	if ps == nil {
		ps = &peerStats{topics: map[string]*topicStats{}}
		s.peers[p] = ps
	}
	ps.connected = true
	s.setIPs(p, ips)
}

// setIPs notes that p's connections come from ips now.
func (s *scorer) setIPs(p peer.ID, ips []netip.Addr) {
	ps := s.peers[p]
	if ps == nil {
		return
	}
	s.releaseIPs(ps)
	for _, prefix := range colocations(ips) {
		ps.ips = append(ps.ips, prefix)
		s.ips[prefix]++
	}
}

// removePeer notes that p is no longer connected. Counters are kept if the
// score is not above zero, so that nobody sheds one by reconnecting.
func (s *scorer) removePeer(now time.Time, p peer.ID) {
	ps := s.peers[p]
	if ps == nil || !ps.connected {
		return
	}
	if s.score(now, p) > 0 || s.params.RetainScore == 0 {
		s.forget(p)
		return
	}
	for topic, ts := range ps.topics {
		ts.first = 0
		s.leaveMesh(now, topic, ts)
	}
	ps.connected = false
	ps.expire = now.Add(s.params.RetainScore)
	s.gone = append(s.gone, gonePeer{p, ps.expire})
	if len(s.gone) > maxRetained {
		s.dropGone(1)
	}
}

// dropGone takes the n oldest off the list, and forgets those who have not
// come back since.
func (s *scorer) dropGone(n int) {
	for _, g := range s.gone[:n] {
		if ps := s.peers[g.p]; ps != nil && !ps.connected && ps.expire.Equal(g.expire) {
			s.forget(g.p)
		}
	}
	s.gone = append(s.gone[:0], s.gone[n:]...)
}

func (s *scorer) forget(p peer.ID) {
	s.releaseIPs(s.peers[p])
	delete(s.peers, p)
}

// graft notes that p is in our mesh of topic.
func (s *scorer) graft(now time.Time, p peer.ID, topic string) {
	if ts := s.stats(p, topic); ts != nil {
		ts.inMesh, ts.graftTime, ts.active, ts.lastTimeInMesh = true, now, false, 0
	}
}

// prune notes that p has left our mesh of topic.
func (s *scorer) prune(now time.Time, p peer.ID, topic string) {
	if ts := s.stats(p, topic); ts != nil {
		s.leaveMesh(now, topic, ts)
	}
}

// leaveMesh turns a deficit of deliveries into a penalty that stays: P3b.
func (s *scorer) leaveMesh(now time.Time, topic string, ts *topicStats) {
	if !ts.inMesh {
		return
	}
	tp := s.params.Topics[topic]
	ts.age(now, tp)
	if deficit := tp.MeshMessageDeliveriesThreshold - ts.mesh; ts.active && deficit > 0 {
		ts.meshFailure += deficit * deficit
	}
	ts.inMesh = false
}

// penalize counts n misbehaviours of p: P7.
func (s *scorer) penalize(p peer.ID, n int) {
	if ps := s.peers[p]; ps != nil {
		ps.behaviour += float64(n)
	}
}

// slow counts n messages that were dropped because p does not read: P8.
func (s *scorer) slow(p peer.ID, n int) {
	if ps := s.peers[p]; ps != nil {
		ps.slowness += float64(n)
	}
}

// invalid counts an invalid message from p at once: P4. It is for messages
// whose id cannot be trusted, by a bad signature say.
func (s *scorer) invalid(p peer.ID, topic string) {
	if ts := s.stats(p, topic); ts != nil {
		ts.invalid++
	}
}

// score is p's score now, zero if p is unknown.
func (s *scorer) score(now time.Time, p peer.ID) float64 {
	ps := s.peers[p]
	if ps == nil {
		return 0
	}
	var score float64
	for topic, ts := range ps.topics {
		tp := s.params.Topics[topic]
		ts.age(now, tp)
		score += tp.TopicWeight * ts.score(now, tp)
	}
	if limit := s.params.TopicScoreCap; limit > 0 {
		score = min(score, limit)
	}
	score += s.params.AppSpecificWeight * s.appScore(p)
	score += s.params.IPColocationFactorWeight * s.colocation(ps)
	if excess := ps.behaviour - s.params.BehaviourPenaltyThreshold; excess > 0 {
		score += s.params.BehaviourPenaltyWeight * excess * excess
	}
	if excess := ps.slowness - s.params.SlowPeerThreshold; excess > 0 {
		score += s.params.SlowPeerWeight * excess
	}
	return score
}

// age brings the time in the mesh up to date.
func (ts *topicStats) age(now time.Time, tp *TopicScoreParams) {
	if !ts.inMesh {
		return
	}
	ts.lastTimeInMesh = now.Sub(ts.graftTime)
	if ts.lastTimeInMesh > tp.MeshMessageDeliveriesActivation {
		ts.active = true
	}
}

// score is a topic's part of a score, before the topic's weight.
func (ts *topicStats) score(_ time.Time, tp *TopicScoreParams) float64 {
	var score float64
	if ts.inMesh && tp.TimeInMeshQuantum > 0 {
		quanta := float64(ts.lastTimeInMesh / tp.TimeInMeshQuantum)
		score += tp.TimeInMeshWeight * min(quanta, tp.TimeInMeshCap)
	}
	score += tp.FirstMessageDeliveriesWeight * ts.first
	if deficit := tp.MeshMessageDeliveriesThreshold - ts.mesh; ts.active && deficit > 0 {
		score += tp.MeshMessageDeliveriesWeight * deficit * deficit
	}
	score += tp.MeshFailurePenaltyWeight * ts.meshFailure
	return score + tp.InvalidMessageDeliveriesWeight*ts.invalid*ts.invalid
}

func (s *scorer) appScore(p peer.ID) float64 {
	if s.params.AppSpecificScore == nil {
		return 0
	}
	if v := s.params.AppSpecificScore(p); !math.IsNaN(v) {
		return v
	}
	return 0
}

// refresh decays all counters and forgets what has expired. It is to be called
// every DecayInterval.
func (s *scorer) refresh(now time.Time) {
	n := 0
	for n < len(s.gone) && now.After(s.gone[n].expire) {
		n++
	}
	s.dropGone(n)
	zero := s.params.DecayToZero
	for _, ps := range s.peers {
		if !ps.connected {
			continue // "no decay while disconnected": waiting must not pay
		}
		for topic, ts := range ps.topics {
			tp := s.params.Topics[topic]
			ts.age(now, tp)
			decay(&ts.first, tp.FirstMessageDeliveriesDecay, zero)
			decay(&ts.mesh, tp.MeshMessageDeliveriesDecay, zero)
			decay(&ts.meshFailure, tp.MeshFailurePenaltyDecay, zero)
			decay(&ts.invalid, tp.InvalidMessageDeliveriesDecay, zero)
		}
		decay(&ps.behaviour, s.params.BehaviourPenaltyDecay, zero)
		decay(&ps.slowness, s.params.SlowPeerDecay, zero)
	}
	s.deliveries.expire(now)
}

func decay(counter *float64, factor, zero float64) {
	if *counter *= factor; *counter < zero {
		*counter = 0
	}
}

// setTopic sets the parameters of a topic, or changes them; counters that
// exceed a new cap are cut.
func (s *scorer) setTopic(topic string, tp *TopicScoreParams) error {
	if err := tp.validate(); err != nil {
		return err
	}
	s.params.Topics[topic] = tp
	for _, ps := range s.peers {
		if ts := ps.topics[topic]; ts != nil {
			ts.first = min(ts.first, tp.FirstMessageDeliveriesCap)
			ts.mesh = min(ts.mesh, tp.MeshMessageDeliveriesCap)
		}
	}
	return nil
}

// snapshot is what p's score is made of, nil if p is unknown.
func (s *scorer) snapshot(now time.Time, p peer.ID) *PeerScoreSnapshot {
	ps := s.peers[p]
	if ps == nil {
		return nil
	}
	snap := &PeerScoreSnapshot{
		Score:              s.score(now, p),
		Topics:             map[string]*TopicScoreSnapshot{},
		AppSpecificScore:   s.appScore(p),
		IPColocationFactor: s.colocation(ps),
		BehaviourPenalty:   ps.behaviour,
		SlowPeerPenalty:    ps.slowness,
	}
	for topic, ts := range ps.topics {
		t := &TopicScoreSnapshot{
			FirstMessageDeliveries:   ts.first,
			MeshMessageDeliveries:    ts.mesh,
			InvalidMessageDeliveries: ts.invalid,
		}
		if ts.inMesh {
			t.TimeInMesh = ts.lastTimeInMesh
		}
		snap.Topics[topic] = t
	}
	return snap
}

// peersKnown lists the peers with counters, connected or retained.
func (s *scorer) peersKnown() iter.Seq[peer.ID] { return maps.Keys(s.peers) }

// stats returns p's counters in a topic, nil if p is unknown or the topic does
// not count.
func (s *scorer) stats(p peer.ID, topic string) *topicStats {
	ps := s.peers[p]
	if ps == nil || s.params.Topics[topic] == nil {
		return nil
	}
	ts := ps.topics[topic]
	if ts == nil {
		ts = &topicStats{}
		ps.topics[topic] = ts
	}
	return ts
}
