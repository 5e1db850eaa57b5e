package pubsub_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/muster-p2p/muster/pubsub"
	pb "github.com/muster-p2p/muster/pubsub/pb"
)

func TestConfigIsValidated(t *testing.T) {
	h := newHost(t)
	bad := pubsub.DefaultGossipSubParams()
	bad.Dlo = 20
	for name, opts := range map[string][]pubsub.Option{
		"Dlo ≤ D ≤ Dhi":       {pubsub.WithGossipSubParams(bad)},
		"thresholds":          {pubsub.WithPeerScore(&pubsub.PeerScoreParams{}, nil)},
		"inspect without":     {pubsub.WithPeerScoreInspect(func(map[peer.ID]float64) {}, time.Second)},
		"message size":        {pubsub.WithMaxMessageSize(0)},
		"queue size":          {pubsub.WithPeerOutboundQueueSize(-1)},
		"workers":             {pubsub.WithValidateWorkers(0)},
		"gater":               {pubsub.WithPeerGater(nil)},
		"nil tracer":          {pubsub.WithRawTracer(nil)},
		"validator":           {pubsub.WithDefaultValidator(42)},
		"author without key":  {pubsub.WithMessageAuthor("somebody")},
		"observer of nothing": {pubsub.WithObserver(pubsub.Observer{})},
	} {
		if ps, err := pubsub.NewGossipSub(t.Context(), h, opts...); err == nil {
			t.Errorf("%s: accepted", name)
			_ = ps.Close()
		}
	}
}

func TestSubscriptionFilters(t *testing.T) {
	sub := func(topic string, in bool) *pb.RPC_SubOpts { return &pb.RPC_SubOpts{Topicid: &topic, Subscribe: &in} }
	in := []*pb.RPC_SubOpts{sub("a", true), sub("b", true), sub("c", true), sub("a", false)}
	for _, tt := range []struct {
		name   string
		filter pubsub.SubscriptionFilter
		want   string
		err    error
	}{
		{"allowlist", pubsub.NewAllowlistSubscriptionFilter("a", "b"), "a-b+", nil},
		{"regexp", pubsub.NewRegexpSubscriptionFilter(regexp.MustCompile("^[bc]$")), "b+c+", nil},
		{"limit", pubsub.WrapLimitSubscriptionFilter(pubsub.NewAllowlistSubscriptionFilter("a"), 3), "", pubsub.ErrTooManySubscriptions},
	} {
		out, err := tt.filter.FilterIncomingSubscriptions("p", in)
		got := ""
		for _, s := range out {
			got += s.GetTopicid() + map[bool]string{true: "+", false: "-"}[s.GetSubscribe()]
		}
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: got %s, %v, want %s, %v", tt.name, got, err, tt.want, tt.err)
		}
	}
	ps, _ := newPubSub(t, pubsub.WithSubscriptionFilter(pubsub.NewAllowlistSubscriptionFilter("a")))
	if _, err := ps.Join("b"); err == nil {
		t.Error("joined a topic that the filter forbids")
	}
}

func TestTopicHandles(t *testing.T) {
	ps, _ := newPubSub(t)
	tp, sub := subscribe(t, ps, "t")
	if _, err := ps.Join("t"); err == nil {
		t.Error("joined twice")
	}
	if err := tp.Close(); err == nil {
		t.Error("closed with a subscription")
	}
	sub.Cancel()
	sub.Cancel()
	if _, err := sub.Next(t.Context()); !errors.Is(err, pubsub.ErrSubscriptionCancelled) {
		t.Errorf("Next after Cancel: %v", err)
	}
	if err := errors.Join(tp.Close(), tp.Close()); err != nil {
		t.Error(err)
	}
	again, err := ps.Join("t", pubsub.FanoutOnly())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Relay(); !errors.Is(err, pubsub.ErrFanoutOnlyTopic) {
		t.Errorf("relay of a fanout-only topic: %v", err)
	}
	local, err := again.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	if len(ps.GetTopics()) != 0 {
		t.Error("entered a fanout-only topic")
	}
	if err := again.Publish(t.Context(), []byte("here")); err != nil {
		t.Fatal(err)
	}
	next(t, local)
}

func TestTopicEvents(t *testing.T) {
	a, ha := newPubSub(t)
	b, hb := newPubSub(t)
	ta, err := a.Join("t")
	if err != nil {
		t.Fatal(err)
	}
	h, err := ta.EventHandler()
	if err != nil {
		t.Fatal(err)
	}
	connect(t, ha, hb)
	_, sb := subscribe(t, b, "t")
	for _, want := range []pubsub.EventType{pubsub.PeerJoin, pubsub.PeerLeave} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		ev, err := h.NextPeerEvent(ctx)
		cancel()
		if err != nil || ev.Type != want || ev.Peer != hb.ID() {
			t.Fatalf("got %+v, %v, want type %d", ev, err, want)
		}
		sb.Cancel()
	}
	h.Cancel()
	if _, err := h.NextPeerEvent(t.Context()); !errors.Is(err, pubsub.ErrSubscriptionCancelled) {
		t.Errorf("after Cancel: %v", err)
	}
}

type metaStore map[peer.ID][]byte

func (s metaStore) Get(_ context.Context, p peer.ID) ([]byte, error) { return s[p], nil }
func (s metaStore) Put(_ context.Context, p peer.ID, b []byte) error { s[p] = b; return nil }

func TestSeqnoValidator(t *testing.T) {
	v := pubsub.NewBasicSeqnoValidator(metaStore{}, nil)
	for _, tt := range []struct {
		seqno string
		want  pubsub.ValidationResult
	}{
		{"\x00\x00\x00\x00\x00\x00\x00\x05", pubsub.ValidationAccept},
		{"\x00\x00\x00\x00\x00\x00\x00\x05", pubsub.ValidationIgnore},
		{"\x00\x00\x00\x00\x00\x00\x00\x04", pubsub.ValidationIgnore},
		{"\x00\x00\x00\x00\x00\x00\x01\x00", pubsub.ValidationAccept},
		{"\x01", pubsub.ValidationIgnore},
	} {
		m := &pubsub.Message{Message: &pb.Message{From: []byte("a"), Seqno: []byte(tt.seqno)}}
		if got := v(t.Context(), "", m); got != tt.want {
			t.Errorf("%x: got %v, want %v", tt.seqno, got, tt.want)
		}
	}
}

func TestBatch(t *testing.T) {
	a, _, ta, _, _, sb := pair(t, "t", nil, nil)
	var batch pubsub.MessageBatch
	for i := range 20 {
		if err := ta.AddToBatch(t.Context(), &batch, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.PublishBatch(&batch); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for range 20 {
		got[string(next(t, sb).Data)] = true
	}
	if len(got) != 20 {
		t.Errorf("%d messages, want 20", len(got))
	}
}

func TestFileTracers(t *testing.T) {
	dir := t.TempDir()
	js, err := pubsub.NewJSONTracer(filepath.Join(dir, "trace.json"))
	if err != nil {
		t.Fatal(err)
	}
	pbt, err := pubsub.NewPBTracer(filepath.Join(dir, "trace.pb"))
	if err != nil {
		t.Fatal(err)
	}
	_, _, ta, _, _, sb := pair(t, "t", []pubsub.Option{pubsub.WithEventTracer(js), pubsub.WithEventTracer(pbt)}, nil)
	if err := ta.Publish(t.Context(), []byte("traced")); err != nil {
		t.Fatal(err)
	}
	next(t, sb)
	js.Close()
	pbt.Close()

	f, err := os.Open(filepath.Join(dir, "trace.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	kinds := map[pb.TraceEvent_Type]int{}
	n := 0
	for sc := bufio.NewScanner(f); sc.Scan(); n++ {
		var ev pb.TraceEvent
		if err := json.Unmarshal(sc.Bytes(), &ev); err != nil {
			t.Fatal(err)
		}
		kinds[ev.GetType()]++
	}
	for _, k := range []pb.TraceEvent_Type{pb.TraceEvent_JOIN, pb.TraceEvent_GRAFT, pb.TraceEvent_PUBLISH_MESSAGE, pb.TraceEvent_SEND_RPC, pb.TraceEvent_RECV_RPC} {
		if kinds[k] == 0 {
			t.Errorf("no %v among %v", k, kinds)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "trace.pb"))
	if err != nil {
		t.Fatal(err)
	}
	m := 0
	for ; len(b) > 0; m++ {
		ev, k := protowire.ConsumeBytes(b)
		if k < 0 || len(ev) == 0 {
			t.Fatal("not a delimited protobuf")
		}
		b = b[k:]
	}
	if m < 5 || n < 5 {
		t.Errorf("%d events in JSON, %d in protobuf", n, m)
	}
}

// A collector gets the events of a program that traces to it, from before it
// could be reached on.
func TestRemoteTracer(t *testing.T) {
	collector := newHost(t)
	names := make(chan pb.TraceEvent_Type, 1000)
	serve := func(s network.Stream) {
		defer func() { _ = s.Close() }()
		z, err := gzip.NewReader(s)
		if err != nil {
			return
		}
		for br := bufio.NewReader(z); ; {
			n, err := binary.ReadUvarint(br)
			if err != nil {
				return
			}
			b := make([]byte, n)
			if _, err := io.ReadFull(br, b); err != nil {
				return
			}
			for _, k := range eventKinds(t, b) {
				names <- k
			}
		}
	}
	collector.SetStreamHandler(pubsub.RemoteTracerProtoID, serve)
	h := newHost(t)
	tracer, err := pubsub.NewRemoteTracer(t.Context(), h, peer.AddrInfo{ID: collector.ID(), Addrs: collector.Addrs()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ps, err := pubsub.NewGossipSub(t.Context(), h, pubsub.WithEventTracer(tracer))
	if err != nil {
		t.Fatal(err)
	}
	tp, _ := subscribe(t, ps, "t")
	if err := tp.Publish(t.Context(), []byte("traced")); err != nil {
		t.Fatal(err)
	}
	if err := ps.Close(); err != nil {
		t.Fatal(err)
	}
	tracer.Close() // sends what waits
	seen := map[pb.TraceEvent_Type]bool{}
	for _, want := range []pb.TraceEvent_Type{pb.TraceEvent_JOIN, pb.TraceEvent_PUBLISH_MESSAGE, pb.TraceEvent_DELIVER_MESSAGE} {
		for !seen[want] {
			select {
			case k := <-names:
				seen[k] = true
			case <-time.After(slowest * 5 * time.Second):
				t.Fatalf("no %v came, only %v", want, seen)
			}
		}
	}
	if n := tracer.Dropped(); n != 0 {
		t.Errorf("%d events were dropped", n)
	}
}

// eventKinds are the types of the events of an encoded batch.
func eventKinds(t *testing.T, batch []byte) (kinds []pb.TraceEvent_Type) {
	for len(batch) > 0 {
		_, _, n := protowire.ConsumeTag(batch)
		ev, m := protowire.ConsumeBytes(batch[max(n, 0):])
		if n < 0 || m < 0 {
			t.Error("not a batch")
			return kinds
		}
		batch = batch[n+m:]
		if num, typ, k := protowire.ConsumeTag(ev); num == 1 && typ == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(ev[k:])
			kinds = append(kinds, pb.TraceEvent_Type(v))
		}
	}
	return kinds
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	h := newHost(t)
	for range 2 { // registered anew after Close
		ps, err := pubsub.New(h, pubsub.Config{Registerer: reg})
		if err != nil {
			t.Fatal(err)
		}
		fams, err := reg.Gather()
		if err != nil || len(fams) < 30 {
			t.Errorf("%d metrics, %v", len(fams), err)
		}
		if err := ps.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Shutdown ends when the peers have read what waited for them.
func TestShutdownSendsWhatWaits(t *testing.T) {
	a, _, ta, _, _, sb := pair(t, "t", nil, nil)
	for i := range 500 {
		size := 10
		if i%50 == 0 {
			size = 2 * pubsub.DefaultBulkSize
		}
		if err := ta.Publish(t.Context(), fmt.Appendf(nil, "%0*d", size, i)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := a.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		next(t, sb)
	}
}

// A meeting is a discovery service in memory.
type meeting struct {
	mu    *sync.Mutex
	peers map[string][]peer.AddrInfo
	self  peer.AddrInfo
}

func (m *meeting) Advertise(_ context.Context, ns string, _ ...discovery.Option) (time.Duration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.peers[ns] = append(m.peers[ns], m.self)
	return time.Hour, nil
}

func (m *meeting) FindPeers(_ context.Context, ns string, _ ...discovery.Option) (<-chan peer.AddrInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chan peer.AddrInfo, len(m.peers[ns]))
	for _, p := range m.peers[ns] {
		c <- p
	}
	close(c)
	return c, nil
}

func TestDiscovery(t *testing.T) {
	var all []*pubsub.PubSub
	place := &meeting{mu: new(sync.Mutex), peers: map[string][]peer.AddrInfo{}}
	for range 2 {
		h := newHost(t)
		own := &meeting{mu: place.mu, peers: place.peers, self: peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}}
		ps, err := pubsub.NewGossipSub(t.Context(), h, pubsub.WithDiscovery(own, pubsub.WithDiscoveryOpts(discovery.TTL(time.Hour))))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ps.Close() })
		_, _ = subscribe(t, ps, "t")
		all = append(all, ps)
	}
	within(t, 10*time.Second, "they found each other", func() bool {
		return len(all[0].MeshPeers("t")) == 1 && len(all[1].MeshPeers("t")) == 1
	})
}

func TestMessagesOfACancelledSubscription(t *testing.T) {
	ps, _ := newPubSub(t)
	tp, sub := subscribe(t, ps, "t")
	if err := tp.Publish(t.Context(), []byte("before")); err != nil {
		t.Fatal(err)
	}
	sub.Cancel()
	var got []string
	for m, err := range sub.Messages(t.Context()) {
		if err != nil {
			if !errors.Is(err, pubsub.ErrSubscriptionCancelled) {
				t.Error(err)
			}
			break
		}
		got = append(got, string(m.Data))
	}
	if len(got) != 1 {
		t.Errorf("got %v, want what was queued before", got)
	}
}
