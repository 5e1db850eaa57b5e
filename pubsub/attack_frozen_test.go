package pubsub_test

import (
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	mocknet "github.com/libp2p/go-libp2p/p2p/net/mock"

	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/pubsub"
	"github.com/muster-p2p/muster/pubsub/wire"
)

// Peers that do not read do not delay those that do, by small messages nor by
// large ones, of which only a few are written at a time: one of twenty, and
// more than there are turns to write.
func TestAttackFrozenReader(t *testing.T) {
	for _, size := range []int{1 << 10, 64 << 10} {
		if pubsub.UnderRace && size == 1<<10 {
			t.Log("under -race large messages only")
			continue
		}
		healthy := p99(starLatencies(t, size, 0))
		for _, n := range []int{1, 8} {
			frozen := p99(starLatencies(t, size, n))
			t.Logf("%d bytes: p99 %v, with %d frozen readers %v", size, healthy, n, frozen)
			if frozen > healthy*12/10 {
				t.Errorf("%d bytes: p99 %v with %d frozen readers, %v without: want within 20 %%", size, frozen, n, healthy)
			}
		}
	}
}

func p99(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)*99/100]
}

// starLatencies publishes to twenty peers, so many of which are frozen, and
// returns after what time the others got each message. Time is virtual.
func starLatencies(t *testing.T, size, frozen int) (all []time.Duration) {
	t.Helper()
	const peers, messages = 20, 80
	bubble.Test(t, func(t *testing.T) {
		mn := mocknet.New()
		mn.SetLinkDefaults(mocknet.LinkOptions{Latency: 20 * time.Millisecond})
		params := pubsub.DefaultGossipSubParams()
		params.D, params.Dlo, params.Dhi = peers, peers, 2*peers // all of them in the mesh
		ps, h := mockPubSub(t, mn, pubsub.WithGossipSubParams(params))
		topic, _ := subscribe(t, ps, "news", pubsub.WithBufferSize(1<<14))
		var subs []*pubsub.Subscription
		for i := range peers {
			if i < frozen {
				freeze(t, mn, h)
				continue
			}
			other, oh := mockPubSub(t, mn)
			_, sub := subscribe(t, other, "news", pubsub.WithBufferSize(1<<14))
			link(t, mn, h, oh)
			subs = append(subs, sub)
		}
		time.Sleep(5 * time.Second)
		if n := len(ps.MeshPeers("news")); n != peers {
			t.Fatalf("%d in the mesh, want %d", n, peers)
		}
		for i := range messages {
			sent := time.Now()
			if err := topic.Publish(t.Context(), make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			for _, sub := range subs {
				if _, err := sub.Next(t.Context()); err != nil {
					t.Fatal(err)
				}
				if i >= 45 { // by then buffers are full, and it is known who does not read
					all = append(all, time.Since(sent))
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	return all
}

func mockPubSub(t *testing.T, mn mocknet.Mocknet, opts ...pubsub.Option) (*pubsub.PubSub, host.Host) {
	t.Helper()
	h, err := mn.GenPeer()
	if err != nil {
		t.Fatal(err)
	}
	ps, err := pubsub.NewGossipSub(t.Context(), h, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ps.Close()
		_ = h.Close()
	})
	return ps, h
}

func link(t *testing.T, mn mocknet.Mocknet, a, b host.Host) {
	t.Helper()
	if _, err := mn.LinkPeers(a.ID(), b.ID()); err != nil {
		t.Fatal(err)
	}
	if _, err := mn.ConnectPeers(a.ID(), b.ID()); err != nil {
		t.Fatal(err)
	}
}

// freeze connects a peer that subscribes, and never reads.
func freeze(t *testing.T, mn mocknet.Mocknet, target host.Host) {
	t.Helper()
	h, err := mn.GenPeer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	h.SetStreamHandler(pubsub.GossipSubID_v11, func(s network.Stream) {
		<-t.Context().Done()
		_ = s.Reset()
	})
	link(t, mn, h, target)
	s, err := h.NewStream(t.Context(), target.ID(), pubsub.GossipSubID_v11)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(wire.AppendFrame(nil, wire.AppendSubscription(nil, "news", true))); err != nil {
		t.Fatal(err)
	}
}
