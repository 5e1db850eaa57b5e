package pubsub_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/pubsub"
)

// While validators have no room, a peer whose messages were rejected has most
// of them dropped before validation, and is heard otherwise.
func TestPeerGater(t *testing.T) {
	ps, h := newPubSub(t, pubsub.WithPeerGater(pubsub.DefaultPeerGaterParams()), pubsub.WithGossipSubParams(slowBeat()))
	started, free := make(chan struct{}, 1), make(chan struct{})
	release := sync.OnceFunc(func() { close(free) })
	t.Cleanup(release)
	reject := func(context.Context, peer.ID, *pubsub.Message) bool {
		select {
		case started <- struct{}{}:
		default:
		}
		<-free
		return false
	}
	if err := ps.RegisterTopicValidator("t", reject, pubsub.WithValidatorConcurrency(1)); err != nil {
		t.Fatal(err)
	}
	_, _ = subscribe(t, ps, "t")
	x := newStranger(t, h, pubsub.GossipSubID_v12)
	say := func(n int) {
		t.Helper()
		if err := x.say(publishing(x.sign("t", fmt.Sprint(n), n))); err != nil {
			t.Fatal(err)
		}
	}
	say(1)
	<-started
	say(2)
	within(t, 5*time.Second, "one found no room", func() bool { return ps.Stats().Throttled == 1 })
	release()
	within(t, 5*time.Second, "one was rejected", func() bool { return ps.Stats().Rejected == 1 })
	for i := range 100 {
		say(3 + i)
	}
	x.subscribe("u") // control is heard
	within(t, 5*time.Second, "its subscription is known", func() bool { return len(ps.ListPeers("u")) == 1 })
	if s := ps.Stats(); s.Gated < 50 {
		t.Errorf("%d of 100 RPCs were dropped, want most", s.Gated)
	}
}
