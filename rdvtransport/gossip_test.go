package rdvtransport_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"

	"github.com/muster-p2p/muster/pubsub"
	"github.com/muster-p2p/muster/rdvtransport"
)

// TestGossip: four hosts with no address but their peer IDs form a gossipsub
// mesh; each one's messages reach all.
func TestGossip(t *testing.T) {
	const n = 4
	w := newWorld(t)
	hosts := make([]*gossiper, n)
	for i := range hosts {
		hosts[i] = w.gossiper()
	}
	// A ring: who is not connected is reached through others, and the mesh does
	// the rest.
	for i, h := range hosts {
		if err := h.host.Connect(t.Context(), rdvtransport.AddrInfo(hosts[(i+1)%n].host.ID())); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range hosts {
		if err := h.topic.AwaitPeers(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
	}
	for i, from := range hosts {
		text := fmt.Sprintf("message of %d", i)
		if err := from.topic.Publish(t.Context(), []byte(text)); err != nil {
			t.Fatal(err)
		}
		for j, to := range hosts {
			m, err := to.sub.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if string(m.Data) != text || m.GetFrom() != from.host.ID() {
				t.Errorf("%d got %q from %s, want %q", j, m.Data, m.GetFrom(), text)
			}
		}
	}
	for i, h := range hosts {
		for _, c := range h.host.Network().Conns() {
			if c.ConnState().Transport != rdvtransport.ProtocolName {
				t.Errorf("%d has a connection by %q", i, c.ConnState().Transport)
			}
		}
	}
}

// A gossiper is a host that is in the test's topic.
type gossiper struct {
	host  host.Host
	topic *pubsub.Topic
	sub   *pubsub.Subscription
}

func (w *world) gossiper() *gossiper {
	w.t.Helper()
	g := &gossiper{host: w.host()}
	ctx, cancel := context.WithCancel(context.Background())
	w.t.Cleanup(cancel)
	ps, err := pubsub.NewGossipSub(ctx, g.host)
	if err != nil {
		w.t.Fatal(err)
	}
	if g.topic, err = ps.Join("lab"); err != nil {
		w.t.Fatal(err)
	}
	if g.sub, err = g.topic.Subscribe(); err != nil {
		w.t.Fatal(err)
	}
	return g
}
