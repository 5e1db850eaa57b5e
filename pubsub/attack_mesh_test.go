package pubsub

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/pubsub/wire"
)

// A PRUNE that asks for a back-off of 2^62 seconds, which overflows elsewhere,
// gets an hour: no more, or the peer would be lost for good, and no less.
func TestAttackPruneBackoff(t *testing.T) {
	for _, backoff := range []uint64{1 << 62, 1<<64 - 1, uint64(maxPruneBackoff/time.Second) + 1} {
		s := newSim(t, 2, 1)
		a, b := s.nodes[0], s.nodes[1]
		s.run(3 * time.Second)
		if !a.inMesh(b.id) {
			t.Fatal("no mesh")
		}
		rpc := wire.RPC{HasControl: true, Prune: []wire.Prune{{Topic: []byte(simTopic), Backoff: backoff, HasBackoff: true}}}
		pruned := s.now
		a.mesh.control(s.now, b.id, &rpc)
		b.mesh.control(s.now, a.id, &rpc) // or b would graft a again by itself
		s.run(maxPruneBackoff - time.Minute)
		if a.inMesh(b.id) {
			t.Errorf("back-off %d: grafted again %v after", backoff, s.now.Sub(pruned))
		}
		s.run(2 * time.Minute)
		if !a.inMesh(b.id) {
			t.Errorf("back-off %d: not grafted again an hour after", backoff)
		}
	}
}

func (n *simNode) inMesh(p peer.ID) bool {
	mp := n.mesh.peers[p]
	return mp != nil && n.mesh.topic(simTopic).mesh.has(mp)
}

// Whatever a hostile peer says in whatever order, the router remembers no more
// than its bounds.
func TestAttackRandomControl(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	s := newSim(t, 1, 0)
	n := s.nodes[0]
	const all = featureMesh | featurePX | featureIDontWant
	peers := []peer.ID{"hostile-1", "hostile-2", "hostile-3"}
	for _, p := range peers {
		n.mesh.opened(s.now, p, all, false)
	}
	name := func(of int) []byte { return []byte{'t', byte(rnd.IntN(of)), byte(rnd.IntN(of))} }
	for range 20_000 {
		p := peers[rnd.IntN(len(peers))]
		rpc := wire.RPC{HasControl: true}
		topic := []byte(simTopic)
		if rnd.IntN(3) > 0 {
			topic = name(100)
		}
		switch rnd.IntN(8) {
		case 0:
			rpc.Graft = []wire.Graft{{Topic: topic}}
		case 1:
			rpc.Prune = []wire.Prune{{Topic: topic, Backoff: rnd.Uint64() >> rnd.IntN(64), HasBackoff: true, Peers: []wire.PeerInfo{{ID: name(10)}}}}
		case 2:
			rpc.IHave = []wire.IHave{{Topic: topic, IDs: [][]byte{name(250), name(250)}}}
		case 3:
			rpc.IWant = []wire.IDList{{IDs: [][]byte{name(250)}}}
		case 4:
			n.mesh.unsubscribe(s.now, p, topic)
		case 5:
			s.run(time.Duration(rnd.IntN(300)) * time.Millisecond)
		default:
			n.mesh.subscribe(s.now, p, topic)
		}
		n.mesh.control(s.now, p, &rpc)
		n.mesh.take()
		n.mesh.takeDirty()
	}
	if got := len(n.mesh.topics); got > len(peers)*n.mesh.c.maxTopics+1 {
		t.Errorf("%d topics remembered", got)
	}
	if got := len(n.mesh.requested) + len(n.mesh.requestedBefore); got > 2*maxRequestedIDs {
		t.Errorf("%d requested ids remembered", got)
	}
	if got := n.mesh.backoffs.len(); got > len(peers)*len(n.mesh.topics) {
		t.Errorf("%d back-offs remembered for %d topics", got, len(n.mesh.topics))
	}
	for _, p := range peers {
		n.mesh.remove(s.now, p)
	}
	n.mesh.takeDirty()
	if len(n.mesh.peers) != 0 || len(n.mesh.topics) != 1 {
		t.Errorf("%d peers and %d topics left", len(n.mesh.peers), len(n.mesh.topics))
	}
}
