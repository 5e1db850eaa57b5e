package pubsub

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"github.com/muster-p2p/muster/pubsub/wire"
)

// A meshTest drives a mesh by hand: it is its clock, its scores and its cache.
type meshTest struct {
	*mesh
	t         rapid.TB
	now       time.Time
	scores    map[peer.ID]float64
	seenIDs   map[string]bool
	cacheIDs  []string
	fetched   map[string]int // id, peer
	penalties map[peer.ID]int
	promised  map[peer.ID]int
	refusals  map[refusal]int
	hidden    map[peer.ID]bool // from the topic, by the peer filter
}

const all12 = featureMesh | featurePX | featureIDontWant

func newMeshTest(t rapid.TB, change func(*meshConfig)) *meshTest {
	mt := &meshTest{
		t: t, now: time.Unix(1e9, 0),
		scores: map[peer.ID]float64{}, seenIDs: map[string]bool{}, fetched: map[string]int{},
		penalties: map[peer.ID]int{}, promised: map[peer.ID]int{}, refusals: map[refusal]int{}, hidden: map[peer.ID]bool{},
	}
	c := meshConfig{
		params: DefaultGossipSubParams(), scoring: true, px: true,
		thresholds: PeerScoreThresholds{
			GossipThreshold: -10, PublishThreshold: -20, GraylistThreshold: -30, AcceptPXThreshold: 5, OpportunisticGraftThreshold: 2,
		},
		maxTopics: DefaultMaxPeerTopics, maxTopicBytes: DefaultMaxPeerTopicBytes, maxIWantBytes: 16 << 20,
		score:  func(_ time.Time, p peer.ID) float64 { return mt.scores[p] },
		filter: func(p peer.ID, _ string) bool { return !mt.hidden[p] },
		seen:   func(_ time.Time, id []byte) bool { return mt.seenIDs[string(id)] },
		ids:    func(string) []string { return slices.Clone(mt.cacheIDs) },
		fetch: func(id []byte, p peer.ID) (*Message, int, int) {
			if !slices.Contains(mt.cacheIDs, string(id)) {
				return nil, 0, 0
			}
			mt.fetched[string(id)+string(p)]++
			topic := "t"
			m := newMessage(&wire.Message{Raw: make([]byte, 1000)}, &topic, p)
			return m, mt.fetched[string(id)+string(p)], 1000
		},
		penalize: func(_ time.Time, p peer.ID, n int) { mt.penalties[p] += n },
		promise:  func(_ time.Time, p peer.ID, _ string, _ []string) { mt.promised[p]++ },
		meshed:   func(time.Time, peer.ID, string, bool) {},
		refused:  func(r refusal) { mt.refusals[r]++ },
	}
	if change != nil {
		change(&c)
	}
	mt.mesh = newMesh(c, rand.New(rand.NewPCG(1, 2)))
	return mt
}

// add opens peers with features f that are in topic t, and returns their ids.
func (mt *meshTest) add(n int, f features, outbound bool) []peer.ID {
	var ids []peer.ID
	for range n {
		id := peer.ID(fmt.Sprintf("p%03d", len(mt.peers)))
		mt.opened(mt.now, id, f, outbound)
		mt.subscribe(mt.now, id, []byte("t"))
		ids = append(ids, id)
	}
	return ids
}

func (mt *meshTest) beat() []action {
	mt.take()
	mt.now = mt.now.Add(mt.c.params.HeartbeatInterval)
	mt.heartbeat(mt.now)
	return mt.take()
}

func (mt *meshTest) send(from peer.ID, rpc *wire.RPC) []action {
	mt.take()
	rpc.HasControl = true
	mt.control(mt.now, from, rpc)
	return mt.take()
}

func (mt *meshTest) meshSize() int { return mt.topic("t").mesh.len() }

func (mt *meshTest) inMesh(id peer.ID) bool { return mt.topic("t").mesh.has(mt.peer(id)) }

// count returns how many of the actions are of a kind.
func count(as []action, kind actionKind) int {
	n := 0
	for _, a := range as {
		if a.kind == kind {
			n++
		}
	}
	return n
}

// "On JOIN(topic) the router … selects D peers … from fanout first".
func TestJoinTakesFanoutFirst(t *testing.T) {
	mt := newMeshTest(t, nil)
	ids := mt.add(20, all12, false)
	mt.publishing(mt.now, "t")
	fanout := mt.topic("t").fanout.clone()
	if len(fanout) != mt.c.params.D {
		t.Fatalf("%d fanout peers, want D = %d", len(fanout), mt.c.params.D)
	}
	mt.scores[fanout[0].id] = -1
	mt.backoffs.add("t", fanout[1].id, mt.now.Add(time.Minute))
	mt.take()
	mt.join(mt.now, "t")
	as := mt.take()
	if count(as, actGraft) != mt.c.params.D || mt.meshSize() != mt.c.params.D {
		t.Errorf("%d GRAFTs, mesh of %d, want D = %d", count(as, actGraft), mt.meshSize(), mt.c.params.D)
	}
	for i, p := range fanout {
		if want := i >= 2; mt.inMesh(p.id) != want {
			t.Errorf("fanout peer %d in the mesh: %v, want %v (0 has a bad score, 1 is in back-off)", i, !want, want)
		}
	}
	if mt.topic("t").fanout.len() != 0 {
		t.Error("fanout is kept after JOIN")
	}
	_ = ids
}

func TestJoinSkipsTheUnfit(t *testing.T) {
	mt := newMeshTest(t, nil)
	bad, back, direct := mt.add(1, all12, false)[0], mt.add(1, all12, false)[0], mt.add(1, all12, false)[0]
	flood, good := mt.add(1, 0, false)[0], mt.add(1, all12, false)[0]
	mt.scores[bad] = -0.1
	mt.backoffs.add("t", back, mt.now.Add(time.Second))
	mt.setDirect(mt.now, direct, true)
	mt.join(mt.now, "t")
	for id, want := range map[peer.ID]bool{bad: false, back: false, direct: false, flood: false, good: true} {
		if mt.inMesh(id) != want {
			t.Errorf("%s in the mesh: %v, want %v", id, !want, want)
		}
	}
}

// LEAVE prunes with the unsubscribe back-off, which binds us as well.
func TestLeaveBacksOff(t *testing.T) {
	mt := newMeshTest(t, nil)
	ids := mt.add(3, all12, false)
	mt.join(mt.now, "t")
	mt.take()
	mt.leave(mt.now, "t")
	as := mt.take()
	if count(as, actPrune) != 3 {
		t.Fatalf("%d PRUNEs, want 3", count(as, actPrune))
	}
	for _, a := range as {
		if a.kind == actPrune && a.backoff != mt.c.params.UnsubscribeBackoff {
			t.Errorf("back-off %v, want %v", a.backoff, mt.c.params.UnsubscribeBackoff)
		}
	}
	mt.join(mt.now, "t")
	if mt.meshSize() != 0 {
		t.Error("grafted inside our own back-off")
	}
	mt.now = mt.now.Add(mt.c.params.UnsubscribeBackoff + backoffSlack*mt.c.params.HeartbeatInterval)
	mt.beat()
	if mt.meshSize() != len(ids) {
		t.Errorf("mesh of %d after the back-off, want %d", mt.meshSize(), len(ids))
	}
}

// A peer that subscribes is grafted at once while the mesh is short of peers.
func TestSubscribeGraftsAtOnce(t *testing.T) {
	mt := newMeshTest(t, nil)
	mt.join(mt.now, "t")
	ids := mt.add(20, all12, false)
	if mt.meshSize() != mt.c.params.Dlo {
		t.Errorf("mesh of %d, want Dlo = %d", mt.meshSize(), mt.c.params.Dlo)
	}
	mt.take()
	mt.unsubscribe(mt.now, ids[0], []byte("t"))
	if mt.inMesh(ids[0]) || mt.topic("t").peers.has(mt.peer(ids[0])) {
		t.Error("a peer that unsubscribed is still in the mesh or the topic")
	}
	if as := mt.take(); count(as, actDropped) != 1 || count(as, actPrune) != 0 {
		t.Errorf("actions %+v, want the peer dropped without PRUNE", as)
	}
}

func TestQuickGraftsAreBounded(t *testing.T) {
	mt := newMeshTest(t, nil)
	for i := range 2 * maxQuickGrafts {
		mt.join(mt.now, fmt.Sprint("t", i))
	}
	mt.opened(mt.now, "p", all12, false)
	mt.take()
	for i := range 2 * maxQuickGrafts {
		mt.subscribe(mt.now, "p", fmt.Append(nil, "t", i))
	}
	if n := count(mt.take(), actGraft); n != maxQuickGrafts {
		t.Errorf("%d GRAFTs before the heartbeat, want %d", n, maxQuickGrafts)
	}
	if n := count(mt.beat(), actGraft); n != maxQuickGrafts {
		t.Errorf("%d GRAFTs at the heartbeat, want the other %d", n, maxQuickGrafts)
	}
}

func TestUnsubscribeLeavesFanout(t *testing.T) {
	mt := newMeshTest(t, nil)
	ids := mt.add(2, all12, false)
	mt.publishing(mt.now, "t")
	mt.unsubscribe(mt.now, ids[0], []byte("t"))
	if mt.topic("t").fanout.len() != 1 {
		t.Errorf("fanout of %d, want 1", mt.topic("t").fanout.len())
	}
}

// The order of a GRAFT's checks decides who is answered and who is punished.
func TestGraft(t *testing.T) {
	fill := func(mt *meshTest) {
		for mt.meshSize() < mt.c.params.Dhi {
			mt.graftPeer(mt.now, mt.topic("t"), mt.peer(mt.add(1, all12, false)[0]))
		}
	}
	for _, tt := range []struct {
		name    string
		topic   string
		setup   func(mt *meshTest)
		in      bool
		prunes  int
		px      bool
		penalty int
	}{
		{name: "accepted", in: true},
		{name: "unknown topic", topic: "other"},
		{name: "filtered peer", setup: func(mt *meshTest) { mt.hidden["x"] = true }},
		{name: "already in the mesh", in: true, setup: func(mt *meshTest) { mt.graftPeer(mt.now, mt.topic("t"), mt.peer("x")) }},
		{name: "direct peer", prunes: 1, setup: func(mt *meshTest) { mt.setDirect(mt.now, "x", true) }},
		{name: "in back-off", prunes: 1, penalty: 1, setup: func(mt *meshTest) {
			mt.backoffs.add("t", "x", mt.now.Add(mt.c.params.PruneBackoff-mt.c.params.GraftFloodThreshold))
		}},
		{name: "right after PRUNE", prunes: 1, penalty: 2, setup: func(mt *meshTest) {
			mt.backoffs.add("t", "x", mt.now.Add(mt.c.params.PruneBackoff))
		}},
		{name: "bad score", prunes: 1, setup: func(mt *meshTest) { mt.scores["x"] = -1 }},
		{name: "full mesh", prunes: 1, px: true, setup: fill},
		{name: "full mesh, dialled by us", in: true, setup: func(mt *meshTest) {
			fill(mt)
			mt.opened(mt.now, "x", all12, true)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mt := newMeshTest(t, nil)
			mt.join(mt.now, "t")
			mt.opened(mt.now, "x", all12, false)
			if tt.setup != nil {
				tt.setup(mt)
			}
			topic := "t"
			if tt.topic != "" {
				topic = tt.topic
			}
			as := mt.send("x", &wire.RPC{Graft: []wire.Graft{{Topic: []byte(topic)}}})
			if mt.inMesh("x") != tt.in {
				t.Errorf("in the mesh: %v, want %v", !tt.in, tt.in)
			}
			if n := count(as, actPrune); n != tt.prunes {
				t.Fatalf("%d PRUNEs, want %d", n, tt.prunes)
			}
			if tt.prunes > 0 && (as[0].backoff != mt.c.params.PruneBackoff || (len(as[0].px) > 0) != tt.px) {
				t.Errorf("PRUNE %+v, want back-off %v and peers %v", as[0], mt.c.params.PruneBackoff, tt.px)
			}
			if mt.penalties["x"] != tt.penalty {
				t.Errorf("penalty %d, want %d", mt.penalties["x"], tt.penalty)
			}
		})
	}
}

// 20,000 equal GRAFTs are answered by one PRUNE in a heartbeat.
func TestGraftFloodIsAnsweredOnce(t *testing.T) {
	mt := newMeshTest(t, nil)
	mt.join(mt.now, "t")
	mt.opened(mt.now, "x", all12, false)
	mt.backoffs.add("t", "x", mt.now.Add(time.Minute))
	flood := make([]wire.Graft, 20000)
	for i := range flood {
		flood[i].Topic = []byte("t")
	}
	if n := count(mt.send("x", &wire.RPC{Graft: flood}), actPrune); n != 1 {
		t.Errorf("%d PRUNEs, want 1", n)
	}
	if mt.inMesh("x") {
		t.Error("grafted inside the back-off")
	}
	if mt.penalties["x"] < 20000 {
		t.Errorf("penalty %d, want one for each GRAFT at least", mt.penalties["x"])
	}
	mt.beat()
	if n := count(mt.send("x", &wire.RPC{Graft: flood[:10]}), actPrune); n != 1 {
		t.Errorf("%d PRUNEs in the next heartbeat, want 1", n)
	}
}

func TestPruneBackoff(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   wire.Prune
		want time.Duration
	}{
		{"none given", wire.Prune{}, time.Minute},
		{"zero", wire.Prune{HasBackoff: true}, time.Minute},
		{"given", wire.Prune{HasBackoff: true, Backoff: 90}, 90 * time.Second},
		{"2^62 seconds", wire.Prune{HasBackoff: true, Backoff: 1 << 62}, maxPruneBackoff},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mt := newMeshTest(t, nil)
			mt.join(mt.now, "t")
			id := mt.add(1, all12, false)[0]
			tt.in.Topic = []byte("t")
			as := mt.send(id, &wire.RPC{Prune: []wire.Prune{tt.in}})
			if mt.inMesh(id) || count(as, actDropped) != 1 || count(as, actPrune) != 0 {
				t.Errorf("actions %+v, want the peer dropped and nothing sent", as)
			}
			if got := mt.backoffs.until("t", id).Sub(mt.now); got != tt.want {
				t.Errorf("back-off %v, want %v", got, tt.want)
			}
		})
	}
}

// Peers of a PRUNE are taken from good peers only, at most PrunePeers, and
// not those that are connected.
func TestPruneExchange(t *testing.T) {
	mt := newMeshTest(t, nil)
	mt.join(mt.now, "t")
	ids := mt.add(2, all12, false)
	var infos []wire.PeerInfo
	for i := range 40 {
		id, err := peer.IDFromBytes(append([]byte{0x12, 0x20}, make([]byte, 32)...))
		if err != nil {
			t.Fatal(err)
		}
		b := []byte(id)
		b[10] = byte(i)
		infos = append(infos, wire.PeerInfo{ID: b})
	}
	pr := []wire.Prune{{Topic: []byte("t"), Peers: infos}}
	if as := mt.send(ids[0], &wire.RPC{Prune: pr}); count(as, actRecords) != 0 {
		t.Error("took peers from a peer below the threshold")
	}
	mt.scores[ids[1]] = 6
	mt.peer(peer.ID(infos[0].ID))
	as := mt.send(ids[1], &wire.RPC{Prune: pr})
	if len(as) != 2 || as[1].kind != actRecords || len(as[1].px) != mt.c.params.PrunePeers {
		t.Fatalf("actions %+v, want %d peers", as, mt.c.params.PrunePeers)
	}
	for _, px := range as[1].px {
		if px.id == peer.ID(infos[0].ID) {
			t.Error("took a peer that is connected")
		}
	}
}

// A PRUNE to a 1.0 peer has neither back-off nor peers; one for a bad score
// has no peers.
func TestPruneSent(t *testing.T) {
	mt := newMeshTest(t, nil)
	old, bad, good := mt.add(1, featureMesh, false)[0], mt.add(1, all12, false)[0], mt.add(1, all12, false)[0]
	mt.join(mt.now, "t")
	mt.scores[bad] = -1
	mt.take()
	mt.leave(mt.now, "t")
	for _, a := range mt.take() {
		switch a.peer {
		case old:
			if a.backoff != 0 || a.px != nil {
				t.Errorf("PRUNE to a 1.0 peer: %+v", a)
			}
		case bad:
			if a.px != nil {
				t.Errorf("PRUNE with peers to one with a bad score: %+v", a)
			}
		case good:
			if len(a.px) != 1 || a.px[0].id != old {
				t.Errorf("PRUNE to a good peer names %+v, want the 1.0 peer only", a.px)
			}
		}
	}
}

func ihaveRPC(topic string, from, n int) *wire.RPC {
	h := wire.IHave{Topic: []byte(topic)}
	for i := range n {
		h.IDs = append(h.IDs, fmt.Append(nil, "id", from+i))
	}
	return &wire.RPC{IHave: []wire.IHave{h}}
}

func TestIHave(t *testing.T) {
	for _, tt := range []struct {
		name  string
		topic string
		setup func(mt *meshTest)
		want  int
	}{
		{name: "asks for the unseen", want: 3, setup: func(mt *meshTest) { mt.seenIDs["id0"] = true }},
		{name: "a topic we are not in", topic: "other"},
		{name: "below the gossip threshold", setup: func(mt *meshTest) { mt.scores["x"] = -11 }},
		{name: "filtered peer", setup: func(mt *meshTest) { mt.hidden["x"] = true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mt := newMeshTest(t, nil)
			mt.join(mt.now, "t")
			mt.opened(mt.now, "x", all12, false)
			if tt.setup != nil {
				tt.setup(mt)
			}
			topic := "t"
			if tt.topic != "" {
				topic = tt.topic
			}
			as := mt.send("x", ihaveRPC(topic, 0, 4))
			got := 0
			for _, a := range as {
				got += len(a.ids)
			}
			if got != tt.want {
				t.Errorf("asked for %d, want %d", got, tt.want)
			}
			if want := min(tt.want, 1); mt.promised["x"] != want {
				t.Errorf("%d promises, want %d", mt.promised["x"], want)
			}
		})
	}
}

// Only RPCs with an IHAVE count against MaxIHaveMessages, and no more than
// MaxIHaveLength ids of one peer are considered in a heartbeat.
func TestIHaveLimits(t *testing.T) {
	mt := newMeshTest(t, nil)
	mt.join(mt.now, "t")
	mt.opened(mt.now, "x", all12, false)
	for range 100 {
		mt.send("x", &wire.RPC{IDontWant: []wire.IDList{{IDs: [][]byte{{1}}}}})
	}
	if as := mt.send("x", ihaveRPC("t", 0, 1)); count(as, actIWant) != 1 {
		t.Error("a hundred RPCs with IDONTWANT silenced an IHAVE")
	}
	considered := 0
	mt.c.seen = func(time.Time, []byte) bool { considered++; return true }
	mt.send("x", ihaveRPC("t", 1000, 50000))
	if considered > mt.c.params.MaxIHaveLength {
		t.Errorf("considered %d ids, want at most %d", considered, mt.c.params.MaxIHaveLength)
	}
	mt.beat()
	considered = 0
	for i := range 2 * mt.c.params.MaxIHaveMessages {
		mt.send("x", ihaveRPC("t", 100000+i, 1))
	}
	if considered != mt.c.params.MaxIHaveMessages {
		t.Errorf("%d RPCs with IHAVE were heard, want %d", considered, mt.c.params.MaxIHaveMessages)
	}
}

// However many topics there are, a heartbeat scores each peer once: a score
// is a sum over all topics.
func TestHeartbeatScoresOnce(t *testing.T) {
	mt := newMeshTest(t, nil)
	calls := map[peer.ID]int{}
	score := mt.c.score
	mt.c.score = func(now time.Time, p peer.ID) float64 {
		calls[p]++
		return score(now, p)
	}
	mt.cacheIDs = []string{"gossip"}
	for _, p := range mt.add(30, all12, false) {
		for i := range 20 {
			mt.subscribe(mt.now, p, fmt.Append(nil, "topic ", i))
		}
	}
	for i := range 20 {
		mt.join(mt.now, fmt.Sprint("topic ", i))
	}
	clear(calls)
	mt.beat()
	if len(calls) == 0 {
		t.Error("nobody was scored")
	}
	for p, n := range calls {
		if n != 1 {
			t.Errorf("%s was scored %d times", p, n)
		}
	}
	mt.scores["x"] = -1 // and not remembered beyond it
	if got := mt.score(mt.now, mt.peer("x")); got != -1 {
		t.Errorf("a score of %v after the heartbeat, want -1", got)
	}
}

// A message that was asked for is not asked for from others at once.
func TestIHaveAsksOnce(t *testing.T) {
	mt := newMeshTest(t, nil)
	mt.join(mt.now, "t")
	mt.opened(mt.now, "x", all12, false)
	mt.opened(mt.now, "y", all12, false)
	mt.send("x", ihaveRPC("t", 0, 5))
	if as := mt.send("y", ihaveRPC("t", 0, 5)); len(as) != 0 {
		t.Errorf("asked a second peer: %+v", as)
	}
	mt.beat()
	if as := mt.send("y", ihaveRPC("t", 0, 5)); len(as) != 0 {
		t.Errorf("asked a second peer within a heartbeat: %+v", as)
	}
	mt.beat()
	if as := mt.send("y", ihaveRPC("t", 0, 5)); count(as, actIWant) != 1 {
		t.Error("not asked again after it did not come: whoever announces first and sends nothing has kept it from us")
	}
}

func TestIWant(t *testing.T) {
	want := func(ids ...string) *wire.RPC { return &wire.RPC{IWant: []wire.IDList{{IDs: bytesOf(ids)}}} }
	mt := newMeshTest(t, nil)
	mt.join(mt.now, "t")
	mt.opened(mt.now, "x", all12, false)
	mt.cacheIDs = []string{"a", "b"}
	sent := 0
	for range 100 {
		sent += count(mt.send("x", want("a")), actSend)
	}
	if sent != mt.c.params.GossipRetransmission {
		t.Errorf("%d answers to 100 IWANTs, want %d", sent, mt.c.params.GossipRetransmission)
	}
	if n := count(mt.send("x", want("b", "nobody has this")), actSend); n != 1 {
		t.Errorf("%d answers, want 1", n)
	}
	mt.scores["x"] = -11
	if n := count(mt.send("x", want("b")), actSend); n != 0 {
		t.Errorf("%d answers below the gossip threshold, want 0", n)
	}
}

func TestIWantBytesAreBounded(t *testing.T) {
	mt := newMeshTest(t, func(c *meshConfig) { c.maxIWantBytes = 5000 })
	mt.join(mt.now, "t")
	mt.opened(mt.now, "x", all12, false)
	var ids []string
	for i := range 50 {
		ids = append(ids, fmt.Sprint("m", i))
	}
	mt.cacheIDs = ids
	rpc := &wire.RPC{IWant: []wire.IDList{{IDs: bytesOf(ids)}}}
	if n := count(mt.send("x", rpc), actSend); n != 5 {
		t.Errorf("%d answers of 1,000 bytes, want 5", n)
	}
	mt.beat()
	if n := count(mt.send("x", rpc), actSend); n != 5 {
		t.Errorf("%d answers in the next heartbeat, want 5", n)
	}
}

func TestTargets(t *testing.T) {
	for _, tt := range []struct {
		name           string
		change         func(*meshConfig)
		joined         bool
		relay, publish int
	}{
		// 20 mesh peers, of which the mesh has Dlo, 2 floodsub peers and one
		// of them below the publish threshold, 1 direct peer.
		{name: "mesh", joined: true, relay: 5 + 2, publish: 5 + 2},
		{name: "flood publish", joined: true, change: func(c *meshConfig) { c.floodOwn = true }, relay: 5 + 2, publish: 22},
		{name: "fanout", relay: 2, publish: 6 + 2},
		{name: "floodsub", joined: true, change: func(c *meshConfig) { c.flood = true }, relay: 23, publish: 23},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mt := newMeshTest(t, tt.change)
			if tt.joined {
				mt.join(mt.now, "t")
			}
			direct := peer.ID("direct")
			mt.setDirect(mt.now, direct, true)
			mt.opened(mt.now, direct, all12, true)
			mt.subscribe(mt.now, direct, []byte("t"))
			mt.add(20, all12, false)
			flood := mt.add(2, 0, false)
			mt.scores[flood[0]] = -21
			if !tt.joined {
				mt.publishing(mt.now, "t")
			}
			if n := len(mt.relayTargets(mt.now, mt.topic("t"), nil)); n != tt.relay {
				t.Errorf("forwards to %d, want %d", n, tt.relay)
			}
			if n := len(mt.publishTargets(mt.now, mt.topic("t"), nil)); n != tt.publish {
				t.Errorf("publishes to %d, want %d", n, tt.publish)
			}
		})
	}
}

// While the mesh is short of peers, our own messages go to others as well.
func TestPublishMakesUpForAShortMesh(t *testing.T) {
	mt := newMeshTest(t, nil)
	for _, id := range mt.add(10, all12, false) {
		mt.backoffs.add("t", id, mt.now.Add(time.Minute))
	}
	mt.join(mt.now, "t")
	if n := len(mt.publishTargets(mt.now, mt.topic("t"), nil)); n != mt.c.params.D {
		t.Errorf("publishes to %d, want D = %d", n, mt.c.params.D)
	}
}

func TestHeartbeatDropsBadScores(t *testing.T) {
	mt := newMeshTest(t, nil)
	mt.join(mt.now, "t")
	ids := mt.add(5, all12, false)
	mt.scores[ids[2]] = -0.5
	as := mt.beat()
	if mt.inMesh(ids[2]) || count(as, actPrune) != 1 {
		t.Errorf("actions %+v, want one PRUNE", as)
	}
	if len(as[0].px) != 0 {
		t.Error("PRUNE for a bad score names peers")
	}
}

func TestHeartbeatFillsToD(t *testing.T) {
	mt := newMeshTest(t, nil)
	mt.add(30, all12, false)
	mt.topic("t").joined = true // joined with an empty mesh
	mt.beat()
	if mt.meshSize() != mt.c.params.D {
		t.Errorf("mesh of %d, want D = %d", mt.meshSize(), mt.c.params.D)
	}
}

// "keep the Dscore best, random others up to D, of which Dout outbound".
func TestHeartbeatShrinks(t *testing.T) {
	for seed := range uint64(20) {
		mt := newMeshTest(t, nil)
		mt.rng = rand.New(rand.NewPCG(seed, 1))
		mt.join(mt.now, "t")
		in, out := mt.add(16, all12, false), mt.add(3, all12, true)
		for _, id := range append(slices.Clone(in), out...) {
			mt.graftPeer(mt.now, mt.topic("t"), mt.peer(id))
		}
		best := in[:mt.c.params.Dscore]
		for _, id := range best {
			mt.scores[id] = 10
		}
		as := mt.beat()
		if mt.meshSize() != mt.c.params.D || count(as, actPrune) != 19-mt.c.params.D {
			t.Fatalf("mesh of %d after %d PRUNEs, want D = %d", mt.meshSize(), count(as, actPrune), mt.c.params.D)
		}
		for _, id := range best {
			if !mt.inMesh(id) {
				t.Errorf("seed %d: one of the best was pruned", seed)
			}
		}
		outbound := 0
		for _, p := range mt.topic("t").mesh.list {
			if p.outbound {
				outbound++
			}
		}
		if outbound < mt.c.params.Dout {
			t.Errorf("seed %d: %d outbound peers kept, want %d", seed, outbound, mt.c.params.Dout)
		}
	}
}

func TestHeartbeatFillsOutboundQuota(t *testing.T) {
	mt := newMeshTest(t, nil)
	mt.join(mt.now, "t")
	mt.add(8, all12, false)
	mt.add(3, all12, true)
	if mt.meshSize() != mt.c.params.Dlo {
		t.Fatalf("mesh of %d", mt.meshSize())
	}
	as := mt.beat()
	if n := count(as, actGraft); n != mt.c.params.Dout {
		t.Errorf("%d GRAFTs, want Dout = %d", n, mt.c.params.Dout)
	}
}

func TestHeartbeatGraftsOpportunistically(t *testing.T) {
	for _, tt := range []struct {
		name         string
		median, rest float64
		want         int
	}{
		{"poor mesh, better peers", 1, 3, 2},
		{"poor mesh, no better peers", 1, 1, 0},
		{"good mesh", 2, 3, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mt := newMeshTest(t, nil)
			mt.c.params.Dout = 0
			mt.join(mt.now, "t")
			for _, id := range mt.add(20, all12, false) {
				if mt.scores[id] = tt.rest; mt.inMesh(id) {
					mt.scores[id] = tt.median
				}
			}
			grafts := 0
			for range mt.c.params.OpportunisticGraftTicks {
				grafts += count(mt.beat(), actGraft)
			}
			if grafts != tt.want {
				t.Errorf("%d GRAFTs in %d heartbeats, want %d", grafts, mt.c.params.OpportunisticGraftTicks, tt.want)
			}
		})
	}
}

// Gossip goes to max(Dlazy, a quarter) of the fit peers outside the mesh.
func TestHeartbeatGossips(t *testing.T) {
	mt := newMeshTest(t, nil)
	mt.join(mt.now, "t")
	mt.add(105, all12, false)
	bad := mt.add(1, all12, false)[0]
	mt.scores[bad] = -11
	mt.add(1, 0, false)
	mt.cacheIDs = []string{"a", "b", "c"}
	as := mt.beat()
	n := 0
	for _, a := range as {
		if a.kind != actIHave {
			continue
		}
		n++
		if mt.inMesh(a.peer) || a.peer == bad || len(a.ids) != 3 {
			t.Errorf("gossip %+v", a)
		}
	}
	if n != 25 {
		t.Errorf("gossip to %d of 100 peers, want 25", n)
	}
}

func TestGossipDrawsSubsets(t *testing.T) {
	mt := newMeshTest(t, nil)
	mt.join(mt.now, "t")
	mt.add(20, all12, false)
	for i := range mt.c.params.MaxIHaveLength + 1000 {
		mt.cacheIDs = append(mt.cacheIDs, fmt.Sprint(i))
	}
	var first []string
	for _, a := range mt.beat() {
		if a.kind != actIHave {
			continue
		}
		if len(a.ids) != mt.c.params.MaxIHaveLength {
			t.Fatalf("IHAVE of %d ids, want %d", len(a.ids), mt.c.params.MaxIHaveLength)
		}
		if first == nil {
			first = a.ids
		} else if slices.Equal(first, a.ids) {
			t.Error("two peers got the same part")
		}
	}
}

func TestFanoutExpires(t *testing.T) {
	mt := newMeshTest(t, nil)
	ids := mt.add(10, all12, false)
	mt.publishing(mt.now, "t")
	gone := mt.topic("t").fanout.list[0].id
	mt.scores[gone] = -21
	mt.beat()
	if n := mt.topic("t").fanout.len(); n != mt.c.params.D || mt.topic("t").fanout.has(mt.peer(gone)) {
		t.Errorf("fanout of %d, or with a peer below the threshold; want %d others", n, mt.c.params.D)
	}
	mt.now = mt.now.Add(mt.c.params.FanoutTTL)
	mt.beat()
	if n := mt.topic("t").fanout.len(); n != 0 {
		t.Errorf("fanout of %d after its time, want none", n)
	}
	_ = ids
}

func TestDirectPeersAreRedialled(t *testing.T) {
	mt := newMeshTest(t, func(c *meshConfig) { c.params.DirectConnectTicks = 3 })
	mt.setDirect(mt.now, "d", true)
	dials := 0
	for range 9 {
		dials += count(mt.beat(), actConnect)
	}
	if dials != 3 {
		t.Errorf("%d dials in 9 heartbeats, want 3", dials)
	}
	mt.opened(mt.now, "d", all12, true)
	for range 9 {
		if n := count(mt.beat(), actConnect); n != 0 {
			t.Error("dialled a direct peer that is there")
		}
	}
}

// What one peer makes us remember is bounded, and gone with the peer.
func TestTopicsOfAPeerAreBounded(t *testing.T) {
	mt := newMeshTest(t, nil)
	for i := range 100000 {
		mt.subscribe(mt.now, "x", fmt.Appendf(nil, "topic-%d", i))
		mt.takeDirty()
	}
	if n := len(mt.topics); n > mt.c.maxTopics {
		t.Errorf("%d topics remembered, want at most %d", n, mt.c.maxTopics)
	}
	if mt.refusals[refusedTopics] != 100000-len(mt.topics) {
		t.Errorf("%d refusals counted, want %d", mt.refusals[refusedTopics], 100000-len(mt.topics))
	}
	mt.remove(mt.now, "x")
	mt.takeDirty()
	if len(mt.topics) != 0 || len(mt.peers) != 0 {
		t.Errorf("%d topics and %d peers left, want none", len(mt.topics), len(mt.peers))
	}
}

func TestZeroDegreesAreLegal(t *testing.T) {
	mt := newMeshTest(t, func(c *meshConfig) {
		c.params.D, c.params.Dlo, c.params.Dhi, c.params.Dout, c.params.Dscore = 0, 0, 0, 0, 0
	})
	if err := mt.c.params.validate(); err != nil {
		t.Fatal(err)
	}
	mt.join(mt.now, "t")
	mt.add(10, all12, true)
	mt.beat()
	if mt.meshSize() != 0 {
		t.Errorf("mesh of %d, want none", mt.meshSize())
	}
}

// Whatever peers do, the mesh keeps its bounds and its rules.
func TestMeshProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mt := newMeshTest(t, nil)
		ids := make([]peer.ID, 30)
		for i := range ids {
			ids[i] = peer.ID(fmt.Sprintf("p%02d", i))
		}
		topics := []string{"t", "u", "v"}
		backoff := map[string]time.Time{} // topic, peer: when we may GRAFT
		aPeer := rapid.SampledFrom(ids)
		aTopic := rapid.SampledFrom(topics)
		check := func() {
			for _, a := range mt.take() {
				switch a.kind {
				case actGraft:
					if until := backoff[a.topic+string(a.peer)]; mt.now.Before(until) {
						t.Fatalf("GRAFT to %s in %s inside its back-off", a.peer, a.topic)
					}
				case actPrune:
					backoff[a.topic+string(a.peer)] = mt.now.Add(mt.c.params.UnsubscribeBackoff)
				default:
				}
			}
			mt.takeDirty()
			if len(mt.topics) > len(topics) {
				t.Fatalf("%d topics", len(mt.topics))
			}
			for _, tp := range mt.topics {
				for _, p := range tp.mesh.list {
					if !tp.joined || mt.peers[p.id] != p || p.direct {
						t.Fatalf("%s must not be in the mesh of %s", p.id, tp.name)
					}
				}
				for _, p := range tp.peers.list {
					if p.topics[tp.name] != tp {
						t.Fatalf("%s is in %s and does not know it", p.id, tp.name)
					}
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"opened": func(t *rapid.T) {
				mt.opened(mt.now, aPeer.Draw(t, "peer"), features(rapid.IntRange(0, 7).Draw(t, "features")), rapid.Bool().Draw(t, "outbound"))
			},
			"closed":      func(t *rapid.T) { mt.closed(mt.now, aPeer.Draw(t, "peer")) },
			"remove":      func(t *rapid.T) { mt.remove(mt.now, aPeer.Draw(t, "peer")) },
			"subscribe":   func(t *rapid.T) { mt.subscribe(mt.now, aPeer.Draw(t, "peer"), []byte(aTopic.Draw(t, "topic"))) },
			"unsubscribe": func(t *rapid.T) { mt.unsubscribe(mt.now, aPeer.Draw(t, "peer"), []byte(aTopic.Draw(t, "topic"))) },
			"join":        func(t *rapid.T) { mt.join(mt.now, aTopic.Draw(t, "topic")) },
			"leave":       func(t *rapid.T) { mt.leave(mt.now, aTopic.Draw(t, "topic")) },
			"publish":     func(t *rapid.T) { mt.publishing(mt.now, aTopic.Draw(t, "topic")) },
			"direct":      func(t *rapid.T) { mt.setDirect(mt.now, aPeer.Draw(t, "peer"), rapid.Bool().Draw(t, "direct")) },
			"score": func(t *rapid.T) {
				mt.scores[aPeer.Draw(t, "peer")] = float64(rapid.IntRange(-40, 10).Draw(t, "score"))
			},
			"graft": func(t *rapid.T) {
				mt.control(mt.now, aPeer.Draw(t, "peer"), &wire.RPC{HasControl: true, Graft: []wire.Graft{{Topic: []byte(aTopic.Draw(t, "topic"))}}})
			},
			"prune": func(t *rapid.T) {
				id, topic, secs := aPeer.Draw(t, "peer"), aTopic.Draw(t, "topic"), rapid.Uint64().Draw(t, "back-off")
				known := mt.topics[topic] != nil && mt.topics[topic].joined
				mt.control(mt.now, id, &wire.RPC{HasControl: true, Prune: []wire.Prune{{Topic: []byte(topic), Backoff: secs, HasBackoff: true}}})
				if known {
					backoff[topic+string(id)] = mt.now.Add(min(time.Duration(min(secs, 3600))*time.Second, time.Minute))
				}
			},
			"gossip": func(t *rapid.T) {
				mt.control(mt.now, aPeer.Draw(t, "peer"), func() *wire.RPC {
					r := ihaveRPC(aTopic.Draw(t, "topic"), rapid.IntRange(0, 1000).Draw(t, "id"), 5)
					r.HasControl = true
					return r
				}())
			},
			"heartbeat": func(t *rapid.T) {
				check()
				mt.now = mt.now.Add(time.Second)
				mt.heartbeat(mt.now)
				for _, tp := range mt.topics {
					if tp.mesh.len() > mt.c.params.Dhi+mt.c.params.Dout+mt.c.params.OpportunisticGraftPeers {
						t.Fatalf("mesh of %d after a heartbeat", tp.mesh.len())
					}
					for _, p := range tp.mesh.list {
						if mt.scores[p.id] < 0 {
							t.Fatalf("%s with score %v is in the mesh after a heartbeat", p.id, mt.scores[p.id])
						}
					}
				}
			},
			"": func(*rapid.T) { check() },
		})
	})
}
