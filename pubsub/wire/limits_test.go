package wire_test

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/muster-p2p/muster/pubsub/wire"
)

// Every limit is applied while decoding: what exceeds it is left out and
// counted, and the rest of the RPC is still read.
func TestLimits(t *testing.T) {
	lim := wire.Limits{
		Subscriptions: 2, Publish: 2, ControlEntries: 3, MessageIDs: 4, PeerInfos: 1, Topic: 4, MessageID: 4, ControlBytes: 200,
	}.WithDefaults()
	id := func(n int) []string { return slices.Repeat([]string{"id"}, n) }
	control := func(c wire.Control) []byte { return c.AppendControl(nil) }
	sub := func(topic string) []byte { return wire.AppendSubscription(nil, topic, true) }
	msg := func(topic string) []byte {
		f := wire.Fields{Data: []byte("x"), Topic: topic}
		return wire.AppendPublishRaw(nil, f.AppendMessage(nil))
	}
	for _, tt := range []struct {
		name   string
		frame  []byte
		excess wire.Excess
		left   wire.RPC // only lengths are compared
	}{
		{
			"subscriptions", slices.Concat(sub("a"), sub("b"), sub("c"), sub("d"), msg("a")),
			wire.Excess{Subscriptions: 2},
			wire.RPC{Subscriptions: make([]wire.SubOpts, 2), Publish: make([]wire.Message, 1)},
		},
		{"messages", bytes.Repeat(msg("a"), 5), wire.Excess{Publish: 3}, wire.RPC{Publish: make([]wire.Message, 2)}},
		{
			"long topics", slices.Concat(sub("12345"), msg("12345"), sub("1234"), control(wire.Control{
				Graft: []string{"12345"}, Prune: []wire.OutPrune{{Topic: "12345"}}, IHave: []wire.OutIHave{{Topic: "12345"}},
			})),
			wire.Excess{Long: 5},
			wire.RPC{Subscriptions: make([]wire.SubOpts, 1)},
		},
		{
			"control entries", control(wire.Control{Graft: []string{"a", "b", "c", "d"}, IDontWant: id(1)}),
			wire.Excess{Control: 2},
			wire.RPC{Graft: make([]wire.Graft, 3)},
		},
		{
			"ids", control(wire.Control{IHave: []wire.OutIHave{{Topic: "a", IDs: id(3)}}, IWant: id(3), IDontWant: id(1)}),
			wire.Excess{IDs: 3},
			wire.RPC{IHave: make([]wire.IHave, 1), IWant: make([]wire.IDList, 1), IDontWant: make([]wire.IDList, 1)},
		},
		{
			"long ids", control(wire.Control{IWant: []string{"1234", "12345"}}),
			wire.Excess{Long: 1},
			wire.RPC{IWant: make([]wire.IDList, 1)},
		},
		{
			"peers", control(wire.Control{Prune: []wire.OutPrune{
				{Topic: "a", Peers: make([]wire.PeerInfo, 3)}, {Topic: "b", Peers: make([]wire.PeerInfo, 1)},
			}}),
			wire.Excess{Peers: 2},
			wire.RPC{Prune: make([]wire.Prune, 2)},
		},
		{
			"control bytes", slices.Concat(control(wire.Control{Graft: []string{strings.Repeat("g", 300)}}), sub("a")),
			wire.Excess{Control: 1},
			wire.RPC{Subscriptions: make([]wire.SubOpts, 1)},
		},
		{
			"control bytes over several parts",
			slices.Concat(control(wire.Control{Graft: []string{"a"}}), control(wire.Control{Graft: []string{strings.Repeat("g", 190)}})),
			wire.Excess{Control: 1},
			wire.RPC{Graft: make([]wire.Graft, 1)},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r wire.RPC
			if err := r.Decode(tt.frame, &lim); err != nil {
				t.Fatal(err)
			}
			if r.Excess != tt.excess {
				t.Errorf("Excess = %+v, want %+v", r.Excess, tt.excess)
			}
			if got, want := lengths(&r), lengths(&tt.left); got != want {
				t.Errorf("left %v, want %v", got, want)
			}
		})
	}
}

// lengths of subscriptions, messages, ihave, iwant, graft, prune, idontwant.
func lengths(r *wire.RPC) [7]int {
	return [7]int{
		len(r.Subscriptions), len(r.Publish), len(r.IHave), len(r.IWant), len(r.Graft), len(r.Prune), len(r.IDontWant),
	}
}

func TestLimitRPC(t *testing.T) {
	lim := wire.Limits{RPC: 10}.WithDefaults()
	var r wire.RPC
	if err := r.Decode(make([]byte, 11), &lim); !errors.Is(err, wire.ErrLimit) {
		t.Errorf("11 bytes with a limit of 10: %v, want ErrLimit", err)
	}
}

// 1 MiB of the smallest possible entries, of every kind, costs less than 4 MiB.
func TestEmptySubmessages(t *testing.T) {
	const size = 1 << 20
	nested := func(inner string) []byte { // one control part, full of inner
		n := (size - 8) / (len(inner) / 2)
		body := bytes.Repeat(unhex(t, inner), n)
		return append(wire.AppendFrameLen([]byte{0x1a}, len(body)), body...)
	}
	prunes := func() []byte { // PRUNEs of 32 empty peers each
		var body []byte
		for range 1 << 20 / 66 {
			body = append(append(body, 0x22, 64), bytes.Repeat([]byte{0x12, 0}, 32)...)
		}
		return append(wire.AppendFrameLen([]byte{0x1a}, len(body)), body...)
	}
	for name, frame := range map[string][]byte{
		"subscriptions":   bytes.Repeat([]byte{0x0a, 0}, size/2),
		"messages":        bytes.Repeat([]byte{0x12, 0}, size/2),
		"controls":        bytes.Repeat([]byte{0x1a, 0}, size/2),
		"ihaves":          nested("0a00"),
		"iwants":          nested("1200"),
		"grafts":          nested("1a00"),
		"prunes":          nested("2200"),
		"idontwants":      nested("2a00"),
		"ids in one":      append(wire.AppendFrameLen(append(wire.AppendFrameLen([]byte{0x1a}, size-8), 0x12), size-12), bytes.Repeat([]byte{0x0a, 0}, (size-12)/2)...),
		"peers in prunes": prunes(),
	} {
		t.Run(name, func(t *testing.T) {
			var r wire.RPC
			lim := wire.Limits{RPC: 2 * size, ControlBytes: 2 * size}.WithDefaults()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := r.Decode(frame, &lim)
			runtime.ReadMemStats(&after)
			if err != nil {
				t.Fatal(err)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
				t.Errorf("%d bytes allocated, want at most 4 MiB", got)
			}
			if name != "controls" && r.Excess.Total() == 0 {
				t.Error("nothing was left out")
			}
		})
	}
}
