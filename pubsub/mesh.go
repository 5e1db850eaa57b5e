package pubsub

import (
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Limits on what one peer may make the router remember.
const (
	// DefaultMaxPeerTopics is how many topics of one peer are remembered;
	// further subscriptions are ignored and counted. nim-libp2p has the same.
	DefaultMaxPeerTopics = 1024

	// DefaultMaxPeerTopicBytes bounds the names of these topics together.
	DefaultMaxPeerTopicBytes = 64 << 10

	// maxPruneBackoff clamps the back-off that a PRUNE asks for: without it
	// 2^62 seconds overflow, and an honest peer wants minutes.
	maxPruneBackoff = time.Hour

	// maxBackoffsPerTopic bounds the peers of a topic that we remember not to
	// GRAFT, of which there are no more than have been connected lately.
	maxBackoffsPerTopic = 4096

	// maxQuickGrafts bounds the GRAFTs that SUBSCRIBEs of one peer cause
	// before the next heartbeat; later ones wait for it.
	maxQuickGrafts = 64

	// maxRequestedIDs bounds the memory of ids that are being asked for.
	maxRequestedIDs = 20000

	// backoffGCTicks is how many heartbeats lie between two looks for expired
	// back-offs, and backoffSlack how long they are kept beyond their end: the
	// other side's clock started a round trip earlier, and it punishes a
	// GRAFT that is early by its own reckoning.
	backoffGCTicks = 15
	backoffSlack   = 2 // heartbeats
)

// features says what may be sent to a peer, by the protocol of our own
// outbound stream to it.
type features uint8

const (
	featureMesh       features = 1 << iota // GRAFT, PRUNE, IHAVE, IWANT: gossipsub 1.0
	featurePX                              // back-off and peers in PRUNE: 1.1
	featureIDontWant                       // IDONTWANT: 1.2
	featureExtensions                      // extensions: 1.3
)

func (f features) has(g features) bool { return f&g != 0 }

// A meshPeer is what the router knows about one peer.
type meshPeer struct {
	id       peer.ID
	features features // 0 until our outbound stream is open
	outbound bool     // we dialled it
	direct   bool     // under a peering agreement: never in a mesh
	up       bool     // our outbound stream is open

	topics     map[string]*meshTopic
	topicBytes int

	scored    uint64  // the last heartbeat in which it was scored
	scoreThen float64 // and what it was

	// Counters of the current heartbeat.
	quickGrafts int
	ihaveRPCs   int
	ihaveIDs    int // considered
	asked       int
	iwantIDs    int
	iwantBytes  int
	pruned      map[string]struct{} // topics whose GRAFT was answered by PRUNE
}

// A meshTopic is what the router knows about one topic.
type meshTopic struct {
	name    string
	joined  bool
	peers   peerSet // those that subscribed
	mesh    peerSet
	fanout  peerSet
	lastPub time.Time // of fanout
	dirty   bool
}

// idle reports whether nothing keeps t in memory.
func (t *meshTopic) idle() bool {
	return !t.joined && t.peers.len() == 0 && t.mesh.len() == 0 && t.fanout.len() == 0
}

// An actionKind says what the router wants done.
type actionKind uint8

const (
	actGraft   actionKind = iota // send GRAFT(topic); also a note that peer is in the mesh
	actPrune                     // send PRUNE(topic, backoff, px)
	actDropped                   // peer left the mesh without a PRUNE from us
	actAdded                     // peer entered the mesh without a GRAFT from us
	actIHave                     // send IHAVE(topic, ids)
	actIWant                     // send IWANT(ids)
	actSend                      // send the cached message
	actConnect                   // dial peer
	actRecords                   // dial the peers of px if their records are good
)

// An action is one thing that the router wants its shell to do.
type action struct {
	kind    actionKind
	peer    peer.ID
	topic   string
	backoff time.Duration
	left    bool // the mesh did hold peer: for actPrune
	ids     []string
	px      []pxPeer
	msg     *Message
}

// A pxPeer is a peer named by a PRUNE; record may be nil.
type pxPeer struct {
	id     peer.ID
	record []byte
}

// meshConfig configures a mesh. The functions must not call back into it.
type meshConfig struct {
	params     GossipSubParams
	thresholds PeerScoreThresholds
	scoring    bool // scores mean something: thresholds hold
	px         bool // send peers with PRUNE
	flood      bool // floodsub: every peer in a topic gets every message
	floodOwn   bool // flood publish: the same, for our own messages

	maxTopics, maxTopicBytes int
	maxIWantBytes            int // answers to one peer in a heartbeat

	score    func(now time.Time, p peer.ID) float64
	filter   func(p peer.ID, topic string) bool
	seen     func(now time.Time, id []byte) bool
	ids      func(topic string) []string                              // to be advertised
	fetch    func(id []byte, p peer.ID) (m *Message, count, size int) // from the message cache; nil if it is not there
	penalize func(now time.Time, p peer.ID, n int)                    // P7
	promise  func(now time.Time, p peer.ID, id string, ids []string)  // p was asked for ids, id stands for them
	meshed   func(now time.Time, p peer.ID, topic string, in bool)    // for P1 and P3
	refused  func(reason refusal)                                     // a limit was hit
}

// A mesh is gossipsub's router as a pure machine: every method takes the time
// and what happened, changes the state, and leaves what is to be done in out.
// It has one owner, no clock, no lock and no goroutine. Floodsub is the same
// machine with the mesh switched off.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.0.md#router-state
type mesh struct {
	c        meshConfig
	rng      *rand.Rand
	peers    map[peer.ID]*meshPeer
	topics   map[string]*meshTopic
	backoffs *backoffs
	direct   map[peer.ID]struct{}
	tick     uint64
	beating  bool // in a heartbeat, in which each peer is scored once: a score takes all topics

	// requested holds the ids asked for in this heartbeat and requestedBefore
	// those of the last, so that one message is not pulled from many.
	requested, requestedBefore map[string]struct{}

	out   []action
	dirty []*meshTopic // topics whose target lists changed
}

// A refusal is a limit that a peer hit.
type refusal uint8

const (
	refusedTopics    refusal = iota // too many topics of one peer
	refusedIHave                    // too much IHAVE in a heartbeat
	refusedIWant                    // too much IWANT in a heartbeat, or of one message
	refusedGraft                    // a GRAFT inside its back-off
	refusedIDontWant                // too much IDONTWANT in a heartbeat
	refusals
)

func newMesh(c meshConfig, rng *rand.Rand) *mesh {
	return &mesh{
		c:               c,
		rng:             rng,
		peers:           make(map[peer.ID]*meshPeer),
		topics:          make(map[string]*meshTopic),
		backoffs:        newBackoffs(maxBackoffsPerTopic),
		direct:          make(map[peer.ID]struct{}),
		requested:       make(map[string]struct{}),
		requestedBefore: make(map[string]struct{}),
	}
}

// take returns what is to be done since the last call. The slice is the
// caller's until the next call of any method.
func (m *mesh) take() []action {
	out := m.out
	m.out = m.out[len(m.out):]
	return out
}

// takeDirty returns the topics whose targets changed since the last call, and
// forgets those that nothing holds any more.
func (m *mesh) takeDirty() []*meshTopic {
	dirty := m.dirty
	m.dirty = nil
	for _, t := range dirty {
		t.dirty = false
		if t.idle() {
			delete(m.topics, t.name)
		}
	}
	return dirty
}

func (m *mesh) touch(t *meshTopic) {
	if !t.dirty {
		t.dirty = true
		m.dirty = append(m.dirty, t)
	}
}

func (m *mesh) topic(name string) *meshTopic {
	t := m.topics[name]
	if t == nil {
		t = &meshTopic{name: name}
		m.topics[name] = t
	}
	return t
}

// peer returns the record of id, made if it is new.
func (m *mesh) peer(id peer.ID) *meshPeer {
	p := m.peers[id]
	if p == nil {
		p = &meshPeer{id: id, topics: make(map[string]*meshTopic)}
		_, p.direct = m.direct[id]
		m.peers[id] = p
	}
	return p
}

func (m *mesh) score(now time.Time, p *meshPeer) float64 {
	switch {
	case !m.c.scoring:
		return 0
	case !m.beating:
		return m.c.score(now, p.id)
	case p.scored != m.tick:
		p.scored, p.scoreThen = m.tick, m.c.score(now, p.id)
	}
	return p.scoreThen
}

// opened records that our outbound stream to id is there, and what its
// protocol allows. A peer whose topics are known already is grafted at once.
func (m *mesh) opened(now time.Time, id peer.ID, f features, outbound bool) {
	p := m.peer(id)
	p.features, p.outbound, p.up = f, outbound, true
	for _, t := range p.topics {
		m.touch(t)
	}
	for _, t := range m.sortedTopics(p) {
		m.quickGraft(now, p, t)
	}
}

// closed records that our outbound stream to id is gone while the peer may
// still be there. What it subscribed to stays known.
func (m *mesh) closed(now time.Time, id peer.ID) {
	p := m.peers[id]
	if p == nil || !p.up {
		return
	}
	p.up, p.features = false, 0
	m.leaveAllMeshes(now, p)
}

// remove forgets a peer.
func (m *mesh) remove(now time.Time, id peer.ID) {
	p := m.peers[id]
	if p == nil {
		return
	}
	m.leaveAllMeshes(now, p)
	for _, t := range p.topics {
		t.peers.remove(p)
		m.touch(t)
	}
	delete(m.peers, id)
}

// leaveAllMeshes looks at every topic that we are or publish in: a peer may
// be in the mesh of a topic that it did not subscribe to.
func (m *mesh) leaveAllMeshes(now time.Time, p *meshPeer) {
	for _, t := range m.topics {
		if m.dropFromMesh(now, t, p) {
			m.out = append(m.out, action{kind: actDropped, peer: p.id, topic: t.name})
		}
		if t.fanout.remove(p) || p.topics[t.name] != nil {
			m.touch(t)
		}
	}
}

// subscribe records that a peer is in a topic. It reports whether that is
// news; a subscription over the peer's limits is refused and not remembered.
func (m *mesh) subscribe(now time.Time, id peer.ID, topic []byte) bool {
	p := m.peer(id)
	if p.topics[string(topic)] != nil {
		return false
	}
	if len(p.topics) >= m.c.maxTopics || p.topicBytes+len(topic) > m.c.maxTopicBytes {
		m.c.refused(refusedTopics)
		return false
	}
	name := string(topic)
	if !m.c.filter(id, name) {
		return false
	}
	t := m.topic(name)
	p.topics[t.name] = t
	p.topicBytes += len(t.name)
	t.peers.add(p)
	m.touch(t)
	m.quickGraft(now, p, t)
	return true
}

// unsubscribe records that a peer left a topic and reports whether it was in it.
func (m *mesh) unsubscribe(now time.Time, id peer.ID, topic []byte) bool {
	p := m.peers[id]
	if p == nil {
		return false
	}
	t := p.topics[string(topic)]
	if t == nil {
		return false
	}
	delete(p.topics, t.name)
	p.topicBytes -= len(t.name)
	t.peers.remove(p)
	t.fanout.remove(p)
	if m.dropFromMesh(now, t, p) {
		m.out = append(m.out, action{kind: actDropped, peer: p.id, topic: t.name})
	}
	m.touch(t)
	return true
}

// quickGraft grafts p at once where the mesh of t is short of peers, rather
// than at the next heartbeat.
func (m *mesh) quickGraft(now time.Time, p *meshPeer, t *meshTopic) {
	if !t.joined || t.mesh.len() >= m.c.params.Dlo || p.quickGrafts >= maxQuickGrafts || !m.eligible(now, p, t) {
		return
	}
	p.quickGrafts++
	m.graftPeer(now, t, p)
}

// eligible reports whether we may GRAFT p in t.
func (m *mesh) eligible(now time.Time, p *meshPeer, t *meshTopic) bool {
	return p.features.has(featureMesh) && !p.direct && !t.mesh.has(p) &&
		!m.inBackoff(now, t, p, backoffSlack*m.c.params.HeartbeatInterval) && m.score(now, p) >= 0
}

// inBackoff reports whether less than slack has passed since the back-off's end.
func (m *mesh) inBackoff(now time.Time, t *meshTopic, p *meshPeer, slack time.Duration) bool {
	until := m.backoffs.until(t.name, p.id)
	return !until.IsZero() && now.Before(until.Add(slack))
}

// graftPeer puts p into the mesh and tells it.
func (m *mesh) graftPeer(now time.Time, t *meshTopic, p *meshPeer) {
	if !t.mesh.add(p) {
		return
	}
	m.c.meshed(now, p.id, t.name, true)
	m.touch(t)
	m.out = append(m.out, action{kind: actGraft, peer: p.id, topic: t.name})
}

// dropFromMesh reports whether p was in the mesh of t.
func (m *mesh) dropFromMesh(now time.Time, t *meshTopic, p *meshPeer) bool {
	if !t.mesh.remove(p) {
		return false
	}
	m.c.meshed(now, p.id, t.name, false)
	m.touch(t)
	return true
}

// prunePeer takes p out of the mesh, keeps both sides from grafting for
// backoff, and tells p, with other peers for the topic if px is set.
func (m *mesh) prunePeer(now time.Time, t *meshTopic, p *meshPeer, backoff time.Duration, px bool) {
	left := m.dropFromMesh(now, t, p)
	m.sendPrune(now, t, p, backoff, px, left)
}

func (m *mesh) sendPrune(now time.Time, t *meshTopic, p *meshPeer, backoff time.Duration, px, left bool) {
	m.backoffs.add(t.name, p.id, now.Add(backoff))
	a := action{kind: actPrune, peer: p.id, topic: t.name, left: left}
	// "a PRUNE without backoff and peers" is all that a 1.0 peer knows.
	if p.features.has(featurePX) {
		a.backoff = backoff
		if px && m.c.px && m.score(now, p) >= 0 {
			a.px = m.exchange(now, t, p)
		}
	}
	m.out = append(m.out, a)
}

// exchange draws the peers that a PRUNE of p names.
func (m *mesh) exchange(now time.Time, t *meshTopic, p *meshPeer) []pxPeer {
	var px []pxPeer
	for _, q := range m.shuffled(t.peers.list) {
		if len(px) == m.c.params.PrunePeers {
			break
		}
		if q != p && m.score(now, q) >= 0 {
			px = append(px, pxPeer{id: q.id})
		}
	}
	return px
}

// shuffled returns the peers in random order, in a slice of its own.
func (m *mesh) shuffled(list []*meshPeer) []*meshPeer {
	s := append([]*meshPeer(nil), list...)
	m.rng.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	return s
}
