package withpubsub

import (
	"crypto/rand"
	"testing"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/rendezvous"
)

func newHost(t *testing.T) host.Host {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h, err := muster.NewHost(muster.HostConfig{Key: key, Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// Four peers that know nothing but a point publish and hear on a topic. The
// construction is the one in go-waku-rendezvous's README.
func TestPubsubWithDiscovery(t *testing.T) {
	for name, newDiscovery := range map[string]func(host.Host) *rendezvous.Discovery{
		"waku": rendezvous.NewRendezvousDiscovery,
		"libp2p": func(h host.Host) *rendezvous.Discovery {
			return rendezvous.NewDiscovery(h, rendezvous.DiscoveryConfig{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			ph := newHost(t)
			point, err := rendezvous.NewPoint(ph, rendezvous.Config{Waku: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = point.Close() })
			var subs []*pubsub.Subscription
			var topics []*pubsub.Topic
			for range 4 {
				h := newHost(t)
				if err := h.Connect(ctx, peer.AddrInfo{ID: ph.ID(), Addrs: ph.Addrs()}); err != nil {
					t.Fatal(err)
				}
				d := newDiscovery(h)
				t.Cleanup(func() { _ = d.Close() })
				ps, err := pubsub.NewGossipSub(ctx, h, pubsub.WithDiscovery(d))
				if err != nil {
					t.Fatal(err)
				}
				topic, err := ps.Join("room")
				if err != nil {
					t.Fatal(err)
				}
				sub, err := topic.Subscribe()
				if err != nil {
					t.Fatal(err)
				}
				subs, topics = append(subs, sub), append(topics, topic)
			}
			if err := topics[0].Publish(ctx, []byte("hello"), pubsub.WithReadiness(pubsub.MinTopicSize(len(subs)-1))); err != nil {
				t.Fatal(err)
			}
			for _, sub := range subs {
				m, err := sub.Next(ctx)
				if err != nil || string(m.Data) != "hello" {
					t.Fatal(m, err)
				}
			}
			if n := point.Stats().Discovers; n > 100 {
				t.Errorf("%d discovers for four peers: pubsub is not held back", n)
			}
		})
	}
}
