package pubsub_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

const (
	messages = 1000
	size     = 500
	large    = 1<<20 - 1024 // a message of 1 MiB with its envelope

	meshTime = 20 * time.Second // several heartbeats on a machine under load
	sendTime = 60 * time.Second
)

// TestPeersDifferByImportOnly proves that the program of go-libp2p-pubsub's
// API needs nothing but another import path to run on ours.
func TestPeersDifferByImportOnly(t *testing.T) {
	theirs, err := os.ReadFile("cmd/peer-go/main.go")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := os.ReadFile("cmd/peer-muster/main.go")
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.ReplaceAll(theirs, []byte("github.com/libp2p/go-libp2p-pubsub"), []byte("github.com/muster-p2p/muster/pubsub"))
	want = want[bytes.Index(want, []byte("package main")):]
	ours = ours[bytes.Index(ours, []byte("package main")):]
	if !bytes.Equal(ours, want) {
		t.Error("cmd/peer-muster/main.go is not cmd/peer-go/main.go with another import path: run build.sh")
	}
}

// TestGossip runs one of ours against one of each other.
func TestGossip(t *testing.T) {
	for _, other := range append([]implementation{muster}, foreigners...) {
		t.Run(other.name, func(t *testing.T) { pairs(t, muster, other) })
	}
}

// TestForeignGossip runs go-libp2p-pubsub in our place: what fails here is not
// ours to pass.
func TestForeignGossip(t *testing.T) {
	for _, other := range foreigners {
		t.Run(other.name, func(t *testing.T) { pairs(t, goPeer, other) })
	}
}

// pairs runs all that two gossipsub peers do with one another.
func pairs(t *testing.T, ours, other implementation) {
	for _, sign := range []string{"strict", "none"} {
		for _, weDial := range []bool{true, false} {
			name := sign + "/they dial"
			if weDial {
				name = sign + "/we dial"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if sign == "none" && other.noAnon != "" {
					t.Skip(other.noAnon)
				}
				gossipPair(t, start(t, ours, "--sign", sign), start(t, other, "--sign", sign), weDial)
			})
		}
	}
}

func gossipPair(t *testing.T, us, them *peer, weDial bool) {
	// Who subscribes last learns first that the other is there, and grafts:
	// so both ends come to send a GRAFT in one of the two runs.
	first, last := them, us
	if !weDial {
		first, last = us, them
	}
	first.do("subscribe", topic)
	last.do("connect", first.Addr)
	if !poll(meshTime, func() bool { return last.knowsSubscriber(first) }) {
		t.Fatalf("%s does not hear of %s's subscription", last.name, first.name)
	}
	last.do("subscribe", topic)
	waitMesh(t, us, them, meshTime)
	if us.countsRPCs {
		traffic := us.state().Counts[them.ID]
		switch grafts := traffic.Out.Graft; {
		case weDial && grafts == 0:
			t.Errorf("%s sent no GRAFT to %s", us.name, them.name)
		case !weDial && traffic.In.Graft == 0 && !us.graftsLate:
			t.Errorf("%s had no GRAFT from %s", us.name, them.name)
		}
	}

	together(func() { us.publish("ours", messages, size) }, func() { them.publish("theirs", messages, size) })
	them.receives("ours", messages, sendTime)
	us.receives("theirs", messages, sendTime)

	us.publish("ours-large", 1, large)
	them.publish("theirs-large", 1, large)
	them.receives("ours-large", 1, sendTime)
	us.receives("theirs-large", 1, sendTime)

	comeBack(t, us, them)
	restart(t, us, them)
}

// everyStep runs the steps too that fail without us, to see whether they still
// do.
var everyStep = os.Getenv("INTEROP_EVERY_STEP") != ""

// returnTime is how long a mesh may take to form again: a backoff of a minute
// that begins anew, once, with a GRAFT that came too early.
const returnTime = 100 * time.Second

// comeBack lets each of two leave and come back, where both know how.
func comeBack(t *testing.T, us, them *peer) {
	t.Helper()
	other, foreign := them.implementation, us.name != muster.name
	if foreign && other.noRegraft != "" && !everyStep {
		t.Logf("no resubscription of %s: %s", us.name, other.noRegraft)
	} else {
		resubscribe(t, us, them)
	}
	if foreign && other.noForeign != "" && !everyStep {
		t.Logf("no resubscription of %s: %s", other.name, other.noForeign)
	} else {
		resubscribe(t, them, us)
	}
}

// resubscribe lets a leave and come back: nothing reaches it in between, and
// the mesh forms again once the backoff is over.
func resubscribe(t *testing.T, a, b *peer) {
	t.Helper()
	a.do("unsubscribe", topic)
	if !poll(meshTime, func() bool { return !b.knowsSubscriber(a) && !b.inMesh(a) }) {
		t.Errorf("%s still has %s in the topic", b.name, a.name)
	}
	tag := "after-" + a.ID
	b.publish("away-"+a.ID, 5, size)
	a.do("subscribe", topic)
	if !poll(meshTime, func() bool { return b.knowsSubscriber(a) }) {
		t.Fatalf("%s does not hear of %s's resubscription", b.name, a.name)
	}
	began := time.Now()
	waitMesh(t, a, b, returnTime)
	t.Logf("%s is in a mesh with %s again after %v", a.name, b.name, time.Since(began).Round(time.Second))
	b.publish(tag, 5, size)
	a.publish(tag+"-back", 5, size)
	b.receives(tag+"-back", 5, sendTime)
	a.receives(tag, 5, sendTime)
	if t.Failed() {
		t.Logf("%s after %s came back: %v", b.name, a.name, b.state())
	}
}

// restart kills the other peer; another takes its place.
func restart(t *testing.T, us, them *peer) {
	t.Helper()
	them.Kill()
	if !poll(meshTime, func() bool { return !us.inMesh(them) && !us.knowsSubscriber(them) }) {
		t.Errorf("%s still has the dead %s in the topic", us.name, them.name)
	}
	again := start(t, them.implementation, them.args...)
	again.do("subscribe", topic)
	again.do("connect", us.Addr)
	waitMesh(t, us, again, meshTime)
	us.publish("ours-again", 10, size)
	again.publish("theirs-again", 10, size)
	again.receives("ours-again", 10, sendTime)
	us.receives("theirs-again", 10, sendTime)
}

// TestFlood runs floodsub peers in pairs.
func TestFlood(t *testing.T) {
	for _, other := range append([]implementation{muster}, foreigners...) {
		t.Run(other.name, func(t *testing.T) { t.Parallel(); floodPair(t, muster, other) })
	}
}

// TestForeignFlood runs go-libp2p-pubsub in our place.
func TestForeignFlood(t *testing.T) {
	for _, other := range foreigners {
		t.Run(other.name, func(t *testing.T) {
			t.Parallel()
			if other.name == rust.name {
				t.Skip("rust-libp2p's floodsub reads one RPC of each stream, go-libp2p-pubsub keeps one stream for all")
			}
			floodPair(t, goPeer, other)
		})
	}
}

func floodPair(t *testing.T, ours, other implementation) {
	sign := "strict"
	if other.floodSign != "" {
		sign = other.floodSign
	}
	us := start(t, ours, "--router", "floodsub", "--sign", sign)
	them := start(t, other, "--router", "floodsub", "--sign", sign)
	us.do("subscribe", topic)
	them.do("subscribe", topic)
	us.do("connect", them.Addr)
	if !poll(meshTime, func() bool { return us.knowsSubscriber(them) }) {
		t.Fatalf("%s does not hear of %s's subscription", us.name, them.name)
	}
	// Not every implementation tells who is subscribed to it.
	poll(2*time.Second, func() bool { return them.knowsSubscriber(us) })
	together(func() { us.publish("ours", messages, size) }, func() { them.publish("theirs", messages, size) })
	them.receives("ours", messages, sendTime)
	us.receives("theirs", messages, sendTime)
	us.do("unsubscribe", topic)
	if other.maxFlood == 0 {
		if !poll(meshTime, func() bool { return !them.knowsSubscriber(us) }) {
			t.Errorf("%s still has %s in the topic", them.name, us.name)
		}
	}
	us.do("subscribe", topic)
	poll(2*time.Second, func() bool { return them.knowsSubscriber(us) })
	them.publish("theirs-again", 10, size)
	us.receives("theirs-again", 10, sendTime)
}

// TestPeerExchange lets a hub with room for two in its mesh prune the rest,
// and wants those to find each other by the records in its PRUNEs.
func TestPeerExchange(t *testing.T) {
	cases := []struct{ hub, leaf implementation }{
		{muster, muster},
		{muster, goPeer},
		{muster, jsPeer},
		{goPeer, muster},
		{jsPeer, muster},
		{goPeer, goPeer},
	}
	for _, c := range cases {
		t.Run(c.hub.name+" prunes "+c.leaf.name, func(t *testing.T) {
			t.Parallel()
			hub := start(t, c.hub, "--px", "--degree", "2")
			hub.do("subscribe", topic)
			var leaves []*peer
			for range 5 {
				leaf := start(t, c.leaf, "--px")
				leaf.do("subscribe", topic)
				leaf.do("connect", hub.Addr)
				leaves = append(leaves, leaf)
			}
			if !poll(45*time.Second, func() bool {
				return slices.ContainsFunc(leaves, func(p *peer) bool { return len(p.state().Connected) > 1 })
			}) {
				prunes, px := 0, 0
				for _, leaf := range leaves {
					in := leaf.state().Counts[hub.ID].In
					prunes, px = prunes+in.Prune, px+in.PX
				}
				t.Errorf("no leaf found another; %d PRUNEs came with %d records; the hub's mesh is %v", prunes, px, hub.state().Mesh)
			}
		})
	}
}

// TestIDontWant lets three peers tell each other what they have already.
func TestIDontWant(t *testing.T) {
	for _, other := range []implementation{goPeer, jsPeer} {
		t.Run(other.name, func(t *testing.T) {
			t.Parallel()
			us, a, b := start(t, muster), start(t, other), start(t, other)
			for _, p := range []*peer{us, a, b} {
				p.do("subscribe", topic)
			}
			us.do("connect", a.Addr)
			us.do("connect", b.Addr)
			a.do("connect", b.Addr)
			waitMesh(t, us, a, meshTime)
			waitMesh(t, us, b, meshTime)
			waitMesh(t, a, b, meshTime)
			a.publish("big", 20, 64<<10)
			us.receives("big", 20, sendTime)
			b.receives("big", 20, sendTime)
			counts := us.state().Counts
			if in := counts[a.ID].In.IDontWant + counts[b.ID].In.IDontWant; in == 0 {
				t.Errorf("no IDONTWANT from %s", other.name)
			}
			if out := counts[a.ID].Out.IDontWant + counts[b.ID].Out.IDontWant; out == 0 {
				t.Errorf("no IDONTWANT to %s", other.name)
			}
		})
	}
}

// TestMixedMesh is twelve peers of three implementations, each connected to
// four others.
func TestMixedMesh(t *testing.T) {
	mixedMesh(t, muster, goPeer, jsPeer)
}

// TestForeignMixedMesh is the same without us.
func TestForeignMixedMesh(t *testing.T) {
	mixedMesh(t, rust, goPeer, jsPeer)
}

func mixedMesh(t *testing.T, impls ...implementation) {
	const each, neighbours, sent = 4, 4, 50
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	var peers []*peer
	for _, impl := range impls {
		for range each {
			p := start(t, impl)
			p.do("subscribe", topic)
			peers = append(peers, p)
		}
	}
	for i, p := range peers {
		// A ring, so that nobody is left out, and some chords.
		p.do("connect", peers[(i+1)%len(peers)].Addr)
		for _, j := range dice.Perm(len(peers))[:neighbours] {
			if j != i {
				p.do("connect", peers[j].Addr)
			}
		}
	}
	for _, p := range peers {
		if !poll(meshTime, func() bool { return len(p.state().Mesh) >= 3 }) {
			t.Errorf("%s has a mesh of %d", p.name, len(p.state().Mesh))
		}
	}
	var publish []func()
	for _, p := range peers {
		publish = append(publish, func() { p.publish(p.ID, sent, 1024) })
	}
	together(publish...)
	want := len(peers) * (len(peers) - 1) * sent
	got, duplicates, corrupt := 0, 0, 0
	poll(30*time.Second, func() bool {
		got, duplicates, corrupt = 0, 0, 0
		for _, p := range peers {
			for _, from := range peers {
				if from != p {
					ev := p.do("received", topic, from.ID)
					got += ev.Count
					duplicates += ev.Duplicates
					corrupt += ev.Corrupt
				}
			}
		}
		return got == want
	})
	for _, p := range peers {
		for _, from := range peers {
			if ev := p.do("received", topic, from.ID); from != p && (ev.Count != sent || ev.Duplicates > 0) {
				t.Logf("%s %s received %d of %d, %d twice, from %s %s", p.name, p.ID, ev.Count, sent, ev.Duplicates, from.name, from.ID)
			}
		}
	}
	t.Logf("%d of %d messages delivered (%.3f %%), %d twice, %d corrupt",
		got, want, 100*float64(got)/float64(want), duplicates, corrupt)
	if float64(got) < 0.999*float64(want) || duplicates > 0 || corrupt > 0 {
		t.Error("too few")
	}
}
