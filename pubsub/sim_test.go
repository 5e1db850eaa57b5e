package pubsub

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	pb "github.com/muster-p2p/muster/pubsub/pb"
	"github.com/muster-p2p/muster/pubsub/wire"
)

// The simulator runs many routers, each the real machine with the real caches
// and codec, in one goroutine and in virtual time. What it leaves out are
// streams, queues and signatures: links have a delay and nothing else.

const simTopic = "news"

type sim struct {
	t      *testing.T
	rnd    *rand.Rand
	hash   seenHasher
	now    time.Time
	events simEvents
	seq    uint64
	nodes  []*simNode
	params GossipSubParams
	msgs   []*simMessage

	payloads, duplicates, deliveries int
	payloadBytes, controlBytes       int
	pulled                           int // messages that were sent for an IWANT
}

type simMessage struct {
	m         *Message
	at        time.Time
	delivered map[*simNode]time.Time
}

type simNode struct {
	s     *sim
	id    peer.ID
	mesh  *mesh
	seen  *seenCache
	cache *messageCache
	up    bool
	since time.Time // of up
	epoch int       // of heartbeats: one that was started before a restart ends
	links map[*simNode]time.Duration
	delay time.Duration // of the way to the exchange, half of a link's
	rpc   wire.RPC
}

type simEvent struct {
	at   time.Time
	seq  uint64
	node *simNode
	// One of these:
	run  func()
	from *simNode
	ctl  []byte // an RPC without messages
	msgs []*Message
}

type simEvents []simEvent

func (h simEvents) Len() int { return len(h) }
func (h simEvents) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].seq < h[j].seq
	}
	return h[i].at.Before(h[j].at)
}
func (h simEvents) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *simEvents) Push(x any)   { *h = append(*h, x.(simEvent)) }
func (h *simEvents) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = simEvent{}
	*h = old[:len(old)-1]
	return x
}

// newSim makes n routers, each of which dials degree others, and lets all of
// them join the topic.
func newSim(t *testing.T, n, degree int) *sim {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %d routers", seed, n)
	s := &sim{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), now: start,
		hash: newSeenHasher(maphash.MakeSeed(), maphash.MakeSeed()), params: DefaultGossipSubParams(),
	}
	for i := range n {
		s.nodes = append(s.nodes, &simNode{
			s: s, id: peer.ID(fmt.Sprintf("node-%04d", i)), delay: time.Duration(5+s.rnd.IntN(36)) * time.Millisecond,
		})
	}
	for _, node := range s.nodes {
		node.start()
	}
	for _, node := range s.nodes {
		node.dial(degree)
	}
	return s
}

func (s *sim) after(d time.Duration, e simEvent) {
	s.seq++
	e.at, e.seq = s.now.Add(d), s.seq
	heap.Push(&s.events, e)
}

// run lets d pass.
func (s *sim) run(d time.Duration) {
	end := s.now.Add(d)
	for len(s.events) > 0 && !s.events[0].at.After(end) {
		e := heap.Pop(&s.events).(simEvent)
		s.now = e.at
		switch {
		case e.run != nil:
			e.run()
		case e.node.up && e.node.links[e.from] != 0:
			e.node.receive(e.from, e.ctl, e.msgs)
		}
	}
	s.now = end
}

func (n *simNode) start() {
	n.up, n.since, n.links = true, n.s.now, map[*simNode]time.Duration{}
	n.seen = newSeenCache(120*time.Second, 1<<20)
	n.cache = newMessageCache(n.s.params.HistoryGossip, n.s.params.HistoryLength, 0)
	n.mesh = newMesh(n.config(), rand.New(rand.NewPCG(n.s.rnd.Uint64(), 2)))
	n.mesh.join(n.s.now, simTopic)
	n.epoch++
	epoch := n.epoch
	var beat func()
	beat = func() {
		if !n.up || n.epoch != epoch {
			return
		}
		n.mesh.heartbeat(n.s.now)
		n.flush(nil, nil)
		n.cache.shift()
		n.s.after(n.s.params.HeartbeatInterval, simEvent{run: beat})
	}
	n.s.after(time.Duration(n.s.rnd.Int64N(int64(n.s.params.HeartbeatInterval))), simEvent{run: beat})
}

func (n *simNode) config() meshConfig {
	return meshConfig{
		params: n.s.params, maxTopics: 10, maxTopicBytes: 100, maxIWantBytes: 1 << 20,
		score:  func(time.Time, peer.ID) float64 { return 0 },
		filter: func(peer.ID, string) bool { return true },
		seen:   func(now time.Time, id []byte) bool { return n.seen.has(now, n.s.hash.keyBytes(id)) },
		ids:    func(topic string) []string { return n.cache.gossipIDs(topic) },
		fetch: func(id []byte, p peer.ID) (*Message, int, int) {
			m, count, ok := n.cache.forPeer(string(id), p)
			if !ok {
				return nil, 0, 0
			}
			return m, count, len(m.Data)
		},
		penalize: func(time.Time, peer.ID, int) {},
		promise:  func(time.Time, peer.ID, string, []string) {},
		meshed:   func(time.Time, peer.ID, string, bool) {},
		refused:  func(refusal) {},
	}
}

// stop takes the router down; its peers notice at once.
func (n *simNode) stop() {
	for other := range n.links {
		n.cut(other)
	}
	n.up = false
}

func (n *simNode) dial(degree int) {
	for tries := 0; degree > 0 && tries < 100*degree; tries++ {
		if other := n.s.nodes[n.s.rnd.IntN(len(n.s.nodes))]; n.connect(other) {
			degree--
		}
	}
}

// connect opens a link and lets both say hello.
func (n *simNode) connect(other *simNode) bool {
	if n == other || !n.up || !other.up || n.links[other] != 0 {
		return false
	}
	delay := n.delay + other.delay
	n.links[other], other.links[n] = delay, delay
	const all = featureMesh | featurePX | featureIDontWant
	for _, end := range []struct {
		n, other *simNode
		dialled  bool
	}{{n, other, true}, {other, n, false}} {
		end.n.mesh.opened(n.s.now, end.other.id, all, end.dialled)
		end.n.send(end.other, wire.AppendSubscription(nil, simTopic, true), nil)
		end.n.flush(nil, nil)
	}
	return true
}

func (n *simNode) cut(other *simNode) {
	delete(n.links, other)
	delete(other.links, n)
	n.mesh.remove(n.s.now, other.id)
	other.mesh.remove(n.s.now, n.id)
	n.flush(nil, nil)
	other.flush(nil, nil)
}

func (n *simNode) send(to *simNode, ctl []byte, msgs []*Message) {
	delay := n.links[to]
	if delay == 0 {
		return
	}
	n.s.controlBytes += len(ctl)
	n.s.payloads += len(msgs)
	for _, m := range msgs {
		n.s.payloadBytes += len(m.Data)
	}
	n.s.after(delay, simEvent{node: to, from: n, ctl: ctl, msgs: msgs})
}

// flush does what the router wants done, an RPC per peer, with a message to be
// forwarded if there is one.
func (n *simNode) flush(m *Message, to []peer.ID) {
	type out struct {
		ctl  wire.Control
		msgs []*Message
	}
	var order []peer.ID
	rpcs := map[peer.ID]*out{}
	rpc := func(p peer.ID) *out {
		if rpcs[p] == nil {
			rpcs[p] = &out{}
			order = append(order, p)
		}
		return rpcs[p]
	}
	for _, p := range to {
		rpc(p).msgs = append(rpc(p).msgs, m)
	}
	for _, a := range n.mesh.take() {
		switch a.kind {
		case actGraft:
			rpc(a.peer).ctl.Graft = append(rpc(a.peer).ctl.Graft, a.topic)
		case actPrune:
			rpc(a.peer).ctl.Prune = append(rpc(a.peer).ctl.Prune, wire.OutPrune{Topic: a.topic, Backoff: uint64(a.backoff / time.Second)})
		case actIHave:
			rpc(a.peer).ctl.IHave = append(rpc(a.peer).ctl.IHave, wire.OutIHave{Topic: a.topic, IDs: a.ids})
		case actIWant:
			rpc(a.peer).ctl.IWant = append(rpc(a.peer).ctl.IWant, a.ids...)
		case actSend:
			n.s.pulled++
			rpc(a.peer).msgs = append(rpc(a.peer).msgs, a.msg)
		case actDropped, actAdded, actConnect, actRecords:
		}
	}
	n.mesh.takeDirty()
	if len(order) == 0 {
		return
	}
	byID := map[peer.ID]*simNode{}
	for other := range n.links {
		byID[other.id] = other
	}
	for _, p := range order {
		if other := byID[p]; other != nil {
			n.send(other, rpcs[p].ctl.AppendControl(nil), rpcs[p].msgs)
		}
	}
}

func (n *simNode) receive(from *simNode, ctl []byte, msgs []*Message) {
	for _, m := range msgs {
		n.message(m, from.id)
	}
	if len(ctl) > 0 {
		lim := wire.Limits{}.WithDefaults()
		if err := n.rpc.Decode(ctl, &lim); err != nil || n.rpc.Excess.Total() > 0 {
			n.s.t.Fatalf("%s sent %s an RPC that is over the limits or malformed: %v", from.id, n.id, err)
		}
		for _, sub := range n.rpc.Subscriptions {
			n.mesh.subscribe(n.s.now, from.id, sub.Topic)
		}
		n.mesh.control(n.s.now, from.id, &n.rpc)
	}
	n.flush(nil, nil)
}

// message handles a message that came from a peer, or from nobody if it is
// published here.
func (n *simNode) message(m *Message, from peer.ID) {
	if !n.seen.add(n.s.now, n.s.hash.key(m.ID)) {
		n.s.duplicates++
		return
	}
	n.s.deliveries++
	sm := n.s.msgs[binary.BigEndian.Uint64(m.Seqno)]
	sm.delivered[n] = n.s.now
	n.cache.put(m.ID, simTopic, m, len(m.Data))
	t := n.mesh.topic(simTopic)
	targets := n.mesh.relayTargets(n.s.now, t, nil)
	if from == "" {
		targets = n.mesh.publishTargets(n.s.now, t, nil)
	}
	targets = slices.DeleteFunc(targets, func(p peer.ID) bool { return p == from || p == peer.ID(m.From) })
	n.flush(m, targets)
}

func (n *simNode) publish(size int) *simMessage {
	topic := simTopic
	m := &Message{Message: &pb.Message{
		From: []byte(n.id), Seqno: binary.BigEndian.AppendUint64(nil, uint64(len(n.s.msgs))), Data: make([]byte, size), Topic: &topic,
	}}
	m.ID = MessageIDGo(m.Message)
	sm := &simMessage{m: m, at: n.s.now, delivered: map[*simNode]time.Time{}}
	n.s.msgs = append(n.s.msgs, sm)
	n.message(m, "")
	return sm
}

// anyUp is a random router that runs.
func (s *sim) anyUp() *simNode {
	for {
		if n := s.nodes[s.rnd.IntN(len(s.nodes))]; n.up {
			return n
		}
	}
}

// report logs what the run cost, and at which delay messages arrived.
func (s *sim) report(msgs []*simMessage) {
	s.t.Helper()
	var delays []time.Duration
	for _, sm := range msgs {
		for _, at := range sm.delivered {
			delays = append(delays, at.Sub(sm.at))
		}
	}
	slices.Sort(delays)
	if len(delays) == 0 {
		return
	}
	s.t.Logf("%d deliveries: p50 %v, p99 %v, last %v; %.2f duplicates and %.1f control bytes per delivery, %d pulled by IWANT",
		len(delays), delays[len(delays)/2], delays[len(delays)*99/100], delays[len(delays)-1],
		float64(s.duplicates)/float64(s.deliveries), float64(s.controlBytes)/float64(s.deliveries), s.pulled)
}

// checkMesh checks what must hold of every mesh once things are quiet: within
// its bounds, and symmetric. A mesh may be short for the minute in which those
// that pruned us must be left alone, but not while somebody else is there.
func (s *sim) checkMesh() {
	s.t.Helper()
	lonely, waiting, oneSided, links := 0, 0, 0, 0
	byID := map[peer.ID]*simNode{}
	for _, n := range s.nodes {
		byID[n.id] = n
	}
	for _, n := range s.nodes {
		if !n.up {
			continue
		}
		t := n.mesh.topic(simTopic)
		switch d := t.mesh.len(); {
		case d == 0, d > s.params.Dhi+s.params.Dout, d < s.params.Dlo && n.mayGraft(t):
			lonely++
		case d < min(s.params.Dlo, len(n.links)):
			waiting++
		}
		for _, p := range t.mesh.list {
			links++
			other := byID[p.id].mesh
			if op := other.peers[n.id]; op == nil || !other.topic(simTopic).mesh.has(op) {
				oneSided++
			}
		}
	}
	s.t.Logf("of %d meshes %d out of bounds, %d short while back-offs last; %d of %d links one-sided",
		len(s.nodes), lonely, waiting, oneSided, links)
	if lonely > len(s.nodes)/50 || oneSided > links/50 || waiting > len(s.nodes)/10 {
		s.t.Errorf("want at most 2 %% out of bounds or one-sided, and 10 %% short")
	}
}

// mayGraft reports whether there is a peer that could be in the mesh and is not.
func (n *simNode) mayGraft(t *meshTopic) bool {
	return slices.ContainsFunc(t.peers.list, func(p *meshPeer) bool { return n.mesh.eligible(n.s.now, p, t) })
}

// simSize is how many routers there are: a thousand, or a hundred where that
// would take long. PUBSUB_SIM=1 asks for all of them under -race too.
func simSize(t *testing.T) int {
	if (testing.Short() || underRace) && os.Getenv("PUBSUB_SIM") == "" {
		t.Log("100 routers rather than 1000, for -short or -race; PUBSUB_SIM=1 runs all")
		return 100
	}
	return 1000
}

// Every message reaches every router.
func TestSimFullDelivery(t *testing.T) {
	s := newSim(t, simSize(t), 8)
	s.run(10 * time.Second)
	s.checkMesh()
	var msgs []*simMessage
	for range 50 {
		msgs = append(msgs, s.anyUp().publish(1024))
		s.run(100 * time.Millisecond)
	}
	s.run(5 * time.Second)
	for i, sm := range msgs {
		if len(sm.delivered) != len(s.nodes) {
			t.Errorf("message %d reached %d of %d routers", i, len(sm.delivered), len(s.nodes))
		}
	}
	s.report(msgs)
	if dup := float64(s.duplicates) / float64(s.deliveries); dup > 8 {
		t.Errorf("%.1f duplicates per delivery", dup)
	}
	if overhead := float64(s.controlBytes) / float64(s.payloadBytes); overhead > 0.3 {
		t.Errorf("%.0f %% of the payload is control", 100*overhead)
	}
}

// A network that falls in two serves both halves, and becomes one again when
// links come back.
func TestSimPartitionAndHeal(t *testing.T) {
	s := newSim(t, simSize(t), 8)
	s.run(10 * time.Second)
	half := func(n *simNode) bool { return slices.Index(s.nodes, n) < len(s.nodes)/2 }
	left := map[*simNode]bool{}
	for _, n := range s.nodes {
		left[n] = half(n)
	}
	for _, n := range s.nodes { // nobody is to be left without peers
		for inHalf := 0; inHalf < 3; {
			inHalf = 0
			for other := range n.links {
				if left[other] == left[n] {
					inHalf++
				}
			}
			if other := s.anyUp(); inHalf < 3 && left[other] == left[n] {
				n.connect(other)
			}
		}
	}
	type link struct{ a, b *simNode }
	var cut []link
	for _, n := range s.nodes {
		for other := range n.links {
			if left[n] && !left[other] {
				cut = append(cut, link{n, other})
			}
		}
	}
	for _, l := range cut {
		l.a.cut(l.b)
	}
	s.run(5 * time.Second)
	for range 20 {
		sm := s.anyUp().publish(1024)
		s.run(5 * time.Second)
		from := left[s.node(peer.ID(sm.m.From))]
		for _, n := range s.nodes {
			if _, ok := sm.delivered[n]; ok != (left[n] == from) {
				t.Fatalf("partitioned: %s got a message: %v, of its own half: %v", n.id, ok, left[n] == from)
			}
		}
	}
	last := s.anyUp().publish(1024) // still announced when the links are back
	for _, l := range cut {
		l.a.connect(l.b)
	}
	s.run(10 * time.Second)
	if len(last.delivered) != len(s.nodes) {
		t.Errorf("a message from just before the heal reached %d of %d", len(last.delivered), len(s.nodes))
	}
	s.checkMesh()
	var msgs []*simMessage
	for range 20 {
		msgs = append(msgs, s.anyUp().publish(1024))
		s.run(100 * time.Millisecond)
	}
	s.run(5 * time.Second)
	for i, sm := range msgs {
		if len(sm.delivered) != len(s.nodes) {
			t.Errorf("healed: message %d reached %d of %d routers", i, len(sm.delivered), len(s.nodes))
		}
	}
	s.report(msgs)
}

func (s *sim) node(id peer.ID) *simNode {
	i := slices.IndexFunc(s.nodes, func(n *simNode) bool { return n.id == id })
	return s.nodes[i]
}

// While 30 % of the routers leave and come back every minute, those that are
// connected throughout get at least 99.9 % of all messages.
func TestSimChurn(t *testing.T) {
	s := newSim(t, simSize(t), 8)
	s.run(10 * time.Second)
	perSecond := float64(len(s.nodes)) * 0.30 / 60
	const settle = 3 * time.Second
	expected, got, due := 0, 0, 0.0
	var msgs []*simMessage
	for range 150 { // of a fifth of a second
		for due += perSecond / 5; due >= 1; due-- {
			n := s.anyUp()
			n.stop()
			away := time.Duration(1+s.rnd.IntN(20)) * time.Second
			s.after(away, simEvent{run: func() {
				n.start()
				n.dial(8)
			}})
		}
		msgs = append(msgs, s.anyUp().publish(1024))
		s.run(200 * time.Millisecond)
		s.redial(8)
	}
	s.run(settle)
	for _, sm := range msgs {
		for _, n := range s.nodes {
			if !n.up || n.since.After(sm.at.Add(-settle)) {
				continue // not connected, or only just
			}
			expected++
			if _, ok := sm.delivered[n]; ok {
				got++
			}
		}
	}
	s.report(msgs)
	ratio := float64(got) / float64(expected)
	t.Logf("%.4f %% of %d", 100*ratio, expected)
	if ratio < 0.999 {
		t.Errorf("delivered %.4f %%, want at least 99.9 %%", 100*ratio)
	}
}

// redial keeps routers that lost too many peers connected, as discovery does.
func (s *sim) redial(degree int) {
	for _, n := range s.nodes {
		if n.up && len(n.links) < degree {
			n.dial(degree - len(n.links))
		}
	}
}
