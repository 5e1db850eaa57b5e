package pubsub_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/muster-p2p/muster/pubsub"
	"github.com/muster-p2p/muster/pubsub/wire"
)

// A peer that subscribes to 100,000 topics (others keep them for ever:
// CVE-2026-46679) costs less than 1 MiB, and nothing when it is gone.
func TestAttackTopics(t *testing.T) {
	ps, h := newPubSub(t, pubsub.WithGossipSubParams(slowBeat()))
	subscribe(t, ps, "news")
	x := newStranger(t, h, pubsub.GossipSubID_v11)
	x.subscribe("news")
	within(t, 5*time.Second, "the stranger in the mesh", func() bool { return len(ps.MeshPeers("news")) == 1 })
	before := heap()
	for i := 0; i < 100_000; i += 500 {
		var b []byte
		for j := i; j < i+500; j++ {
			b = wire.AppendSubscription(b, fmt.Sprintf("topic number %06d", j), true)
		}
		if err := x.say(b); err != nil {
			t.Fatal(err)
		}
	}
	x.subscribe("last", "words") // refused too, by the bound on topics
	within(t, 10*time.Second, "all refused", func() bool { return ps.Stats().RefusedTopics >= 100_000-pubsub.DefaultMaxPeerTopics })
	if grown := int64(heap()) - int64(before); grown > 1<<20 {
		t.Errorf("heap grew by %d bytes, want less than 1 MiB", grown)
	}
	if n := len(ps.ListPeers("topic number 099999")); n != 0 {
		t.Errorf("a topic over the bound has %d peers", n)
	}
	if n := len(ps.ListPeers("topic number 000000")); n != 1 {
		t.Errorf("a topic within the bound has %d peers, want 1", n)
	}
	_ = x.h.Close()
	within(t, 5*time.Second, "forgotten", func() bool {
		return len(ps.ListPeers("topic number 000000")) == 0 && ps.KnownTopics() == 1
	})
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Of 50,000 announced ids no more than 5,000 are considered in a heartbeat,
// however many RPCs they come in.
func TestAttackIHave(t *testing.T) {
	ps, h := newPubSub(t, pubsub.WithGossipSubParams(slowBeat()))
	subscribe(t, ps, "news")
	x := newStranger(t, h, pubsub.GossipSubID_v11)
	x.subscribe("news")
	const ids = 50_000
	for rpc := range 20 {
		list := make([]string, ids/20)
		for i := range list {
			list[i] = fmt.Sprintf("an id that nobody has %06d", rpc*len(list)+i)
		}
		if err := x.say(control(wire.Control{IHave: []wire.OutIHave{{Topic: "news", IDs: list}}})); err != nil {
			t.Fatal(err)
		}
	}
	f := x.sign("news", "marker", 1)
	if err := x.say(publishing(f)); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "all read", func() bool { return ps.Stats().Delivered == 1 })
	within(t, 10*time.Second, "5,000 asked for", x.look(func() bool { return len(x.iwant) >= 5000 }))
	if n := ps.Stats().IWantSent; n > 5000 {
		t.Errorf("%d ids asked for, want at most 5000", n)
	}
	if ps.Stats().RefusedIHave == 0 {
		t.Error("nothing counted as refused")
	}
}

// A message is sent for IWANT no more than three times to one peer.
func TestAttackIWant(t *testing.T) {
	ps, h := newPubSub(t, pubsub.WithGossipSubParams(slowBeat()))
	topic, sub := subscribe(t, ps, "news")
	x := newStranger(t, h, pubsub.GossipSubID_v11)
	x.subscribe("news")
	within(t, 5*time.Second, "in the mesh", func() bool { return len(ps.MeshPeers("news")) == 1 })
	if err := topic.Publish(t.Context(), []byte("pushed")); err != nil {
		t.Fatal(err)
	}
	id := next(t, sub).ID
	within(t, 5*time.Second, "pushed", x.look(func() bool { return x.messages["pushed"] > 0 }))
	for range 100 {
		if err := x.say(control(wire.Control{IWant: []string{id}})); err != nil {
			t.Fatal(err)
		}
	}
	within(t, 5*time.Second, "refused", func() bool { return ps.Stats().RefusedIWant >= 97 })
	within(t, 5*time.Second, "answered", x.look(func() bool { return x.messages["pushed"] == 4 }))
	if n := ps.Stats().IWantServed; n != 3 {
		t.Errorf("sent %d times for IWANT, want 3", n)
	}
}

// A thousand GRAFTs inside the back-off, most of them in one RPC, get nobody
// into the mesh and are answered by one PRUNE per topic and heartbeat.
func TestAttackGraft(t *testing.T) {
	ps, h := newPubSub(t, pubsub.WithGossipSubParams(slowBeat()),
		pubsub.WithPeerScore(behaviourOnly()))
	subscribe(t, ps, "news")
	x := newStranger(t, h, pubsub.GossipSubID_v11)
	x.subscribe("news")
	within(t, 5*time.Second, "in the mesh", func() bool { return len(ps.MeshPeers("news")) == 1 })
	if err := x.say(control(wire.Control{Prune: []wire.OutPrune{{Topic: "news", Backoff: 60}}})); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "out of the mesh", func() bool { return len(ps.MeshPeers("news")) == 0 })
	many := wire.Control{}
	for range 900 {
		many.Graft = append(many.Graft, "news", "a topic we are not in")
	}
	if err := x.say(control(many)); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := x.say(control(wire.Control{Graft: []string{"news"}})); err != nil {
			t.Fatal(err)
		}
	}
	within(t, 5*time.Second, "all refused", func() bool { return ps.Stats().Penalties > 100 })
	if n := len(ps.MeshPeers("news")); n != 0 {
		t.Errorf("%d in the mesh, want 0", n)
	}
	within(t, 5*time.Second, "a PRUNE", x.look(func() bool { return len(x.prunes) > 0 }))
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.prunes) != 1 {
		t.Errorf("%d PRUNEs, want 1", len(x.prunes))
	}
}

// behaviourOnly scores misbehaviour and nothing else.
func behaviourOnly() (*pubsub.PeerScoreParams, *pubsub.PeerScoreThresholds) {
	return &pubsub.PeerScoreParams{
			SkipAtomicValidation:   true,
			BehaviourPenaltyWeight: -1, BehaviourPenaltyDecay: 0.99, DecayInterval: time.Second, DecayToZero: 0.01,
		}, &pubsub.PeerScoreThresholds{
			GossipThreshold: -1e9, PublishThreshold: -1e9, GraylistThreshold: -1e9,
		}
}

// A megabyte of the smallest entries is read in less than 4 MiB, and the peer
// is still served.
func TestAttackEmptySubmessages(t *testing.T) {
	ps, h := newPubSub(t, pubsub.WithGossipSubParams(slowBeat()))
	_, sub := subscribe(t, ps, "news")
	x := newStranger(t, h, pubsub.GossipSubID_v11)
	x.subscribe("news")
	frame := []byte(strings.Repeat("\x12\x00", 1<<19-8))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := x.say(frame); err != nil {
		t.Fatal(err)
	}
	f := x.sign("news", "still here", 1)
	if err := x.say(publishing(f)); err != nil {
		t.Fatal(err)
	}
	if m := next(t, sub); string(m.Data) != "still here" {
		t.Errorf("got %q", m.Data)
	}
	runtime.ReadMemStats(&after)
	// The frame itself is made and framed here, and copied by the transport.
	if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20+3<<20 {
		t.Errorf("%d bytes allocated by both sides, want at most 4 MiB and three frames", got)
	}
	if ps.Stats().Excess < 1<<18 {
		t.Errorf("%d entries counted as left out", ps.Stats().Excess)
	}
}

// Of a flood of IDONTWANTs only so many are remembered, and they wear off.
func TestAttackIDontWant(t *testing.T) {
	ps, h := newPubSub(t)
	topic, _ := subscribe(t, ps, "news")
	x := newStranger(t, h, pubsub.GossipSubID_v12)
	x.subscribe("news")
	within(t, 5*time.Second, "in the mesh", func() bool { return len(ps.MeshPeers("news")) == 1 })
	before := heap()
	for rpc := range 400 {
		list := make([]string, 500)
		for i := range list {
			list[i] = fmt.Sprintf("an id that will never be %08d", rpc*500+i)
		}
		if err := x.say(control(wire.Control{IDontWant: list})); err != nil {
			t.Fatal(err)
		}
	}
	if err := topic.Publish(t.Context(), []byte("after the flood")); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "all read", func() bool {
		s := ps.Stats()
		return s.RPCsReceived >= 401
	})
	within(t, 10*time.Second, "served all the same", x.look(func() bool { return x.messages["after the flood"] == 1 }))
	if n := ps.Stats().IDontWantReceived; n > 10*1000*10 {
		t.Errorf("%d ids taken in, want at most 10 of an RPC and 1000 RPCs a heartbeat", n)
	}
	if grown := int64(heap()) - int64(before); grown > 2<<20 {
		t.Errorf("heap grew by %d bytes, want less than 2 MiB", grown)
	}
}
