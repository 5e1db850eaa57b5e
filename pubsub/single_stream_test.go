package pubsub_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/pubsub"
	"github.com/muster-p2p/muster/pubsub/wire"
)

// A singlePeer speaks floodsub as rust-libp2p does: one RPC per stream.
type singlePeer struct {
	t testing.TB
	h host.Host

	mu         sync.Mutex
	got        map[string]int // messages, by payload
	topics     map[string]bool
	open, most int // streams
	total      int
	tooLong    int // RPCs
}

func newSinglePeer(t testing.TB, target host.Host) *singlePeer {
	x := &singlePeer{t: t, h: newHost(t), got: map[string]int{}, topics: map[string]bool{}}
	x.h.SetStreamHandler(pubsub.FloodSubID, x.serve)
	connect(t, x.h, target)
	return x
}

func (x *singlePeer) serve(s network.Stream) {
	x.mu.Lock()
	x.open++
	x.total++
	x.most = max(x.most, x.open)
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		x.open--
		x.mu.Unlock()
		_ = s.Reset()
	}()
	br := bufio.NewReader(s)
	n, err := binary.ReadUvarint(br)
	if err != nil {
		return
	}
	b := make([]byte, n)
	lim := wire.Limits{}.WithDefaults()
	var rpc wire.RPC
	if _, err := io.ReadFull(br, b); err != nil || rpc.Decode(b, &lim) != nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if n > 2048 {
		x.tooLong++
	}
	for i := range rpc.Subscriptions {
		x.topics[string(rpc.Subscriptions[i].Topic)] = rpc.Subscriptions[i].Subscribe
	}
	for i := range rpc.Publish {
		x.got[string(rpc.Publish[i].Data)]++
	}
}

// say writes an RPC on a stream of its own.
func (x *singlePeer) say(target host.Host, rpc []byte) {
	x.t.Helper()
	s, err := x.h.NewStream(x.t.Context(), target.ID(), pubsub.FloodSubID)
	if err != nil {
		x.t.Fatal(err)
	}
	if _, err := s.Write(append(wire.AppendFrameLen(nil, len(rpc)), rpc...)); err != nil {
		x.t.Fatal(err)
	}
	_ = s.Close()
}

func (x *singlePeer) look(cond func() bool) func() bool {
	return func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return cond()
	}
}

func newFlood(t testing.TB) (*pubsub.PubSub, host.Host) {
	t.Helper()
	h := newHost(t)
	ps, err := pubsub.NewFloodSub(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ps.Close() })
	return ps, h
}

// A floodsub peer that reads one RPC of each stream gets all there is, on few
// streams at a time; so does one that says nothing before.
func TestFloodSubOfOneRPCPerStream(t *testing.T) {
	const messages = 300
	ps, h := newFlood(t)
	tp, sub := subscribe(t, ps, "t")
	x := newSinglePeer(t, h)
	x.say(h, wire.AppendSubscription(nil, "t", true))
	within(t, 5*time.Second, "its topic is known", func() bool { return len(ps.ListPeers("t")) == 1 })
	for i := range messages {
		if err := tp.Publish(t.Context(), fmt.Appendf(nil, "%0500d", i)); err != nil {
			t.Fatal(err)
		}
	}
	within(t, 10*time.Second, "all came", x.look(func() bool { return len(x.got) == messages && x.topics["t"] }))
	if err := tp.Publish(t.Context(), []byte(strings.Repeat("x", 3000))); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "one is too long", func() bool { return ps.Stats().DroppedTooLong == 1 })
	for range 5 {
		sub.Cancel()
		within(t, 5*time.Second, "we left", x.look(func() bool { return !x.topics["t"] }))
		var err error
		if sub, err = tp.Subscribe(); err != nil {
			t.Fatal(err)
		}
		within(t, 5*time.Second, "we are back", x.look(func() bool { return x.topics["t"] }))
	}
	if s := ps.Peers()[0].Stats(); s.DroppedTooLong != 1 || s.Opens > 2 {
		t.Errorf("stats %+v", s)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.most > 16 || x.tooLong > 0 {
		t.Errorf("%d streams at a time, %d RPCs over 2,048 bytes", x.most, x.tooLong)
	}
	for m, n := range x.got {
		if n != 1 {
			t.Errorf("%d copies of %s", n, m[490:])
		}
	}
}

// A burst of streams of one RPC each is held up where it cannot be handled at
// once, not refused: the peer would not say it again.
func TestFloodSubBurstOfStreamsWaits(t *testing.T) {
	const messages = 400
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics(),
		libp2p.ResourceManager(&network.NullResourceManager{})) // whose own limit is 64 streams
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	ps, err := pubsub.NewFloodSub(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ps.Close() })
	started, free := make(chan struct{}, messages), make(chan struct{})
	release := sync.OnceFunc(func() { close(free) })
	t.Cleanup(release)
	hold := func(context.Context, peer.ID, *pubsub.Message) bool {
		started <- struct{}{}
		<-free
		return true
	}
	if err := ps.RegisterTopicValidator("t", hold, pubsub.WithValidatorInline(true)); err != nil {
		t.Fatal(err)
	}
	_, sub := subscribe(t, ps, "t")
	x := newSinglePeer(t, h)
	for i := range messages {
		x.say(h, publishing(signAs(t, x.h.Peerstore().PrivKey(x.h.ID()), "t", fmt.Sprint(i), i)))
		if i == 0 {
			<-started
		}
	}
	within(t, 5*time.Second, "most streams wait", func() bool {
		p := ps.Peer(x.h.ID())
		return p != nil && p.Stats().Streams > messages/2
	})
	release()
	got := map[string]int{}
	for range messages {
		got[string(next(t, sub).Data)]++
	}
	if s := ps.Stats(); len(got) != messages || s.StreamsRefused != 0 {
		t.Errorf("%d of %d messages, %d streams refused", len(got), messages, s.StreamsRefused)
	}
}

// Nothing is lost that was written before the peer's habit showed.
func TestFloodSubHabitShowsWhileShuttingDown(t *testing.T) {
	ps, h := newFlood(t)
	tp, _ := subscribe(t, ps, "t")
	x := newSinglePeer(t, h)
	x.say(h, wire.AppendSubscription(nil, "t", true))
	within(t, 5*time.Second, "its topic is known", func() bool { return len(ps.ListPeers("t")) == 1 })
	within(t, 5*time.Second, "it has read our topics", x.look(func() bool { return x.topics["t"] && x.open == 0 }))
	for i := range 100 {
		if err := tp.Publish(t.Context(), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := ps.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "all came", x.look(func() bool { return len(x.got) == 100 }))
}

// A peer that keeps our stream gets no other.
func TestFloodSubKeepsOneStream(t *testing.T) {
	a, ha := newFlood(t)
	b, hb := newFlood(t)
	ta, _ := subscribe(t, a, "t")
	_, sb := subscribe(t, b, "t")
	connect(t, ha, hb)
	within(t, 5*time.Second, "topics known", func() bool { return len(a.ListPeers("t")) == 1 && len(b.ListPeers("t")) == 1 })
	for i := range 200 {
		if err := ta.Publish(t.Context(), fmt.Appendf(nil, "%03000d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for range 200 {
		next(t, sb)
	}
	if s, in := a.Peers()[0].Stats(), b.Peers()[0].Stats(); s.Opens != 1 || s.DroppedTooLong != 0 || in.Streams != 1 {
		t.Errorf("opened %d streams, %d are there, %d messages were too long", s.Opens, in.Streams, s.DroppedTooLong)
	}
}

// A peer in our mesh has our PRUNE before it hears that we left the topic.
func TestLeaveTellsPruneFirst(t *testing.T) {
	ps, h := newPubSub(t)
	var mu sync.Mutex
	var said []string
	x := &stranger{t: t, h: newHost(t), messages: map[string]int{}}
	x.h.SetStreamHandler(pubsub.GossipSubID_v12, func(s network.Stream) {
		each(s, func(r *wire.RPC) {
			mu.Lock()
			defer mu.Unlock()
			for i := range r.Subscriptions {
				said = append(said, fmt.Sprint("subscribe ", r.Subscriptions[i].Subscribe))
			}
			if len(r.Prune) > 0 {
				said = append(said, fmt.Sprint("prune ", r.Prune[0].Backoff))
			}
		})
	})
	connect(t, x.h, h)
	x.open(h, pubsub.GossipSubID_v12)
	_, sub := subscribe(t, ps, "t")
	x.subscribe("t")
	within(t, 5*time.Second, "mesh", func() bool { return len(ps.MeshPeers("t")) == 1 })
	sub.Cancel()
	within(t, 5*time.Second, "three RPCs", func() bool { mu.Lock(); defer mu.Unlock(); return len(said) == 3 })
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(said, ", "); got != "subscribe true, prune 10, subscribe false" {
		t.Errorf("said %s", got)
	}
}
