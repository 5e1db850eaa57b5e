package wire_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/muster-p2p/muster/pubsub/wire"
)

// frames of the sizes and kinds that a router meets, for benchmarks.
func frames() map[string][]byte {
	publish := func(n, size int) []byte {
		f := wire.Fields{
			From: make([]byte, 38), Data: bytes.Repeat([]byte{7}, size), Seqno: make([]byte, 8),
			Topic: "bench-topic", Signature: make([]byte, 64),
		}
		return bytes.Repeat(wire.AppendPublishRaw(nil, f.AppendMessage(nil)), n)
	}
	ids := func(n, size int) []string {
		var l []string
		for range n {
			l = append(l, strings.Repeat("i", size))
		}
		return l
	}
	var subs []byte
	for i := range 100 {
		subs = wire.AppendSubscription(subs, fmt.Sprintf("topic-number-%03d", i), true)
	}
	px := wire.OutPrune{Topic: "bench-topic", Backoff: 60}
	for range 16 {
		px.Peers = append(px.Peers, wire.PeerInfo{ID: make([]byte, 38), Record: make([]byte, 200)})
	}
	mixed := wire.Control{Graft: []string{"a", "b", "c"}, Prune: []wire.OutPrune{px, px, px}, IWant: ids(50, 46)}
	ihave := wire.Control{IHave: []wire.OutIHave{{Topic: "bench-topic", IDs: ids(1000, 46)}}}
	idontwant := wire.Control{IDontWant: ids(1, 20)}
	return map[string][]byte{
		"publish-100B": publish(1, 100), "publish-1KiB": publish(1, 1024), "publish-64KiB": publish(1, 64<<10),
		"publish-1MiB": publish(1, 1<<20), "publish-10x200B": publish(10, 200),
		"ihave-1000": ihave.AppendControl(nil), "idontwant-1": idontwant.AppendControl(nil),
		"control-mixed": mixed.AppendControl(nil), "subscriptions-100": subs,
	}
}

func BenchmarkDecode(b *testing.B) {
	lim := wire.Limits{RPC: 4 << 20}.WithDefaults()
	for name, frame := range frames() {
		b.Run(name, func(b *testing.B) {
			var r wire.RPC
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Decode(frame, &lim); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncodePublish(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			f := wire.Fields{
				From: make([]byte, 38), Data: make([]byte, size), Seqno: make([]byte, 8),
				Topic: "bench-topic", Signature: make([]byte, 64),
			}
			buf := make([]byte, 0, 1<<10)
			b.ReportAllocs()
			for b.Loop() { // the payload is not touched
				buf = f.AppendTail(f.AppendHead(buf[:0]))
			}
		})
	}
}

// Decoding into a used RPC and encoding into a used buffer allocate nothing.
func TestAllocations(t *testing.T) {
	lim := wire.Limits{RPC: 4 << 20}.WithDefaults()
	for name, frame := range frames() {
		var r wire.RPC
		if n := testing.AllocsPerRun(100, func() {
			if r.Decode(frame, &lim) != nil {
				t.Fatal(name)
			}
		}); n != 0 {
			t.Errorf("decode %s: %v allocations, want 0", name, n)
		}
	}
	buf := make([]byte, 0, 4096)
	c := wire.Control{IWant: []string{"a", "b"}, Graft: []string{"t"}, Prune: []wire.OutPrune{{Topic: "t", Backoff: 60}}}
	f := fields()
	if n := testing.AllocsPerRun(100, func() {
		buf = c.AppendControl(wire.AppendSubscription(f.AppendTail(f.AppendHead(buf[:0])), "news", true))
	}); n != 0 {
		t.Errorf("encode: %v allocations, want 0", n)
	}
}
