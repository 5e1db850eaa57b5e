package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	mocknet "github.com/libp2p/go-libp2p/p2p/net/mock"

	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/pubsub"
	pb "github.com/muster-p2p/muster/pubsub/pb"
	"github.com/muster-p2p/muster/pubsub/wire"
)

// The end of the host, and then of the PubSub, in the middle of publishing:
// every call returns, and nobody waits for ever.
func TestHostClosedWhilePublishing(t *testing.T) {
	a, ha, ta, _, _, _ := pair(t, "t", []pubsub.Option{pubsub.WithBackpressure()}, nil)
	_, sub := subscribe(t, a, "other")
	var wg sync.WaitGroup
	waiting := make(chan error, 1)
	go func() {
		_, err := sub.Next(t.Context())
		waiting <- err
	}()
	for range 4 {
		wg.Go(func() {
			for {
				if err := ta.Publish(t.Context(), make([]byte, 10_000)); errors.Is(err, pubsub.ErrClosed) {
					return
				}
			}
		})
	}
	_ = ha.Close()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := <-waiting; !errors.Is(err, pubsub.ErrSubscriptionCancelled) {
		t.Errorf("Next: %v", err)
	}
	if err := errors.Join(a.Close(), ta.Close()); err == nil {
		t.Log("closed again")
	}
	if _, err := a.Join("late"); !errors.Is(err, pubsub.ErrClosed) {
		t.Errorf("Join after Close: %v", err)
	}
	if n := len(a.ListPeers("t")) + len(a.MeshPeers("t")); n != 0 {
		t.Errorf("%d peers after Close", n)
	}
}

// The end of the constructor's context is Close.
func TestContextEndsEverything(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	ps, err := pubsub.NewGossipSub(ctx, h)
	if err != nil {
		t.Fatal(err)
	}
	tp, sub := subscribe(t, ps, "t")
	cancel()
	if _, err := sub.Next(t.Context()); !errors.Is(err, pubsub.ErrSubscriptionCancelled) {
		t.Errorf("Next: %v", err)
	}
	if err := tp.Publish(t.Context(), nil); !errors.Is(err, pubsub.ErrClosed) {
		t.Errorf("Publish: %v", err)
	}
	if _, err := pubsub.NewGossipSub(ctx, h); err == nil {
		t.Error("started with a context that is done")
	}
}

// Whoever waits in Next when the subscription is cancelled returns.
func TestCancelWhileNextWaits(t *testing.T) {
	ps, _ := newPubSub(t)
	tp, sub := subscribe(t, ps, "t")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := sub.Next(t.Context()); !errors.Is(err, pubsub.ErrSubscriptionCancelled) {
				t.Errorf("Next: %v", err)
			}
		})
	}
	sub.Cancel()
	wg.Wait()
	if err := errors.Join(tp.Close(), tp.Close()); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// A topic can be joined and left as often as one likes, by several at once;
// the last word is what the others know.
func TestJoinAndLeaveAtOnce(t *testing.T) {
	a, ha := newPubSub(t)
	b, hb := newPubSub(t)
	_, sb := subscribe(t, b, "t")
	connect(t, ha, hb)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				tp, err := a.Join("t")
				if err != nil {
					continue // somebody else has it
				}
				sub, err := tp.Subscribe()
				if err != nil {
					t.Error(err)
				}
				_ = tp.Publish(t.Context(), []byte("in passing"))
				sub.Cancel()
				if err := tp.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	within(t, 5*time.Second, "known to have left", func() bool { return len(b.ListPeers("t")) == 0 && len(a.GetTopics()) == 0 })
	ta, _ := subscribe(t, a, "t")
	within(t, 5*time.Second, "known to be back", func() bool { return len(b.ListPeers("t")) == 1 })
	if err := ta.Publish(t.Context(), []byte("last")); err != nil {
		t.Fatal(err)
	}
	for string(next(t, sb).Data) != "last" {
	}
}

// A panic in a function of the user's that strangers' bytes reach is theirs to
// see in the log, and the message is gone; everything else goes on.
func TestPanicsAreContained(t *testing.T) {
	boom := func(m *pb.Message) {
		if len(m.GetData()) == 4 {
			panic("boom")
		}
	}
	id := func(m *pb.Message) string {
		boom(m)
		return string(m.GetData())
	}
	for name, opts := range map[string][]pubsub.Option{
		"id function": {pubsub.WithMessageIdFn(id)},
		"validator": {pubsub.WithDefaultValidator(func(_ context.Context, _ peer.ID, m *pubsub.Message) bool {
			boom(m.Message)
			return true
		})},
		"inline validator": {pubsub.WithDefaultValidator(func(_ context.Context, _ peer.ID, m *pubsub.Message) bool {
			boom(m.Message)
			return true
		}, pubsub.WithValidatorInline(true))},
	} {
		t.Run(name, func(t *testing.T) {
			ps, h := newPubSub(t, opts...)
			_, sub := subscribe(t, ps, "news")
			x := newStranger(t, h, pubsub.GossipSubID_v12)
			for i, data := range []string{"boom", "fine!"} {
				if err := x.say(publishing(x.sign("news", data, i))); err != nil {
					t.Fatal(err)
				}
			}
			if m := next(t, sub); string(m.Data) != "fine!" {
				t.Errorf("got %q", m.Data)
			}
		})
	}
}

// A validator may publish: to its topic, to another that is joined, and to
// one that is only published to.
func TestPublishInsideValidator(t *testing.T) {
	for _, inline := range []bool{false, true} {
		t.Run(fmt.Sprintf("inline %v", inline), func(t *testing.T) {
			ps, h := newPubSub(t)
			tp, sub := subscribe(t, ps, "news")
			_, echoes := subscribe(t, ps, "echo")
			fan, err := ps.Join("fan")
			if err != nil {
				t.Fatal(err)
			}
			var once atomic.Bool
			err = ps.RegisterTopicValidator("news", func(ctx context.Context, _ peer.ID, m *pubsub.Message) bool {
				if !once.Swap(true) {
					echo := ps.Publish("echo", m.Data)
					if err := errors.Join(echo, fan.Publish(ctx, m.Data), tp.Publish(ctx, []byte("from within"))); err != nil {
						t.Error(err)
					}
				}
				return true
			}, pubsub.WithValidatorInline(inline))
			if err != nil {
				t.Fatal(err)
			}
			x := newStranger(t, h, pubsub.GossipSubID_v12)
			if err := x.say(publishing(x.sign("news", "from outside", 1))); err != nil {
				t.Fatal(err)
			}
			if m := next(t, echoes); string(m.Data) != "from outside" {
				t.Errorf("got %q", m.Data)
			}
			got := map[string]bool{string(next(t, sub).Data): true, string(next(t, sub).Data): true}
			if !got["from outside"] || !got["from within"] {
				t.Errorf("got %v", got)
			}
		})
	}
}

// blocking is a tracer that holds up whoever tells it something, once.
type blocking struct {
	recorder
	begun, free chan struct{}
	blocked     atomic.Bool
}

func (b *blocking) DeliverMessage(*pubsub.Message) {
	if !b.blocked.Swap(true) {
		close(b.begun)
		<-b.free
	}
}

// A tracer that blocks holds up the peer whose message it was told of, and
// neither the others nor the router.
func TestTracerThatBlocks(t *testing.T) {
	tr := &blocking{begun: make(chan struct{}), free: make(chan struct{})}
	ps, h := newPubSub(t, pubsub.WithRawTracer(tr))
	free := sync.OnceFunc(func() { close(tr.free) })
	t.Cleanup(free)
	_, sub := subscribe(t, ps, "news")
	x, y := newStranger(t, h, pubsub.GossipSubID_v12), newStranger(t, h, pubsub.GossipSubID_v12)
	if err := x.say(publishing(x.sign("news", "held up", 1))); err != nil {
		t.Fatal(err)
	}
	<-tr.begun
	y.subscribe("news")
	if err := y.say(publishing(y.sign("news", "goes on", 1))); err != nil {
		t.Fatal(err)
	}
	if m := next(t, sub); string(m.Data) != "goes on" {
		t.Errorf("got %q", m.Data)
	}
	within(t, 5*time.Second, "the router goes on", func() bool { return len(ps.MeshPeers("news")) == 1 })
	free()
	if m := next(t, sub); string(m.Data) != "held up" {
		t.Errorf("got %q", m.Data)
	}
}

// Once a peer is blacklisted nothing of what it goes on sending is delivered,
// on streams old or new, and nothing of its authorship that others relay.
func TestBlacklistInFlight(t *testing.T) {
	ps, h := newPubSub(t)
	_, sub := subscribe(t, ps, "news")
	x, y := newStranger(t, h, pubsub.GossipSubID_v12), newStranger(t, h, pubsub.GossipSubID_v12)
	if err := x.say(publishing(x.sign("news", "before", 1))); err != nil {
		t.Fatal(err)
	}
	next(t, sub)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 2; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if x.say(publishing(x.sign("news", "meanwhile", n))) != nil {
				return
			}
		}
	})
	ps.BlacklistPeer(x.h.ID())
	within(t, 5*time.Second, "forgotten", func() bool { return ps.Peer(x.h.ID()) == nil })
	close(stop)
	wg.Wait()
	relayed := x.sign("news", "relayed", 1<<40)
	if err := y.say(publishing(relayed), publishing(y.sign("news", "y's own", 1))); err != nil {
		t.Fatal(err)
	}
	for {
		m := next(t, sub)
		if string(m.Data) == "relayed" {
			t.Error("a message by the blacklisted peer was delivered")
		}
		if string(m.Data) == "y's own" {
			break
		}
	}
	if s, err := x.h.NewStream(t.Context(), h.ID(), pubsub.GossipSubID_v12); err == nil {
		x.s = s
		within(t, 5*time.Second, "the new stream reset", func() bool {
			return x.say(publishing(x.sign("news", "again", 1<<41))) != nil
		})
	}
	if ps.Peer(x.h.ID()) != nil {
		t.Error("known again")
	}
}

// A thousand topics between two peers: all known, all grafted, and a message
// goes through each.
func TestThousandTopics(t *testing.T) {
	topics := 1000
	if testing.Short() || pubsub.UnderRace {
		t.Log("200 topics rather than 1000, for -short or -race")
		topics = 200
	}
	a, ha := newPubSub(t)
	b, hb := newPubSub(t)
	as, bs := make([]*pubsub.Topic, topics), make([]*pubsub.Subscription, topics)
	for i := range topics {
		name := fmt.Sprintf("topic %d", i)
		as[i], _ = subscribe(t, a, name)
		_, bs[i] = subscribe(t, b, name)
	}
	connect(t, ha, hb)
	for i := range topics {
		within(t, 20*time.Second, "in the mesh", func() bool { return len(a.MeshPeers(as[i].String())) == 1 })
		if err := as[i].Publish(t.Context(), []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range topics {
		if m := next(t, bs[i]); m.GetTopic() != as[i].String() {
			t.Errorf("a message of %q in %q", m.GetTopic(), as[i])
		}
	}
	if s := a.Stats(); s.Penalties+s.RefusedTopics > 0 {
		t.Errorf("%+v", s)
	}
}

// deaf connects a peer that subscribes and ends every stream to it at once.
func deaf(t *testing.T, mn mocknet.Mocknet, target host.Host, topic string) (host.Host, *atomic.Int64) {
	t.Helper()
	h, err := mn.GenPeer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	var streams atomic.Int64
	h.SetStreamHandler(pubsub.GossipSubID_v12, func(s network.Stream) {
		streams.Add(1)
		_ = s.Reset()
	})
	link(t, mn, target, h)
	s, err := h.NewStream(t.Context(), target.ID(), pubsub.GossipSubID_v12)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(wire.AppendFrame(nil, wire.AppendSubscription(nil, topic, true))); err != nil {
		t.Fatal(err)
	}
	return h, &streams
}

// With back-pressure, a recipient that takes nothing holds up one Publish for
// five seconds, and then no more.
func TestBackpressureGivesUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mn := mocknet.New()
		ps, h := mockPubSub(t, mn, pubsub.WithBackpressure(), pubsub.WithPeerOutboundQueueSize(16))
		tp, _ := subscribe(t, ps, "t")
		deaf(t, mn, h, "t")
		good, gh := mockPubSub(t, mn)
		_, sub := subscribe(t, good, "t", pubsub.WithBufferSize(4096))
		link(t, mn, h, gh)
		time.Sleep(10 * time.Second) // the deaf one's streams have ended by then
		begun := time.Now()
		var slowest time.Duration
		for i := range 1000 {
			before := time.Now()
			if err := tp.Publish(t.Context(), fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
			slowest = max(slowest, time.Since(before))
		}
		if slowest < 4*time.Second || time.Since(begun) > 6*time.Second {
			t.Errorf("a thousand messages took %v, one of them %v; want five seconds for one", time.Since(begun), slowest)
		}
		for range 1000 {
			next(t, sub)
		}
	})
}

// After streams have failed on one connection another is worth a try, without
// the ten minutes that the first would have to wait.
func TestNewConnectionIsTriedAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mn := mocknet.New()
		ps, h := mockPubSub(t, mn)
		subscribe(t, ps, "t")
		d, streams := deaf(t, mn, h, "t")
		time.Sleep(30 * time.Second)
		before := streams.Load()
		ps.Connected(d.ID()) // mocknet makes no second connection
		time.Sleep(time.Second)
		if n := streams.Load(); before != 4 || n <= before {
			t.Errorf("%d streams, %d after a new connection", before, n)
		}
	})
}
