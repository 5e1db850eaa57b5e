package pubsub_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/muster-p2p/muster/pubsub"
	pb "github.com/muster-p2p/muster/pubsub/pb"
	"github.com/muster-p2p/muster/pubsub/wire"
)

// settled sends a message and waits until it is delivered: what was said
// before it has been handled then.
func (x *stranger) settled(sub *pubsub.Subscription, n int) {
	x.t.Helper()
	if err := x.say(publishing(x.sign(sub.Topic(), "settled", n))); err != nil {
		x.t.Fatal(err)
	}
	for string(next(x.t, sub).Data) != "settled" {
	}
}

func graft(topics ...string) []byte { return control(wire.Control{Graft: topics}) }

// A GRAFT that finds the mesh full is answered by PRUNE: with back-off and
// peers from 1.1 on, without either towards 1.0. Another within the back-off
// is misbehaviour, and answered no more in this heartbeat.
func TestGraftOfStrangers(t *testing.T) {
	for proto, want := range map[protocol.ID]struct{ backoff, named int }{
		pubsub.GossipSubID_v10: {0, 0},
		pubsub.GossipSubID_v11: {60, 2},
		pubsub.GossipSubID_v12: {60, 2},
	} {
		t.Run(strings.ReplaceAll(string(proto[1:]), "/", " "), func(t *testing.T) {
			params := slowBeat()
			params.D, params.Dlo, params.Dhi, params.Dout, params.Dscore = 1, 1, 1, 0, 1
			ps, h := newPubSub(t, pubsub.WithGossipSubParams(params), pubsub.WithPeerExchange(true))
			_, sub := subscribe(t, ps, "news")
			for range 2 { // one fills the mesh
				y := newStranger(t, h, pubsub.GossipSubID_v12)
				y.subscribe("news")
				within(t, 5*time.Second, "subscribed", func() bool { return slices.Contains(ps.ListPeers("news"), y.h.ID()) })
			}
			x := newStranger(t, h, proto)
			within(t, 5*time.Second, "our stream", x.look(func() bool { return x.topics["news"] }))
			if err := x.say(wire.AppendSubscription(nil, "news", true), graft("news", "news", "news")); err != nil {
				t.Fatal(err)
			}
			within(t, 5*time.Second, "PRUNE", x.look(func() bool { return len(x.prunes) == 1 }))
			x.settled(sub, 1)
			if n := ps.Stats().Penalties; n == 0 {
				t.Error("the second GRAFT, within the back-off, was not held against it")
			}
			if err := x.say(graft("news")); err != nil {
				t.Fatal(err)
			}
			x.settled(sub, 2)
			if slices.Contains(ps.MeshPeers("news"), x.h.ID()) {
				t.Error("in the mesh within the back-off")
			}
			x.mu.Lock()
			defer x.mu.Unlock()
			if len(x.prunes) != 1 || x.prunes[0] != uint64(want.backoff) || x.named != want.named {
				t.Errorf("PRUNEs with back-offs %v and %d peers, want one of %d and %d", x.prunes, x.named, want.backoff, want.named)
			}
		})
	}
}

// A PRUNE takes us out of the mesh whatever stands in it; peers that it names
// are not dialled unless their records are theirs.
func TestPruneOfStrangers(t *testing.T) {
	for name, rest := range map[string][]byte{
		"bare":            nil,
		"back-off of 0":   varintField(3, 0),
		"2^64-1 seconds":  varintField(3, 1<<64-1),
		"garbage records": joined(bytesField(2, string(bytesField(1, "not an id")), string(bytesField(2, "not a record"))), bytesField(2, string(bytesField(2, notText)))),
	} {
		t.Run(name, func(t *testing.T) {
			score := &pubsub.PeerScoreParams{SkipAtomicValidation: true, AppSpecificScore: func(peer.ID) float64 { return 10 }, AppSpecificWeight: 1, DecayInterval: time.Second, DecayToZero: 0.01}
			limits := &pubsub.PeerScoreThresholds{SkipAtomicValidation: true, AcceptPXThreshold: 5}
			ps, h := newPubSub(t, pubsub.WithGossipSubParams(slowBeat()), pubsub.WithPeerExchange(true), pubsub.WithPeerScore(score, limits))
			_, sub := subscribe(t, ps, "news")
			x := newStranger(t, h, pubsub.GossipSubID_v12)
			x.subscribe("news")
			within(t, 5*time.Second, "GRAFT", x.look(func() bool { return x.grafts == 1 }))
			if err := x.say(ctl(bytesField(4, string(bytesField(1, "news")), string(rest)))); err != nil {
				t.Fatal(err)
			}
			x.settled(sub, 1)
			if n := len(ps.MeshPeers("news")); n != 0 {
				t.Errorf("a mesh of %d after the PRUNE", n)
			}
			if s := ps.Stats(); s.BadRPCs+s.Penalties > 0 {
				t.Errorf("%d bad RPCs, %d penalties", s.BadRPCs, s.Penalties)
			}
		})
	}
}

// Message ids are bytes: those that are no UTF-8 are asked for, answered and
// declined like any other.
func TestIDsThatAreNoText(t *testing.T) {
	params := slowBeat()
	ps, h := newPubSub(t, pubsub.WithGossipSubParams(params), pubsub.WithMessageIdFn(func(m *pb.Message) string {
		return notText + string(m.GetData()[:1])
	}))
	tp, sub := subscribe(t, ps, "news")
	x := newStranger(t, h, pubsub.GossipSubID_v12)
	x.subscribe("news")
	within(t, 5*time.Second, "GRAFT", x.look(func() bool { return x.grafts == 1 }))

	if err := x.say(control(wire.Control{IHave: []wire.OutIHave{{Topic: "news", IDs: []string{notText + "x"}}}})); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "asked for", x.look(func() bool { return slices.Contains(x.iwant, notText+"x") }))

	if err := tp.Publish(t.Context(), []byte("a, pushed")); err != nil {
		t.Fatal(err)
	}
	next(t, sub)
	if err := x.say(control(wire.Control{IWant: []string{notText + "a"}})); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "sent again", x.look(func() bool { return x.messages["a, pushed"] == 2 }))

	// IDONTWANT before the message: neither pushed nor sent for an IWANT.
	if err := x.say(control(wire.Control{IDontWant: []string{notText + "b"}})); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "heard", func() bool { return ps.Stats().IDontWantReceived == 1 })
	if err := tp.Publish(t.Context(), []byte("b, declined")); err != nil {
		t.Fatal(err)
	}
	if err := x.say(control(wire.Control{IWant: []string{notText + "b"}})); err != nil {
		t.Fatal(err)
	}
	// And after it: nothing happens.
	if err := x.say(control(wire.Control{IDontWant: []string{notText + "a"}})); err != nil {
		t.Fatal(err)
	}
	if err := tp.Publish(t.Context(), []byte("c, last")); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "the last", x.look(func() bool { return x.messages["c, last"] == 1 }))
	x.mu.Lock()
	defer x.mu.Unlock()
	if n := x.messages["b, declined"]; n != 0 {
		t.Errorf("what it did not want was sent %d times", n)
	}
}

// A large message makes us say IDONTWANT to the others of the mesh, and not
// to whom it came from; not to those of 1.1, and not for a small one.
func TestIDontWantSaid(t *testing.T) {
	ps, h := newPubSub(t, pubsub.WithGossipSubParams(slowBeat()))
	_, sub := subscribe(t, ps, "news")
	var xs []*stranger
	for _, proto := range []protocol.ID{pubsub.GossipSubID_v12, pubsub.GossipSubID_v12, pubsub.GossipSubID_v11} {
		x := newStranger(t, h, proto)
		x.subscribe("news")
		within(t, 5*time.Second, "GRAFT", x.look(func() bool { return x.grafts == 1 }))
		xs = append(xs, x)
	}
	for i, data := range []string{"small", strings.Repeat("large ", 20_000)} {
		if err := xs[0].say(publishing(xs[0].sign("news", data, i))); err != nil {
			t.Fatal(err)
		}
		next(t, sub)
		for _, x := range xs[1:] {
			within(t, 5*time.Second, "forwarded", x.look(func() bool { return x.messages[data] == 1 }))
		}
	}
	for i, want := range []int{0, 1, 0} {
		xs[i].mu.Lock()
		if n := len(xs[i].unwanted); n != want {
			t.Errorf("stranger %d was told IDONTWANT %d times, want %d", i, n, want)
		}
		xs[i].mu.Unlock()
	}
}

// Our own messages that come back are not delivered again, go nowhere, and
// cost nobody anything: some implementations relay them to us.
func TestOwnMessagesEchoed(t *testing.T) {
	ps, h := newPubSub(t, pubsub.WithGossipSubParams(slowBeat()))
	tp, sub := subscribe(t, ps, "news")
	x := newStranger(t, h, pubsub.GossipSubID_v12)
	var copies [][]byte
	x.subscribe("news")
	within(t, 5*time.Second, "GRAFT", x.look(func() bool { return x.grafts == 1 }))
	for _, data := range []string{"one", "two"} {
		if err := tp.Publish(t.Context(), []byte(data)); err != nil {
			t.Fatal(err)
		}
		m := next(t, sub)
		copies = append(copies, publishing(wire.Fields{From: m.From, Data: m.Data, Seqno: m.Seqno, Topic: "news", Signature: m.Signature, Key: m.Key}))
	}
	for _, c := range slices.Concat(copies, copies) {
		if err := x.say(c); err != nil {
			t.Fatal(err)
		}
	}
	x.settled(sub, 1)
	if s := ps.Stats(); s.Delivered != 1 || s.Duplicates != 4 || s.Rejected+s.BadSignatures+s.Penalties > 0 {
		t.Errorf("%+v", s)
	}
}
