package pubsub_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/muster-p2p/muster/pubsub"
	"github.com/muster-p2p/muster/pubsub/wire"
)

// RPCs written by hand, as a stranger's tests would send them.

// bytesField and varintField write one protobuf field.
func bytesField(num protowire.Number, val ...string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, num, protowire.BytesType), strings.Join(val, ""))
}

func varintField(num protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), n)
}

func joined(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// ctl is the control part of an RPC, of the given fields.
func ctl(parts ...[]byte) []byte { return bytesField(3, string(joined(parts...))) }

// notText is no UTF-8, as the ids of most implementations are not.
const notText = "\xff\xfe\x00\x80id"

// Every protocol begins with our subscriptions, and carries messages both ways.
func TestStrangerOfEveryProtocol(t *testing.T) {
	for _, proto := range []protocol.ID{pubsub.FloodSubID, pubsub.GossipSubID_v10, pubsub.GossipSubID_v11, pubsub.GossipSubID_v12} {
		t.Run(strings.ReplaceAll(string(proto[1:]), "/", " "), func(t *testing.T) {
			ps, h := newPubSub(t)
			tp, sub := subscribe(t, ps, "news")
			x := newStranger(t, h, proto)
			within(t, 5*time.Second, "hello", x.look(func() bool { return x.topics["news"] }))
			x.subscribe("news")
			within(t, 5*time.Second, "subscribed", func() bool { return len(tp.ListPeers()) == 1 })
			if proto != pubsub.FloodSubID {
				within(t, 5*time.Second, "GRAFT", x.look(func() bool { return x.grafts == 1 }))
			}
			if err := x.say(publishing(x.sign("news", "in", 1))); err != nil {
				t.Fatal(err)
			}
			if m := next(t, sub); string(m.Data) != "in" || m.ReceivedFrom != x.h.ID() || m.GetFrom() != x.h.ID() {
				t.Errorf("got %q of %v from %v", m.Data, m.GetFrom(), m.ReceivedFrom)
			}
			if err := tp.Publish(t.Context(), []byte("out")); err != nil {
				t.Fatal(err)
			}
			within(t, 5*time.Second, "ours arrives", x.look(func() bool { return x.messages["out"] == 1 }))
			x.mu.Lock()
			defer x.mu.Unlock()
			if x.messages["in"] != 0 {
				t.Error("a message went back to where it came from")
			}
		})
	}
}

// What is odd but legal changes nothing: the stream stays, nobody is punished,
// and the next message is delivered.
func TestOddRPCs(t *testing.T) {
	garbage := bytesField(1, "not a peer id")
	ps, h := newPubSub(t, pubsub.WithGossipSubParams(slowBeat()))
	_, sub := subscribe(t, ps, "news")
	x := newStranger(t, h, pubsub.GossipSubID_v12)
	x.subscribe("news")
	n := 0
	for name, rpc := range map[string][]byte{
		"empty":                      nil,
		"unknown fields":             joined(varintField(99, 1), bytesField(1000, "x"), protowire.AppendFixed32(protowire.AppendTag(nil, 77, protowire.Fixed32Type), 1), protowire.AppendFixed64(protowire.AppendTag(nil, 78, protowire.Fixed64Type), 1)),
		"unknown group":              joined(protowire.AppendTag(nil, 50, protowire.StartGroupType), varintField(1, 1), protowire.AppendTag(nil, 50, protowire.EndGroupType)),
		"extensions of 1.3":          joined(ctl(bytesField(6, string(varintField(10, 1)), string(varintField(6492434, 1)))), bytesField(10, string(bytesField(1, "news")), string(bytesField(2, notText))), bytesField(6492434)),
		"extensions twice":           joined(ctl(bytesField(6)), ctl(bytesField(6))),
		"ping, preamble, drafts":     joined(bytesField(3145728, "ping"), bytesField(4194304, "preamble"), bytesField(4820938), bytesField(12), ctl(bytesField(7, "x"), bytesField(8, "y"))),
		"partial flags":              bytesField(1, string(varintField(1, 1)), string(bytesField(2, "news")), string(varintField(3, 1)), string(varintField(4, 1))),
		"empty control":              ctl(),
		"empty entries":              ctl(bytesField(1), bytesField(2), bytesField(3), bytesField(4), bytesField(5)),
		"empty subscription":         bytesField(1),
		"subscription of no topic":   bytesField(1, string(varintField(1, 1))),
		"SUBSCRIBE thrice":           bytes.Repeat(wire.AppendSubscription(nil, "news", true), 3),
		"out and in":                 joined(wire.AppendSubscription(nil, "news", false), wire.AppendSubscription(nil, "news", true)),
		"UNSUBSCRIBE of no topic":    wire.AppendSubscription(nil, "never heard of", false),
		"subscribe with a 2":         bytesField(1, string(varintField(1, 2)), string(bytesField(2, "news"))),
		"GRAFT of unknown topic":     ctl(bytesField(3, string(bytesField(1, "unknown")))),
		"PRUNE of unknown topic":     ctl(bytesField(4, string(bytesField(1, "unknown")), string(varintField(3, 1<<62)))),
		"IHAVE of unknown topic":     ctl(bytesField(1, string(bytesField(1, "unknown")), string(bytesField(2, notText)))),
		"IHAVE without ids":          ctl(bytesField(1, string(bytesField(1, "news")))),
		"IWANT of nothing we have":   ctl(bytesField(2, string(bytesField(1, notText)), string(bytesField(1)))),
		"IDONTWANT of no message":    ctl(bytesField(5, string(bytesField(1)), string(bytesField(1, notText)))),
		"message without anything":   bytesField(2),
		"message without topic":      bytesField(2, string(bytesField(1, "a")), string(bytesField(2, "data"))),
		"message of another topic":   bytesField(2, string(bytesField(2, "data")), string(bytesField(4, "other"))),
		"topic twice, last one wins": bytesField(2, string(bytesField(4, "news")), string(bytesField(4, "other"))),
		"PRUNE with garbage peers": ctl(bytesField(4, string(bytesField(1, "unknown")), string(bytesField(2, string(garbage))),
			string(bytesField(2)), string(bytesField(2, string(bytesField(2, "record")))))),
		"length of several bytes": bytesField(99, strings.Repeat("x", 20_000)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := x.say(rpc); err != nil {
				t.Fatal(err)
			}
			n++
			if err := x.say(publishing(x.sign("news", name, n))); err != nil {
				t.Fatal(err)
			}
			if m := next(t, sub); string(m.Data) != name {
				t.Errorf("got %q", m.Data)
			}
			s := ps.Stats()
			if s.BadRPCs+s.Penalties+s.BadSignatures+s.Excess+s.Rejected+s.Disconnects > 0 {
				t.Errorf("something was held against it: %+v", s)
			}
			x.mu.Lock()
			defer x.mu.Unlock()
			if len(x.prunes) > 0 {
				t.Errorf("%d PRUNEs", len(x.prunes))
			}
		})
	}
}

// What cannot be read ends the stream, costs P7, and another stream serves.
func TestUnreadableRPCs(t *testing.T) {
	for name, rpc := range map[string][]byte{
		"cut off":                     {0x0a, 0x05, 'x'},
		"subscriptions as a number":   varintField(1, 1),
		"messages as a number":        varintField(2, 1),
		"control as 64 bits":          protowire.AppendFixed64(protowire.AppendTag(nil, 3, protowire.Fixed64Type), 1),
		"topic as a number":           bytesField(2, string(varintField(4, 1))),
		"back-off as bytes":           ctl(bytesField(4, string(bytesField(3, "60")))),
		"field number 0":              {0x02, 0x00},
		"tag that never ends":         bytes.Repeat([]byte{0xff}, 12),
		"group that never ends":       protowire.AppendTag(nil, 50, protowire.StartGroupType),
		"cut off within a message":    bytesField(2, "\x12\x7f"),
		"cut off within an IHAVE":     ctl(bytesField(1, "\x12\x7f")),
		"length of more than 64 bits": append([]byte{0x0a}, bytes.Repeat([]byte{0xff}, 10)...),
	} {
		t.Run(name, func(t *testing.T) {
			ps, h := newPubSub(t, pubsub.WithGossipSubParams(slowBeat()))
			_, sub := subscribe(t, ps, "news")
			x := newStranger(t, h, pubsub.GossipSubID_v12)
			if err := x.say(rpc); err != nil {
				t.Fatal(err)
			}
			within(t, 5*time.Second, "the stream reset", func() bool { return x.say(nil) != nil })
			if s := ps.Stats(); s.BadRPCs != 1 || s.Penalties != 1 {
				t.Errorf("%d bad RPCs and %d penalties, want 1 of each", s.BadRPCs, s.Penalties)
			}
			x.open(h, pubsub.GossipSubID_v12)
			if err := x.say(publishing(x.sign("news", "marker", 1))); err != nil {
				t.Fatal(err)
			}
			next(t, sub)
		})
	}
}

// Limits hold to the byte and the entry.
func TestLimitsAreExact(t *testing.T) {
	const max = 4000
	ps, h := newPubSub(t, pubsub.WithMaxMessageSize(max), pubsub.WithGossipSubParams(slowBeat()))
	_, sub := subscribe(t, ps, "news")
	padded := func(x *stranger, n, size int) []byte {
		rpc := publishing(x.sign("news", fmt.Sprint(n), n))
		pad := size - len(rpc) - len(bytesField(99)) - 1
		return joined(rpc, bytesField(99, strings.Repeat("x", pad)))
	}
	x := newStranger(t, h, pubsub.GossipSubID_v12)
	rpc := padded(x, 1, max)
	if len(rpc) != max {
		t.Fatalf("made an RPC of %d bytes", len(rpc))
	}
	if err := x.say(rpc); err != nil {
		t.Fatal(err)
	}
	next(t, sub)
	if err := x.say(padded(x, 2, max+1)); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "the stream reset", func() bool { return x.say(nil) != nil })

	x.open(h, pubsub.GossipSubID_v12)
	long := strings.Repeat("t", wire.DefaultMaxTopic)
	x.subscribe(long)
	x.subscribe(long + "t")
	within(t, 5*time.Second, "the longest topic", func() bool { return len(ps.ListPeers(long)) == 1 })
	id := strings.Repeat("i", wire.DefaultMaxMessageID)
	if err := x.say(control(wire.Control{IHave: []wire.OutIHave{{Topic: "news", IDs: []string{id + "i", id}}}})); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "the longest id asked for", x.look(func() bool { return len(x.iwant) == 1 && x.iwant[0] == id }))
	within(t, 5*time.Second, "both left out and counted", func() bool { return ps.Stats().Excess == 2 })
	if len(ps.ListPeers(long+"t")) != 0 {
		t.Error("a topic over the limit is known")
	}
}

// Several streams, several RPCs in one write, and one RPC in several.
func TestRPCsInPieces(t *testing.T) {
	ps, h := newPubSub(t)
	_, sub := subscribe(t, ps, "news")
	x := newStranger(t, h, pubsub.GossipSubID_v12)
	var all []byte
	for i := range 5 {
		two := append(publishing(x.sign("news", fmt.Sprint(2*i), 2*i)), publishing(x.sign("news", fmt.Sprint(2*i+1), 2*i+1))...)
		all = append(wire.AppendFrame(all, nil), wire.AppendFrame(nil, two)...)
	}
	for i := range all {
		if i < len(all)/2 {
			if _, err := x.s.Write(all[i : i+1]); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if _, err := x.s.Write(all[i:]); err != nil {
			t.Fatal(err)
		}
		break
	}
	for i := range 10 {
		if m := next(t, sub); string(m.Data) != fmt.Sprint(i) {
			t.Errorf("message %d is %q", i, m.Data)
		}
	}
}

// rsaKey is an RSA key, whose peer id does not hold it.
var rsaKey = sync.OnceValue(func() crypto.PrivKey {
	key, _, err := crypto.GenerateKeyPair(crypto.RSA, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// strangeMessages are messages by key, each odd in one way.
func strangeMessages(t *testing.T, key, other crypto.PrivKey) map[string]wire.Fields {
	t.Helper()
	rsa := rsaKey()
	n := 0
	make := func(key crypto.PrivKey, change func(*wire.Fields), signed bool) wire.Fields {
		n++
		id, err := peer.IDFromPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		f := wire.Fields{From: []byte(id), Data: fmt.Append(nil, "message ", n), Seqno: seqno(n), Topic: "news"}
		change(&f)
		if !signed {
			return f
		}
		if f.Signature, err = key.Sign(f.AppendSigned(nil)); err != nil {
			t.Fatal(err)
		}
		return f
	}
	public := func(key crypto.PrivKey) []byte {
		b, err := crypto.MarshalPublicKey(key.GetPublic())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	fresh := func() crypto.PrivKey { // without a seqno an author has one message
		k, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	plain := func(*wire.Fields) {}
	with := func(f wire.Fields, change func(*wire.Fields)) wire.Fields {
		change(&f)
		return f
	}
	return map[string]wire.Fields{
		"signed":                    make(key, plain, true),
		"signed, key along":         with(make(key, plain, true), func(f *wire.Fields) { f.Key = public(key) }),
		"signed, RSA key along":     with(make(rsa, plain, true), func(f *wire.Fields) { f.Key = public(rsa) }),
		"signed, RSA without key":   make(rsa, plain, true),
		"signed, another's key":     with(make(key, plain, true), func(f *wire.Fields) { f.Key = public(other) }),
		"signed, no key but bytes":  with(make(key, plain, true), func(f *wire.Fields) { f.Key = []byte("key") }),
		"signed by another":         with(make(other, func(f *wire.Fields) { f.From = []byte(idOf(t, key)) }, true), func(*wire.Fields) {}),
		"seqno of 7":                make(key, func(f *wire.Fields) { f.Seqno = f.Seqno[1:] }, true),
		"seqno of 9":                make(key, func(f *wire.Fields) { f.Seqno = append(f.Seqno, 0) }, true),
		"seqno empty":               make(fresh(), func(f *wire.Fields) { f.Seqno = []byte{} }, true),
		"no seqno":                  make(fresh(), func(f *wire.Fields) { f.Seqno = nil }, true),
		"no from":                   make(key, func(f *wire.Fields) { f.From = nil }, true),
		"from of garbage":           make(key, func(f *wire.Fields) { f.From = []byte(notText) }, true),
		"signature empty":           make(key, func(f *wire.Fields) { f.Signature = []byte{} }, false),
		"signature of garbage":      make(key, func(f *wire.Fields) { f.Signature = bytes.Repeat([]byte{1}, 64) }, false),
		"data changed":              with(make(key, plain, true), func(f *wire.Fields) { f.Data = append(bytes.Clone(f.Data), '!') }),
		"signed, no data":           make(key, func(f *wire.Fields) { f.Data = nil }, true),
		"unsigned, with author":     make(key, plain, false),
		"unsigned, only from":       make(fresh(), func(f *wire.Fields) { f.Seqno = nil }, false),
		"unsigned, only seqno":      make(key, func(f *wire.Fields) { f.From = nil }, false),
		"unsigned, only key":        make(key, func(f *wire.Fields) { f.From, f.Seqno, f.Key = nil, nil, public(key) }, false),
		"bare":                      make(key, func(f *wire.Fields) { f.From, f.Seqno = nil, nil }, false),
		"unsigned, from of garbage": make(key, func(f *wire.Fields) { f.From = []byte(notText) }, false),
		"unsigned, long seqno":      make(key, func(f *wire.Fields) { f.Seqno = bytes.Repeat([]byte{7}, 10_000) }, false),
	}
}

func idOf(t *testing.T, key crypto.PrivKey) peer.ID {
	t.Helper()
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Which of them each policy takes, as they come over a stream.
func TestPoliciesOnTheWire(t *testing.T) {
	signed := []string{"signed", "signed, key along", "signed, RSA key along", "signed, no data"}
	lax := append([]string{
		"seqno of 7", "seqno of 9", "seqno empty", "no seqno", "unsigned, with author", "unsigned, only from",
		"unsigned, only seqno", "unsigned, only key", "bare", "unsigned, from of garbage",
	}, signed...)
	for _, tt := range []struct {
		name string
		opts []pubsub.Option
		want []string
	}{
		{"StrictSign", nil, signed},
		{"StrictNoSign without author", []pubsub.Option{pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor()}, []string{"bare"}},
		{"StrictNoSign", []pubsub.Option{pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign)}, []string{
			"bare", "unsigned, with author", "unsigned, only from", "unsigned, only seqno", "unsigned, only key", "unsigned, from of garbage",
		}},
		{"LaxSign", []pubsub.Option{pubsub.WithMessageSignaturePolicy(pubsub.LaxSign)}, lax},
		{"LaxNoSign", []pubsub.Option{pubsub.WithMessageSignaturePolicy(pubsub.LaxNoSign)}, lax},
	} {
		t.Run(tt.name, func(t *testing.T) {
			patient := func(c *pubsub.Config) error {
				c.MaxBadSignatures = -1
				return nil
			}
			ps, h := newPubSub(t, append(tt.opts, pubsub.WithGossipSubParams(slowBeat()), patient)...)
			_, sub := subscribe(t, ps, "news")
			x := newStranger(t, h, pubsub.GossipSubID_v12)
			y := newStranger(t, h, pubsub.GossipSubID_v12)
			y.subscribe("news")
			within(t, 5*time.Second, "in the mesh", func() bool { return len(ps.MeshPeers("news")) == 1 })
			key := x.h.Peerstore().PrivKey(x.h.ID())
			other, _, err := crypto.GenerateEd25519Key(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			all := strangeMessages(t, key, other)
			want := map[string]bool{}
			for _, name := range tt.want {
				want[name] = true
			}
			got, sent := map[string]string{}, map[string]string{}
			for name, f := range all {
				sent[string(f.Data)+string(f.Seqno)+string(f.From)] = name
				if err := x.say(publishing(f)); err != nil {
					t.Fatal(err)
				}
			}
			for range want {
				m := next(t, sub)
				got[sent[string(m.Data)+string(m.Seqno)+string(m.From)]] = string(m.Data)
			}
			within(t, 5*time.Second, "the others refused", func() bool {
				s := ps.Stats()
				return int(s.Rejected+s.BadIDs) == len(all)-len(want)
			})
			for name := range want {
				data, ok := got[name]
				if !ok {
					t.Errorf("%s: not delivered", name)
				}
				within(t, 5*time.Second, name+" forwarded", y.look(func() bool { return y.messages[data] == 1 }))
			}
			y.mu.Lock()
			defer y.mu.Unlock()
			if n := len(y.messages); n != len(want) {
				t.Errorf("%d messages forwarded, want %d", n, len(want))
			}
		})
	}
}
