package pubsub_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/muster-p2p/muster/pubsub"
	"github.com/muster-p2p/muster/pubsub/wire"
)

// A stranger is a peer that says what a test wants, however rude, and counts
// what it is told.
type stranger struct {
	t testing.TB
	h host.Host
	s network.Stream // to the target

	mu       sync.Mutex
	messages map[string]int // by payload
	iwant    []string
	iwants   int // IWANT entries
	ihave    []string
	unwanted []string // of IDONTWANT
	grafts   int
	prunes   []uint64        // their back-offs
	named    int             // peers named by PRUNEs
	topics   map[string]bool // what the target said last of each
}

// newStranger connects to target and opens a stream of the protocol.
func newStranger(t testing.TB, target host.Host, proto protocol.ID) *stranger {
	t.Helper()
	x := &stranger{t: t, h: newHost(t), messages: map[string]int{}, topics: map[string]bool{}}
	x.h.SetStreamHandler(proto, x.listen)
	connect(t, x.h, target)
	x.open(target, proto)
	return x
}

func (x *stranger) open(target host.Host, proto protocol.ID) {
	x.t.Helper()
	s, err := x.h.NewStream(x.t.Context(), target.ID(), proto)
	if err != nil {
		x.t.Fatal(err)
	}
	x.s = s
}

func (x *stranger) listen(s network.Stream) { each(s, x.note) }

// each calls f with every RPC of a stream. The RPC is f's while it runs.
func each(s network.Stream, f func(*wire.RPC)) {
	br := bufio.NewReader(s)
	lim := wire.Limits{RPC: 8 << 20}.WithDefaults()
	var rpc wire.RPC
	for {
		n, err := binary.ReadUvarint(br)
		if err != nil {
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(br, b); err != nil || rpc.Decode(b, &lim) != nil {
			return
		}
		f(&rpc)
	}
}

func (x *stranger) note(rpc *wire.RPC) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range rpc.Publish {
		x.messages[string(rpc.Publish[i].Data)]++
	}
	for _, w := range rpc.IWant {
		x.iwants++
		for _, id := range w.IDs {
			x.iwant = append(x.iwant, string(id))
		}
	}
	for _, s := range rpc.Subscriptions {
		x.topics[string(s.Topic)] = s.Subscribe
	}
	for _, h := range rpc.IHave {
		for _, id := range h.IDs {
			x.ihave = append(x.ihave, string(id))
		}
	}
	for _, w := range rpc.IDontWant {
		for _, id := range w.IDs {
			x.unwanted = append(x.unwanted, string(id))
		}
	}
	x.grafts += len(rpc.Graft)
	for i := range rpc.Prune {
		x.prunes = append(x.prunes, rpc.Prune[i].Backoff)
		x.named += len(rpc.Prune[i].Peers)
	}
}

// look returns what cond says of what was heard so far.
func (x *stranger) look(cond func() bool) func() bool {
	return func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return cond()
	}
}

// say sends an RPC. An error is the test's business only if it looks.
func (x *stranger) say(rpc ...[]byte) error {
	var b []byte
	for _, part := range rpc {
		b = append(b, part...)
	}
	_, err := x.s.Write(wire.AppendFrame(nil, b))
	return err
}

func (x *stranger) subscribe(topics ...string) {
	x.t.Helper()
	var b []byte
	for _, topic := range topics {
		b = wire.AppendSubscription(b, topic, true)
	}
	if err := x.say(b); err != nil {
		x.t.Fatal(err)
	}
}

// seqno makes the sequence number n.
func seqno(n int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// sign makes a message by the stranger, properly signed.
func (x *stranger) sign(topic, data string, n int) wire.Fields {
	x.t.Helper()
	return signAs(x.t, x.h.Peerstore().PrivKey(x.h.ID()), topic, data, n)
}

func signAs(t testing.TB, key crypto.PrivKey, topic, data string, n int) wire.Fields {
	t.Helper()
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f := wire.Fields{From: []byte(id), Data: []byte(data), Seqno: seqno(n), Topic: topic}
	if f.Signature, err = key.Sign(f.AppendSigned(nil)); err != nil {
		t.Fatal(err)
	}
	return f
}

func publishing(f wire.Fields) []byte { return wire.AppendPublishRaw(nil, f.AppendMessage(nil)) }

func control(c wire.Control) []byte { return c.AppendControl(nil) }

// slowBeat are parameters whose heartbeat does not come while a test runs:
// what is bounded per heartbeat is bounded at once.
func slowBeat() pubsub.GossipSubParams {
	p := pubsub.DefaultGossipSubParams()
	p.HeartbeatInitialDelay, p.HeartbeatInterval = 1<<40, 1<<40
	return p
}
