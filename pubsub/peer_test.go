package pubsub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"github.com/muster-p2p/muster/pubsub"
	pb "github.com/muster-p2p/muster/pubsub/pb"
)

// pair returns two connected hosts that are in each other's mesh of topic.
func pair(t *testing.T, topic string, optsA, optsB []pubsub.Option) (a, b *pubsub.PubSub, ta, tb *pubsub.Topic, sa, sb *pubsub.Subscription) {
	t.Helper()
	a, ha := newPubSub(t, optsA...)
	b, hb := newPubSub(t, optsB...)
	ta, sa = subscribe(t, a, topic)
	tb, sb = subscribe(t, b, topic)
	connect(t, ha, hb)
	within(t, 5*time.Second, "both in each other's mesh", func() bool {
		return len(a.MeshPeers(topic)) == 1 && len(b.MeshPeers(topic)) == 1
	})
	return a, b, ta, tb, sa, sb
}

func TestObserversModifyAndDrop(t *testing.T) {
	var sent, validated atomic.Int64
	onSend := pubsub.WithObserver(pubsub.Observer{OnSend: func(_ *pubsub.Peer, rpc *pubsub.RPC) pubsub.Verdict {
		for _, m := range rpc.Publish {
			sent.Add(1)
			if string(m.Data) == "secret" {
				return pubsub.Drop
			}
		}
		return pubsub.Keep
	}})
	onRecv := pubsub.WithObserver(pubsub.Observer{
		OnRecv: func(_ *pubsub.Peer, rpc *pubsub.RPC) pubsub.Verdict {
			v := pubsub.Keep
			for _, m := range rpc.Publish {
				if string(m.Data) == "loud" {
					m.Data = bytes.ToUpper(m.Data)
					v = pubsub.Modified
				}
			}
			return v
		},
		OnValidated: func(p *pubsub.Peer, m *pubsub.Message) {
			if m.ReceivedFrom != p.ID() {
				t.Errorf("message of %s with peer %s", m.ReceivedFrom, p.ID())
			}
			validated.Add(1)
		},
	})
	unsigned := pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign)
	_, _, ta, _, _, sb := pair(t, "t", []pubsub.Option{unsigned, onSend}, []pubsub.Option{unsigned, onRecv})
	for _, s := range []string{"secret", "loud", "plain"} {
		if err := ta.Publish(t.Context(), []byte(s)); err != nil {
			t.Fatal(err)
		}
		// One RPC each, or dropping one would drop the others.
		within(t, 5*time.Second, "sent", func() bool { return sent.Load() > 0 })
		sent.Store(0)
	}
	for _, want := range []string{"LOUD", "plain"} {
		if got := next(t, sb); string(got.Data) != want {
			t.Errorf("got %q, want %q", got.Data, want)
		}
	}
	if validated.Load() != 2 {
		t.Errorf("OnValidated saw %d messages, want 2", validated.Load())
	}
}

func TestObserverPanicIsContained(t *testing.T) {
	boom := pubsub.WithObserver(pubsub.Observer{OnRecv: func(_ *pubsub.Peer, rpc *pubsub.RPC) pubsub.Verdict {
		if len(rpc.Publish) > 0 && string(rpc.Publish[0].Data) == "boom" {
			panic("boom")
		}
		return pubsub.Keep
	}})
	_, b, ta, _, _, sb := pair(t, "t", nil, []pubsub.Option{boom})
	for _, s := range []string{"boom", "after"} {
		if err := ta.Publish(t.Context(), []byte(s)); err != nil {
			t.Fatal(err)
		}
		within(t, 5*time.Second, "handled", func() bool {
			st := b.Stats()
			return st.ObserverDrops == 1 && (s == "boom" || st.Delivered == 1)
		})
	}
	if got := next(t, sb); string(got.Data) != "after" {
		t.Errorf("got %q", got.Data)
	}
}

func TestPeerSend(t *testing.T) {
	a, b, _, tb, _, sb := pair(t, "t", nil, []pubsub.Option{pubsub.WithMessageSignaturePolicy(pubsub.LaxNoSign), pubsub.WithMessageIdFn(pubsub.MessageIDSHA256)})
	pb2 := b.Peers()[0]
	p := a.Peers()[0]
	if err := p.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.Protocol() != pubsub.GossipSubID_v12 || p.ID() == pb2.ID() {
		t.Errorf("protocol %s", p.Protocol())
	}
	// A message by hand.
	rpc := &pubsub.RPC{RPC: pb.RPC{Publish: []*pb.Message{{Data: []byte("by hand"), Topic: new("t")}}}}
	if err := p.Send(rpc, pubsub.LanePublish); err != nil {
		t.Fatal(err)
	}
	if got := next(t, sb); string(got.Data) != "by hand" {
		t.Errorf("got %q", got.Data)
	}
	// Too large is said at once.
	big := &pubsub.RPC{RPC: pb.RPC{Publish: []*pb.Message{{Data: make([]byte, 2<<20), Topic: new("t")}}}}
	if err := p.SendWait(t.Context(), big, pubsub.LanePublish); !errors.Is(err, pubsub.ErrMessageTooLarge) {
		t.Errorf("got %v, want ErrMessageTooLarge", err)
	}
	// Subscriptions are state: the last word counts.
	p.SendSubscriptions([]string{"x", "y"}, true)
	within(t, 5*time.Second, "x and y known", func() bool { return len(b.ListPeers("x")) == 1 && len(b.ListPeers("y")) == 1 })
	p.SendSubscriptions([]string{"x"}, true)
	p.SendSubscriptions([]string{"x"}, false)
	within(t, 5*time.Second, "x left", func() bool { return len(b.ListPeers("x")) == 0 })
	// PRUNE takes us out of b's mesh; GRAFT inside the back-off is refused.
	p.SendPrune(time.Minute, "t")
	within(t, 5*time.Second, "out of the mesh", func() bool { return len(b.MeshPeers("t")) == 0 })
	p.SendGraft("t")
	within(t, 5*time.Second, "GRAFT refused", func() bool { return b.Stats().RefusedGraft == 1 })
	if s := p.Stats(); s.MessagesSent == 0 || s.RPCsSent == 0 || s.BytesSent == 0 || s.Opens != 1 {
		t.Errorf("stats %+v", s)
	}
	_ = tb
}

// After a stream ends, the next one begins with the state of then.
func TestStateIsRebuiltWhenTheStreamReopens(t *testing.T) {
	a, ha := newPubSub(t)
	b, hb := newPubSub(t)
	_, _ = subscribe(t, a, "t")
	_, sb := subscribe(t, b, "t")
	connect(t, ha, hb)
	within(t, 5*time.Second, "mesh", func() bool { return len(a.MeshPeers("t")) == 1 && len(b.MeshPeers("t")) == 1 })
	for _, s := range ha.Network().ConnsToPeer(hb.ID())[0].GetStreams() {
		if strings.HasPrefix(string(s.Protocol()), "/meshsub") {
			_ = s.Reset()
		}
	}
	tu, _ := subscribe(t, a, "u")
	_, su := subscribe(t, b, "u")
	within(t, 5*time.Second, "reopened", func() bool { return a.Peers()[0].Stats().Opens == 2 })
	within(t, 5*time.Second, "both topics known", func() bool { return len(b.ListPeers("t")) == 1 && len(b.ListPeers("u")) == 1 })
	within(t, 5*time.Second, "mesh again", func() bool { return len(a.MeshPeers("u")) == 1 && len(a.MeshPeers("t")) == 1 })
	if err := tu.Publish(t.Context(), []byte("still here")); err != nil {
		t.Fatal(err)
	}
	if got := next(t, su); string(got.Data) != "still here" {
		t.Errorf("got %q", got.Data)
	}
	_ = sb
}

func TestUnsubscribeAndResubscribe(t *testing.T) {
	a, ha := newPubSub(t)
	b, hb := newPubSub(t)
	ta, _ := subscribe(t, a, "t")
	tb, sb := subscribe(t, b, "t")
	connect(t, ha, hb)
	for i := range 3 {
		within(t, 5*time.Second, "b is in the topic", func() bool { return len(a.ListPeers("t")) == 1 })
		if err := ta.Publish(t.Context(), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		if got := next(t, sb); string(got.Data) != fmt.Sprint(i) {
			t.Errorf("round %d: got %q", i, got.Data)
		}
		sb.Cancel()
		within(t, 5*time.Second, "b left", func() bool { return len(a.ListPeers("t")) == 0 && len(a.MeshPeers("t")) == 0 })
		var err error
		if sb, err = tb.Subscribe(); err != nil {
			t.Fatal(err)
		}
	}
	if a.Stats().Penalties+b.Stats().Penalties != 0 {
		t.Error("a peer was punished for coming back")
	}
}

// SUBSCRIBE is answered by GRAFT at once, and not at the next heartbeat, for
// which go-libp2p waits.
func TestSubscribeToGraftIsQuick(t *testing.T) {
	params := pubsub.DefaultGossipSubParams()
	params.HeartbeatInterval = time.Hour // none comes
	a, ha := newPubSub(t, pubsub.WithGossipSubParams(params))
	b, hb := newPubSub(t, pubsub.WithGossipSubParams(params))
	connect(t, ha, hb)
	within(t, 5*time.Second, "ready", func() bool { return len(a.ListPeers("")) == 1 && len(b.ListPeers("")) == 1 })
	_, _ = subscribe(t, a, "t")
	_, _ = subscribe(t, b, "t")
	within(t, 5*time.Second, "GRAFT", func() bool { return len(a.MeshPeers("t")) == 1 && len(b.MeshPeers("t")) == 1 })
}

func TestPublishErrors(t *testing.T) {
	ps, _ := newPubSub(t, pubsub.WithMaxMessageSize(1000), pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor())
	tp, err := ps.Join("t")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		want error
		f    func() error
	}{
		{"too large", pubsub.ErrMessageTooLarge, func() error { return tp.Publish(t.Context(), make([]byte, 1000)) }},
		{"nobody there", pubsub.ErrNoPeers, func() error { return tp.Publish(t.Context(), []byte("a"), pubsub.WithRequirePeers()) }},
		{"nobody there, and nobody needed", nil, func() error { return tp.Publish(t.Context(), []byte("b")) }},
		{"the same again", pubsub.ErrDuplicateMessage, func() error { return tp.Publish(t.Context(), []byte("b")) }},
		{"nil key", pubsub.ErrNilSignKey, func() error {
			return tp.Publish(t.Context(), nil, pubsub.WithSecretKeyAndPeerId(nil, "x"))
		}},
		{"topic closed", pubsub.ErrTopicClosed, func() error {
			return errors.Join(tp.Close(), tp.Publish(t.Context(), []byte("c")))
		}},
		{"all closed", pubsub.ErrClosed, func() error {
			tp, err := ps.Join("u")
			return errors.Join(err, ps.Close(), tp.Publish(t.Context(), []byte("c")))
		}},
	} {
		if err := tt.f(); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

// A burst is delivered, or refused with an error: nothing is lost in silence.
func TestBurst(t *testing.T) {
	messages := 2000
	if pubsub.UnderRace {
		messages = 500
	}
	for _, tt := range []struct {
		name string
		opts []pubsub.Option
		all  bool
	}{
		{name: "small queues", opts: []pubsub.Option{pubsub.WithPeerOutboundQueueSize(64)}},
		{name: "waiting", opts: []pubsub.Option{pubsub.WithPeerOutboundQueueSize(64), pubsub.WithBackpressure()}, all: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, ha := newPubSub(t, tt.opts...)
			b, hb := newPubSub(t)
			ta, err := a.Join("t")
			if err != nil {
				t.Fatal(err)
			}
			_, sb := subscribe(t, b, "t", pubsub.WithBufferSize(10000))
			connect(t, ha, hb)
			if err := ta.AwaitPeers(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			ok := 0
			for i := range messages {
				err := ta.Publish(t.Context(), fmt.Appendf(nil, "%d", i))
				switch {
				case err == nil:
					ok++
				case !errors.Is(err, pubsub.ErrQueueFull) || tt.all:
					t.Fatal(err)
				}
			}
			for range ok {
				next(t, sb)
			}
			if got := b.Stats().Delivered; got != uint64(ok) {
				t.Errorf("%d delivered of %d published", got, ok)
			}
		})
	}
}

func TestSubscriptionOverflow(t *testing.T) {
	ps, _ := newPubSub(t)
	tp, err := ps.Join("t")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		overflow pubsub.Overflow
		want     []string
		dropped  uint64
	}{
		{pubsub.DropNewest, []string{"0", "1"}, 3},
		{pubsub.DropOldest, []string{"3", "4"}, 3},
		{pubsub.Block, []string{"0", "1", "2", "3", "4"}, 0},
	} {
		sub, err := tp.Subscribe(pubsub.WithBufferSize(2), pubsub.WithOverflow(tt.overflow))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range 5 {
				if err := tp.Publish(t.Context(), fmt.Append(nil, i)); err != nil {
					t.Error(err)
				}
			}
		})
		if tt.overflow != pubsub.Block {
			wg.Wait()
		}
		var got []string
		for m, err := range sub.Messages(t.Context()) {
			if err != nil {
				break
			}
			if got = append(got, string(m.Data)); len(got) == len(tt.want) {
				sub.Cancel()
			}
		}
		wg.Wait()
		if !slices.Equal(got, tt.want) || sub.Dropped() != tt.dropped {
			t.Errorf("overflow %d: got %v, %d dropped, want %v, %d", tt.overflow, got, sub.Dropped(), tt.want, tt.dropped)
		}
	}
}

func TestValidatorsDecide(t *testing.T) {
	for _, inline := range []bool{true, false} {
		a, b, ta, _, _, sb := pair(t, "t", nil, nil)
		first := func(_ context.Context, _ peer.ID, m *pubsub.Message) pubsub.ValidationResult {
			if bytes.HasPrefix(m.Data, []byte("ignore")) {
				return pubsub.ValidationIgnore
			}
			m.ValidatorData = "seen"
			return pubsub.ValidationAccept
		}
		second := func(_ context.Context, _ peer.ID, m *pubsub.Message) bool {
			return !bytes.HasSuffix(m.Data, []byte("reject"))
		}
		for _, v := range []any{first, second} {
			if err := b.RegisterTopicValidator("t", v, pubsub.WithValidatorInline(inline)); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range []string{"reject", "ignore", "ignore and reject", "fine"} {
			if err := ta.Publish(t.Context(), []byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		if m := next(t, sb); string(m.Data) != "fine" || m.ValidatorData != "seen" {
			t.Errorf("inline %v: got %q with %v", inline, m.Data, m.ValidatorData)
		}
		within(t, 5*time.Second, "all decided", func() bool {
			s := b.Stats()
			return s.Rejected == 2 && s.Ignored == 1 && s.Delivered == 1
		})
		_ = a
	}
}

func TestValidatorsOfOurOwn(t *testing.T) {
	ps, h := newPubSub(t, pubsub.WithDefaultValidator(func(_ context.Context, _ peer.ID, m *pubsub.Message) bool { return string(m.Data) != "bad" }))
	tp, sub := subscribe(t, ps, "t")
	err := tp.Publish(t.Context(), []byte("bad"))
	if e, ok := errors.AsType[pubsub.ValidationError](err); !ok || e.Reason != pubsub.RejectValidationFailed {
		t.Errorf("got %v, want a ValidationError", err)
	}
	if err := tp.Publish(t.Context(), []byte("good")); err != nil {
		t.Fatal(err)
	}
	if m := next(t, sub); string(m.Data) != "good" || m.Local || m.ReceivedFrom != h.ID() {
		t.Errorf("got %q", m.Data)
	}
}

// Peers named by PRUNE, with their signed records, are dialled.
func TestPeerExchange(t *testing.T) {
	params := pubsub.DefaultGossipSubParams()
	params.D, params.Dlo, params.Dhi, params.Dout, params.Dscore = 1, 1, 1, 0, 1
	score := &pubsub.PeerScoreParams{SkipAtomicValidation: true, AppSpecificScore: func(peer.ID) float64 { return 10 }, AppSpecificWeight: 1, DecayInterval: time.Second, DecayToZero: 0.01}
	limits := &pubsub.PeerScoreThresholds{SkipAtomicValidation: true, AcceptPXThreshold: 5}
	opts := []pubsub.Option{pubsub.WithGossipSubParams(params), pubsub.WithPeerExchange(true), pubsub.WithPeerScore(score, limits)}
	hub, hh := newPubSub(t, opts...)
	_, _ = subscribe(t, hub, "t")
	var hosts []peer.ID
	for range 3 {
		ps, h := newPubSub(t, opts...)
		_, _ = subscribe(t, ps, "t")
		connect(t, h, hh)
		hosts = append(hosts, h.ID())
		// The hub has the record of a peer once identify is through.
		cab, _ := peerstore.GetCertifiedAddrBook(hh.Peerstore())
		within(t, 5*time.Second, "signed record", func() bool { return cab.GetPeerRecord(h.ID()) != nil })
		if len(hosts) == 3 {
			within(t, 10*time.Second, "dialled a peer of the hub", func() bool { return len(h.Network().Peers()) > 1 })
		}
	}
}

func TestDirectPeers(t *testing.T) {
	a, ha := newPubSub(t)
	params := pubsub.DefaultGossipSubParams()
	params.DirectConnectInitialDelay = time.Millisecond
	friend := peer.AddrInfo{ID: ha.ID(), Addrs: ha.Addrs()}
	b, hb := newPubSub(t, pubsub.WithGossipSubParams(params), pubsub.WithDirectPeers([]peer.AddrInfo{friend}))
	if err := a.AddDirectPeer(peer.AddrInfo{ID: hb.ID(), Addrs: hb.Addrs()}); err != nil {
		t.Fatal(err)
	}
	_, sa := subscribe(t, a, "t")
	tb, _ := subscribe(t, b, "t")
	if err := tb.AwaitPeers(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := tb.Publish(t.Context(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	next(t, sa)
	if len(a.MeshPeers("t"))+len(b.MeshPeers("t")) != 0 {
		t.Error("direct peers are in the mesh")
	}
}

func TestBlacklist(t *testing.T) {
	a, ha := newPubSub(t)
	b, hb := newPubSub(t)
	ta, _ := subscribe(t, a, "t")
	_, _ = subscribe(t, b, "t")
	connect(t, ha, hb)
	within(t, 5*time.Second, "mesh", func() bool { return len(b.MeshPeers("t")) == 1 })
	b.BlacklistPeer(ha.ID())
	within(t, 5*time.Second, "gone", func() bool { return b.Peer(ha.ID()) == nil })
	if err := ta.Publish(t.Context(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got := b.Stats().Delivered; got != 0 {
		t.Errorf("%d messages of a blacklisted peer", got)
	}
}

func TestFloodSub(t *testing.T) {
	var hosts []*pubsub.PubSub
	var subs []*pubsub.Subscription
	var first *pubsub.Topic
	var before host.Host
	for i := range 3 {
		h := newHost(t)
		ps, err := pubsub.NewFloodSub(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ps.Close() })
		tp, sub := subscribe(t, ps, "t")
		if i == 0 {
			first = tp
		} else {
			connect(t, h, before)
		}
		hosts, subs = append(hosts, ps), append(subs, sub)
		before = h
	}
	within(t, 5*time.Second, "topics known", func() bool {
		return len(hosts[0].ListPeers("t")) == 1 && len(hosts[1].ListPeers("t")) == 2
	})
	if err := first.Publish(t.Context(), []byte("along the line")); err != nil {
		t.Fatal(err)
	}
	for _, sub := range subs {
		if m := next(t, sub); string(m.Data) != "along the line" {
			t.Errorf("got %q", m.Data)
		}
	}
}
