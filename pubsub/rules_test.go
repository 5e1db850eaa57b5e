package pubsub_test

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	mocknet "github.com/libp2p/go-libp2p/p2p/net/mock"

	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/pubsub"
)

// A stream that the peer ends at once is opened again, ever more slowly: some
// implementations stop talking to us after the fifth.
func TestStreamsAreReopenedRarely(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mn := mocknet.New()
		ps, h := mockPubSub(t, mn)
		subscribe(t, ps, "t")
		rude, err := mn.GenPeer()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = rude.Close() })
		var mu sync.Mutex
		var opened []time.Time
		rude.SetStreamHandler(pubsub.GossipSubID_v12, func(s network.Stream) {
			mu.Lock()
			opened = append(opened, time.Now())
			mu.Unlock()
			_ = s.Reset()
		})
		link(t, mn, h, rude)
		time.Sleep(9 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		want := []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, 1600 * time.Millisecond}
		if len(opened) != len(want)+1 {
			t.Fatalf("opened %d streams in nine minutes, want %d", len(opened), len(want)+1)
		}
		for i, d := range want {
			if got := opened[i+1].Sub(opened[i]); got < d || got > d+50*time.Millisecond {
				t.Errorf("stream %d came after %v, want %v", i+2, got, d)
			}
		}
	})
}

// Sequence numbers are eight bytes, big endian, begin at the time in
// nanoseconds and go up by one.
func TestSequenceNumbers(t *testing.T) {
	before := uint64(time.Now().UnixNano())
	ps, _ := newPubSub(t)
	tp, sub := subscribe(t, ps, "t")
	var last uint64
	for i := range 3 {
		if err := tp.Publish(t.Context(), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		b := next(t, sub).GetSeqno()
		if len(b) != 8 {
			t.Fatalf("sequence number of %d bytes", len(b))
		}
		n := binary.BigEndian.Uint64(b)
		if i == 0 && (n < before || n > uint64(time.Now().UnixNano())+1) || i > 0 && n != last+1 {
			t.Errorf("number %d is %d after %d", i, n, last)
		}
		last = n
	}
}

// A message in our name that we did not send is refused, signed or not. It is
// held against who sends it if it claims to be of this run.
func TestMessageInOurName(t *testing.T) {
	for name, tt := range map[string]struct {
		seqno    int
		punished bool
	}{
		"of an earlier run": {1, false},
		"of this run":       {int(time.Now().Add(time.Hour).UnixNano()), true},
	} {
		t.Run(name, func(t *testing.T) {
			ps, h := newPubSub(t, withScores(), pubsub.WithGossipSubParams(slowBeat()))
			_, sub := subscribe(t, ps, "t")
			x := newStranger(t, h, pubsub.GossipSubID_v12)
			ours := h.Peerstore().PrivKey(h.ID())
			if err := x.say(publishing(signAs(t, ours, "t", "forged", tt.seqno)), publishing(x.sign("t", "honest", 1))); err != nil {
				t.Fatal(err)
			}
			if m := next(t, sub); string(m.Data) != "honest" {
				t.Errorf("%q was delivered", m.Data)
			}
			if s := ps.Stats(); s.Rejected != 1 {
				t.Errorf("%d messages rejected, want 1", s.Rejected)
			}
			if got := ps.Peer(x.h.ID()).Score() < 0; got != tt.punished {
				t.Errorf("score %v", ps.Peer(x.h.ID()).Score())
			}
		})
	}
}

// withScores scores invalid messages in topic t.
func withScores() pubsub.Option {
	return pubsub.WithPeerScore(&pubsub.PeerScoreParams{
		AppSpecificScore: func(peer.ID) float64 { return 0 },
		DecayInterval:    time.Second, DecayToZero: 0.01,
		Topics: map[string]*pubsub.TopicScoreParams{"t": {
			TopicWeight: 1, TimeInMeshQuantum: time.Second,
			InvalidMessageDeliveriesWeight: -1, InvalidMessageDeliveriesDecay: 0.9,
		}},
	}, &pubsub.PeerScoreThresholds{GossipThreshold: -100, PublishThreshold: -200, GraylistThreshold: -300})
}

// Randomsub sends each message to as many peers as it was told, others each
// time, and to all that speak floodsub only.
func TestRandomSub(t *testing.T) {
	h := newHost(t)
	ps, err := pubsub.NewRandomSub(t.Context(), h, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ps.Close() })
	tp, sub := subscribe(t, ps, "news")
	// Each speaks at once: the host resets a stream without a word after ten
	// seconds, which on a busy machine is soon.
	enter := func(proto protocol.ID) *stranger {
		x := newStranger(t, h, proto)
		x.subscribe("news")
		within(t, 5*time.Second, "our stream", x.look(func() bool { return x.topics["news"] }))
		return x
	}
	var random []*stranger
	for range pubsub.RandomSubD + 4 {
		random = append(random, enter(pubsub.RandomSubID))
	}
	flood := enter(pubsub.FloodSubID)
	within(t, 5*time.Second, "all subscribed", func() bool { return len(tp.ListPeers()) == len(random)+1 })
	const messages = 20
	total := func() (n, had int) {
		for _, x := range random {
			x.mu.Lock()
			for _, c := range x.messages {
				n += c
			}
			if len(x.messages) > 0 {
				had++
			}
			x.mu.Unlock()
		}
		return n, had
	}
	for i := range messages {
		if err := tp.Publish(t.Context(), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		next(t, sub)
	}
	want := messages * pubsub.RandomSubD
	within(t, 5*time.Second, "sent to as many as wanted", func() bool { n, _ := total(); return n == want })
	within(t, 5*time.Second, "all sent to the floodsub peer", flood.look(func() bool { return len(flood.messages) == messages }))
	if _, had := total(); had != len(random) {
		t.Errorf("%d of %d peers had a message of %d", had, len(random), messages)
	}
	// What one of them sends goes to as many of the others.
	if err := random[0].say(publishing(random[0].sign("news", "relayed", 1))); err != nil {
		t.Fatal(err)
	}
	next(t, sub)
	within(t, 5*time.Second, "relayed", func() bool { n, _ := total(); return n == want+pubsub.RandomSubD })
	if random[0].look(func() bool { return random[0].messages["relayed"] > 0 })() {
		t.Error("it went back to its author")
	}
}
