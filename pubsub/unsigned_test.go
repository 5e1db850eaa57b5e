package pubsub_test

import (
	"testing"
	"time"

	"github.com/muster-p2p/muster/pubsub"
	"github.com/muster-p2p/muster/pubsub/wire"
)

// What unsigned messages may have: by the policy alone they are those of
// go-libp2p-pubsub, with WithNoAuthor those of the specification.
func TestUnsignedAuthors(t *testing.T) {
	policy := pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign)
	for _, tt := range []struct {
		name    string
		opts    []pubsub.Option
		sends   bool // an author
		accepts bool
	}{
		{"the policy alone", []pubsub.Option{policy}, true, true},
		{"without author", []pubsub.Option{policy, pubsub.WithNoAuthor()}, false, false},
		{"without author, the other way round", []pubsub.Option{pubsub.WithNoAuthor(), policy}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ps, h := newPubSub(t, append(tt.opts, pubsub.WithGossipSubParams(slowBeat()))...)
			topic, sub := subscribe(t, ps, "news")
			x := newStranger(t, h, pubsub.GossipSubID_v11)
			x.subscribe("news")
			within(t, 5*time.Second, "in the mesh", func() bool { return len(ps.MeshPeers("news")) == 1 })
			if err := topic.Publish(t.Context(), []byte("ours")); err != nil {
				t.Fatal(err)
			}
			if m := next(t, sub); (m.GetFrom() != "") != tt.sends || (m.GetSeqno() != nil) != tt.sends || m.Signature != nil {
				t.Errorf("we send %v", m)
			}
			f := wire.Fields{From: []byte(x.h.ID()), Seqno: seqno(1), Data: []byte("with author"), Topic: "news"}
			bare := wire.Fields{Data: []byte("without"), Topic: "news"}
			again := wire.Fields{Data: []byte("without, another"), Topic: "news"}
			if err := x.say(publishing(f), publishing(bare), publishing(again)); err != nil {
				t.Fatal(err)
			}
			want := []string{"without", "without, another"}
			if tt.accepts {
				want = append([]string{"with author"}, want...)
			}
			for _, w := range want {
				if m := next(t, sub); string(m.Data) != w {
					t.Errorf("got %q, want %q", m.Data, w)
				}
			}
		})
	}
}
