package pubsub_test

import (
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/muster-p2p/muster/pubsub"
)

// A recorder is a tracer that counts what it is told.
type recorder struct {
	mu  sync.Mutex
	saw map[string]int
}

func (r *recorder) note(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.saw == nil {
		r.saw = map[string]int{}
	}
	r.saw[what]++
}

func (r *recorder) count(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.saw[what]
}

func (r *recorder) OnNewOutboundStream(peer.ID, protocol.ID)        { r.note("new stream") }
func (r *recorder) OnClosedOutboundStream(peer.ID)                  { r.note("closed stream") }
func (r *recorder) Join(string)                                     { r.note("join") }
func (r *recorder) Leave(string)                                    { r.note("leave") }
func (r *recorder) Graft(peer.ID, string)                           { r.note("graft") }
func (r *recorder) Prune(peer.ID, string)                           { r.note("prune") }
func (r *recorder) ValidateMessage(*pubsub.Message)                 { r.note("validate") }
func (r *recorder) DeliverMessage(*pubsub.Message)                  { r.note("deliver") }
func (r *recorder) RejectMessage(_ *pubsub.Message, because string) { r.note("reject: " + because) }
func (r *recorder) DuplicateMessage(*pubsub.Message)                { r.note("duplicate") }
func (r *recorder) ThrottlePeer(peer.ID)                            { r.note("throttle") }
func (r *recorder) RecvRPC(*pubsub.RPC)                             { r.note("receive") }
func (r *recorder) SendRPC(*pubsub.RPC, peer.ID)                    { r.note("send") }
func (r *recorder) DropRPC(*pubsub.RPC, peer.ID)                    { r.note("drop") }
func (r *recorder) UndeliverableMessage(*pubsub.Message)            { r.note("undeliverable") }

// A tracer is told of everything that has a name in its interface.
func TestRawTracer(t *testing.T) {
	r := &recorder{}
	ps, h := newPubSub(t, pubsub.WithRawTracer(r), pubsub.WithGossipSubParams(slowBeat()))
	tp, sub := subscribe(t, ps, "news", pubsub.WithBufferSize(1))
	x := newStranger(t, h, pubsub.GossipSubID_v12)
	x.subscribe("news")
	within(t, 5*time.Second, "GRAFT", x.look(func() bool { return x.grafts == 1 }))
	good, bad := x.sign("news", "good", 1), x.sign("news", "bad", 2)
	bad.Data = []byte("worse")
	if err := x.say(publishing(good), publishing(good), publishing(bad)); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "handled", func() bool { return r.count("reject: "+pubsub.RejectInvalidSignature) == 1 })
	if err := tp.Publish(t.Context(), []byte("ours")); err != nil { // for which the buffer has no room
		t.Fatal(err)
	}
	within(t, 5*time.Second, "sent", x.look(func() bool { return x.messages["ours"] == 1 }))
	sub.Cancel()
	within(t, 5*time.Second, "PRUNE", x.look(func() bool { return len(x.prunes) == 1 }))
	_ = x.h.Close()
	within(t, 5*time.Second, "gone", func() bool { return r.count("closed stream") > 0 || ps.Peer(x.h.ID()) == nil })
	for what, want := range map[string]int{
		"new stream": 1, "join": 1, "leave": 1, "graft": 1, "prune": 1, "validate": 1, "deliver": 2,
		"duplicate": 1, "undeliverable": 1, "drop": 0, "throttle": 0,
	} {
		if n := r.count(what); n != want {
			t.Errorf("%s: told %d times, want %d", what, n, want)
		}
	}
	if r.count("receive") < 2 || r.count("send") < 3 {
		t.Errorf("%d RPCs received, %d sent", r.count("receive"), r.count("send"))
	}
}
