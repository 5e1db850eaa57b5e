package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/muster-p2p/muster/pubsub/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var limits = wire.Limits{}.WithDefaults()

// golden are RPCs built with our encoder; their bytes stand in
// testdata/golden.txt, and were compared with those of protobuf-go (see
// FuzzAgainstProtobuf) and of the other implementations (see interop).
var golden = []struct {
	name  string
	build func() []byte
}{
	{"empty", func() []byte { return nil }},
	{"hello", func() []byte {
		return wire.AppendSubscription(wire.AppendSubscription(nil, "news", true), "chat", false)
	}},
	{"publish", func() []byte {
		f := fields()
		return wire.AppendPublishRaw(nil, f.AppendMessage(nil))
	}},
	{"publish-anonymous", func() []byte {
		f := wire.Fields{Data: []byte("hi"), Topic: "news"}
		return wire.AppendPublishRaw(nil, f.AppendMessage(nil))
	}},
	{"control", func() []byte {
		c := wire.Control{
			IHave: []wire.OutIHave{{Topic: "news", IDs: []string{"id-1", "id-2"}}},
			IWant: []string{"id-3"},
			Graft: []string{"news"},
			Prune: []wire.OutPrune{
				{Topic: "chat"},
				{Topic: "news", Backoff: 60, Peers: []wire.PeerInfo{{ID: []byte("p1"), Record: []byte("rec")}, {ID: []byte("p2")}}},
			},
			IDontWant: []string{"id-4", "\xff\xfe"},
		}
		return c.AppendControl(nil)
	}},
}

func fields() *wire.Fields {
	return &wire.Fields{
		From: []byte("author"), Data: []byte("hello"), Seqno: []byte{0, 0, 0, 0, 0, 0, 0, 7},
		Topic: "news", Signature: []byte("signature"), Key: []byte("key"),
	}
}

func TestGolden(t *testing.T) {
	const name = "testdata/golden.txt"
	var out strings.Builder
	for _, g := range golden {
		fmt.Fprintf(&out, "%s %x\n", g.name, g.build())
	}
	if *update {
		if err := os.WriteFile(name, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("encoding changed (-want +got):\n%s", diff)
	}
}

func TestGoldenRoundTrip(t *testing.T) {
	for _, g := range golden {
		t.Run(g.name, func(t *testing.T) {
			b := g.build()
			var r wire.RPC
			if err := r.Decode(b, &limits); err != nil {
				t.Fatal(err)
			}
			if got := wire.AppendRPC(nil, &r); !bytes.Equal(got, b) {
				t.Errorf("decode and encode:\n got %x\nwant %x", got, b)
			}
		})
	}
}

func TestDecodeControl(t *testing.T) {
	var r wire.RPC
	if err := r.Decode(golden[4].build(), &limits); err != nil {
		t.Fatal(err)
	}
	want := wire.RPC{
		HasControl: true,
		IHave:      []wire.IHave{{Topic: []byte("news"), IDs: [][]byte{[]byte("id-1"), []byte("id-2")}}},
		IWant:      []wire.IDList{{IDs: [][]byte{[]byte("id-3")}}},
		Graft:      []wire.Graft{{Topic: []byte("news")}},
		Prune: []wire.Prune{
			{Topic: []byte("chat"), Peers: []wire.PeerInfo{}},
			{Topic: []byte("news"), Backoff: 60, HasBackoff: true, Peers: []wire.PeerInfo{
				{ID: []byte("p1"), Record: []byte("rec")}, {ID: []byte("p2")},
			}},
		},
		IDontWant: []wire.IDList{{IDs: [][]byte{[]byte("id-4"), []byte("\xff\xfe")}}},
	}
	if diff := cmp.Diff(want, r, cmpopts.IgnoreUnexported(wire.RPC{}), cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

// A frame is [length][tag][length][message]; the three ways to write one agree.
func TestPublishThreeWays(t *testing.T) {
	for _, n := range []int{0, 1, 5, 127, 128, 16384, 1 << 20} {
		f := fields()
		f.Data = bytes.Repeat([]byte{7}, n)
		raw := f.AppendMessage(nil)
		if len(raw) != f.Size() {
			t.Fatalf("%d: Size %d, appended %d", n, f.Size(), len(raw))
		}
		entry := wire.AppendPublishRaw(nil, raw)
		if len(entry) != wire.PublishSize(len(raw)) {
			t.Errorf("%d: PublishSize %d, appended %d", n, wire.PublishSize(len(raw)), len(entry))
		}
		parts := f.AppendTail(append(f.AppendHead(nil), f.Data...))
		if !bytes.Equal(entry, parts) {
			t.Errorf("%d: head, data and tail differ from the entry", n)
		}
		var r wire.RPC
		lim := wire.Limits{RPC: 4 << 20}.WithDefaults()
		if err := r.Decode(entry, &lim); err != nil {
			t.Fatal(err)
		}
		if m := r.Publish[0]; !bytes.Equal(m.Field, entry) || !bytes.Equal(m.Raw, raw) || !bytes.Equal(m.Data, f.Data) {
			t.Errorf("%d: decoded message differs", n)
		}
		if m := r.Publish[0]; !bytes.Equal(m.AppendSigned(nil), f.AppendSigned(nil)) || m.SignedLen == 0 {
			t.Errorf("%d: signed bytes differ, SignedLen %d", n, m.SignedLen)
		}
	}
}

// What the author signed, for messages that other implementations encode in
// other ways. Numbers are tags: 0a from, 12 data, 1a seqno, 22 topic,
// 2a signature, 32 key, 3a a field 7 that we do not know.
func TestSignedBytes(t *testing.T) {
	for _, tt := range []struct{ name, raw, signed, prefix string }{
		{"canonical", "0a0141 120142 1a0143 220144 2a0145 320146", "0a0141120142 1a0143220144", "0a0141120142 1a0143220144"},
		{"no key", "0a0141 120142 1a0143 220144 2a0145", "0a0141120142 1a0143220144", "0a0141120142 1a0143220144"},
		{"unsigned", "120142 220144", "120142220144", "120142220144"},
		{"key before signature", "120142 220144 320146 2a0145", "120142220144", "120142220144"},
		{"present and empty", "0a00 1200 2200", "0a0012002200", "0a0012002200"},
		{"nothing", "", "", ""},
		{"only a signature", "2a0145", "", ""},
		{"out of order", "120142 0a0141 2a0145", "0a0141120142", ""},
		{"signature first", "2a0145 0a0141 120142", "0a0141120142", ""},
		{"twice, the last wins", "120142 120143", "120143", ""},
		{"long length", "12810042", "120142", ""},
		{"long tag", "9200 0142", "120142", ""},
		{"unknown at the end", "120142 220144 3a0147", "1201422201443a0147", ""},
		{"unknown after the signature", "120142 2a0145 3a0147", "1201423a0147", ""},
		{"unknown before", "3a0147 120142", "1201423a0147", ""},
		{"unknown varint", "120142 3807", "1201423807", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := unhex(t, tt.raw)
			var m wire.Message
			if err := m.Decode(raw); err != nil {
				t.Fatal(err)
			}
			want := append([]byte(wire.SignPrefix), unhex(t, tt.signed)...)
			if got := m.AppendSigned(nil); !bytes.Equal(got, want) {
				t.Errorf("AppendSigned = %x, want %x", got, want)
			}
			if got, want := m.Raw[:m.SignedLen], unhex(t, tt.prefix); !bytes.Equal(got, want) {
				t.Errorf("Raw[:SignedLen] = %x, want %x", got, want)
			}
		})
	}
}

func TestFieldOnlyIfMinimal(t *testing.T) {
	var r wire.RPC
	if err := r.Decode(unhex(t, "1283 00 120142"), &limits); err != nil {
		t.Fatal(err)
	}
	if m := r.Publish[0]; m.Field != nil || !bytes.Equal(m.Raw, unhex(t, "120142")) {
		t.Errorf("Field %x, Raw %x: want none and the message", m.Field, m.Raw)
	}
}

func TestPresence(t *testing.T) {
	var m wire.Message
	if err := m.Decode(unhex(t, "0a00 1200")); err != nil {
		t.Fatal(err)
	}
	if m.From == nil || m.Data == nil || m.Seqno != nil || m.Topic != nil || m.Signature != nil || m.Key != nil {
		t.Errorf("present: from %v data %v seqno %v topic %v", m.From != nil, m.Data != nil, m.Seqno != nil, m.Topic != nil)
	}
}

// "unknown fields ignored": extensions of later versions pass unseen.
func TestUnknownFields(t *testing.T) {
	for _, tt := range []struct{ name, rpc string }{
		{"partial message 10", "5204 0a0141 00"},
		{"partial message 10", "5203 0a0141"},
		{"test extension 6492434", "92a1e21800"},
		{"ping-pong 3145728", "8280800c00"},
		{"fixed64", "61 0102030405060708"},
		{"fixed32", "65 01020304"},
		{"group", "53 0801 54"},
		{"inside control", "1a04 5202 0801"},
		{"extensions", "1a04 3202 5001"},
		{"topic table 4820938", "1a05 d2fdb11200"},
		{"inside ihave", "1a05 0a03 1a0147"},
		{"inside subscription", "0a06 2801 32020102"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r wire.RPC
			if err := r.Decode(unhex(t, tt.rpc), &limits); err != nil {
				t.Fatal(err)
			}
		})
	}
	var r wire.RPC
	if err := r.Decode(unhex(t, "1a04 3202 5001"), &limits); err != nil || !r.HasExtensions || !bytes.Equal(r.Extensions, []byte{0x50, 1}) {
		t.Errorf("extensions: %v %x %v", r.HasExtensions, r.Extensions, err)
	}
	if err := r.Decode(unhex(t, "0a07 0801 120141 1801"), &limits); err != nil || !r.Subscriptions[0].RequestsPartial {
		t.Errorf("partial flags: %+v %v", r.Subscriptions, err)
	}
	if got := wire.AppendRPC(nil, &r); !bytes.Equal(got, unhex(t, "0a07 0801 120141 1801")) {
		t.Errorf("partial flags encode as %x", got)
	}
}

func TestMalformed(t *testing.T) {
	for _, tt := range []struct{ name, rpc string }{
		{"field number zero", "0200"},
		{"tag alone", "12"},
		{"longer than the frame", "120541"},
		{"two byte length past the end", "12 8001 41"},
		{"varint without end", "ffffffffffffffffffffff"},
		{"length beyond 2^63", "12 ffffffffffffffffff01"},
		{"subscriptions as varint", "0801"},
		{"control as fixed64", "19 0102030405060708"},
		{"message data as varint", "1202 1005"},
		{"message cut", "1203 120541"},
		{"topic as varint", "0a02 1001"},
		{"subscribe as bytes", "0a02 0a00"},
		{"ihave id as varint", "1a04 0a02 1001"},
		{"iwant id as varint", "1a04 1202 0801"},
		{"graft topic as varint", "1a04 1a02 0801"},
		{"backoff as bytes", "1a04 2202 1a00"},
		{"peer id as varint", "1a06 2204 1202 0801"},
		{"field number above 2^29", "80ffffff30 30"},
		{"end of no group", "54"},
		{"group without end", "53 0801"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r wire.RPC
			if err := r.Decode(unhex(t, tt.rpc), &limits); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("got %v, want ErrMalformed", err)
			}
		})
	}
}

func TestFrameLen(t *testing.T) {
	for _, tt := range []struct {
		in     string
		rpc    uint64
		prefix int
		err    error
	}{
		{"", 0, 0, nil},
		{"00", 0, 1, nil},
		{"05", 5, 1, nil},
		{"80", 0, 0, nil},
		{"ac02 ff", 300, 2, nil},
		{"ffffffffffffffffff01", 1<<64 - 1, 10, nil},
		{"ffffffffffffffffff02", 0, 0, wire.ErrMalformed},
		{"ffffffffffffffffffff01", 0, 0, wire.ErrMalformed},
	} {
		rpc, prefix, err := wire.FrameLen(unhex(t, tt.in))
		if prefix != tt.prefix || !errors.Is(err, tt.err) || prefix > 0 && rpc != tt.rpc {
			t.Errorf("FrameLen(%s) = %d, %d, %v; want %d, %d, %v", tt.in, rpc, prefix, err, tt.rpc, tt.prefix, tt.err)
		}
	}
	for _, n := range []int{0, 1, 127, 128, 1 << 14, 1 << 20} {
		rpc, prefix, err := wire.FrameLen(wire.AppendFrame(nil, make([]byte, n)))
		if rpc != uint64(n) || err != nil || !bytes.Equal(wire.AppendFrameLen(nil, n), wire.AppendFrame(nil, make([]byte, n))[:prefix]) {
			t.Errorf("%d: FrameLen of AppendFrame = %d, %d, %v", n, rpc, prefix, err)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, n := range []int{0, 1, 122, 123, 124, 125, 126, 127, 128, 20000} {
		topic := strings.Repeat("t", n)
		if got := len(wire.AppendSubscription(nil, topic, true)); got != wire.SubscriptionSize(n) {
			t.Errorf("SubscriptionSize(%d) = %d, appended %d", n, wire.SubscriptionSize(n), got)
		}
		c := wire.Control{
			IHave: []wire.OutIHave{{Topic: topic, IDs: []string{topic, "x"}}}, IWant: []string{topic},
			Graft: []string{topic}, IDontWant: []string{topic, topic},
			Prune: []wire.OutPrune{{Topic: topic, Backoff: uint64(n), Peers: []wire.PeerInfo{{ID: []byte(topic)}}}},
		}
		if got := len(c.AppendControl(nil)); got != c.Size() {
			t.Errorf("Control.Size() = %d with topics of %d, appended %d", c.Size(), n, got)
		}
	}
	var none wire.Control
	if none.Size() != 0 || len(none.AppendControl(nil)) != 0 {
		t.Error("an empty control part is not empty")
	}
}

// A reused RPC shows nothing of the frame before.
func TestReuse(t *testing.T) {
	var used wire.RPC
	for _, g := range golden {
		if err := used.Decode(g.build(), &limits); err != nil {
			t.Fatal(err)
		}
		var fresh wire.RPC
		if err := fresh.Decode(g.build(), &limits); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fresh, used, cmpopts.IgnoreUnexported(wire.RPC{}, wire.Message{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: reused differs from fresh:\n%s", g.name, diff)
		}
	}
	used.Reset()
	if !reflect.DeepEqual(wire.AppendRPC(nil, &used), []byte(nil)) {
		t.Error("Reset left something behind")
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
