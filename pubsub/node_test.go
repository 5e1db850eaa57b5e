package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	mocknet "github.com/libp2p/go-libp2p/p2p/net/mock"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/pubsub"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Started by packages of go-libp2p when they are imported.
		goleak.IgnoreAnyFunction("github.com/ipfs/go-log/writer.(*MirrorWriter).logRoutine"),
	)
}

// newHost makes a host on loopback that only speaks TCP.
func newHost(t testing.TB) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// newPubSub starts a PubSub on a host of its own.
func newPubSub(t testing.TB, opts ...pubsub.Option) (*pubsub.PubSub, host.Host) {
	t.Helper()
	h := newHost(t)
	ps, err := pubsub.NewGossipSub(t.Context(), h, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ps.Close() })
	return ps, h
}

func connect(t testing.TB, a, b host.Host) {
	t.Helper()
	if err := a.Connect(t.Context(), peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}); err != nil {
		t.Fatal(err)
	}
}

func subscribe(t testing.TB, ps *pubsub.PubSub, topic string, opts ...pubsub.SubOpt) (*pubsub.Topic, *pubsub.Subscription) {
	t.Helper()
	tp, err := ps.Join(topic)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := tp.Subscribe(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Cancel)
	return tp, sub
}

// slowest is how much longer a busy machine may take than a test says.
const slowest = 12

// within fails the test if cond does not hold in time, or many times that.
func within(t testing.TB, d time.Duration, what string, cond func() bool) {
	t.Helper()
	d *= slowest
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

func next(t testing.TB, sub *pubsub.Subscription) *pubsub.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), slowest*5*time.Second)
	defer cancel()
	m, err := sub.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTwoHosts(t *testing.T) {
	for _, tt := range []struct {
		name string
		opts []pubsub.Option
	}{
		{"signed", nil},
		{"unsigned", []pubsub.Option{pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, ha := newPubSub(t, tt.opts...)
			b, hb := newPubSub(t, tt.opts...)
			ta, subA := subscribe(t, a, "news")
			tb, subB := subscribe(t, b, "news")
			connect(t, ha, hb)
			within(t, 5*time.Second, "both in each other's mesh", func() bool {
				return len(a.MeshPeers("news")) == 1 && len(b.MeshPeers("news")) == 1
			})
			for i := range 100 {
				if err := ta.Publish(t.Context(), fmt.Appendf(nil, "a%d", i)); err != nil {
					t.Fatal(err)
				}
				if err := tb.Publish(t.Context(), fmt.Appendf(nil, "b%d", i)); err != nil {
					t.Fatal(err)
				}
			}
			for _, sub := range []*pubsub.Subscription{subA, subB} {
				got := map[string]int{}
				for range 200 {
					m := next(t, sub)
					got[string(m.Data)]++
				}
				if len(got) != 200 {
					t.Errorf("got %d different messages, want 200", len(got))
				}
			}
		})
	}
}

// slowRegistry lets go of metrics when it is told to.
type slowRegistry struct {
	prometheus.Registerer
	let chan struct{}
}

func (r slowRegistry) Unregister(c prometheus.Collector) bool {
	<-r.let
	return r.Registerer.Unregister(c)
}

// Whoever calls Close may use the registry, and the host, for another PubSub,
// also if somebody else had called it a moment before.
func TestCloseAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mn := mocknet.New()
		reg := slowRegistry{prometheus.NewRegistry(), make(chan struct{})}
		h, err := mn.GenPeer()
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close() //nolint:errcheck // a test
		ps, err := pubsub.New(h, pubsub.Config{Registerer: reg})
		if err != nil {
			t.Fatal(err)
		}
		_, oh := mockPubSub(t, mn)
		link(t, mn, h, oh)
		time.Sleep(time.Second)
		ended := make(chan error, 2)
		for range 2 {
			go func() { ended <- ps.Close() }()
		}
		synctest.Wait()
		if n := len(ended); n != 0 {
			t.Errorf("%d of two Closes have returned before it was closed", n)
		}
		close(reg.let)
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
	})
}
