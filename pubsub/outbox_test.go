package pubsub

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-p2p/muster/pubsub/wire"
)

func testOutbox(items, bytes int) *outbox {
	l := laneLimits{items: items, bytes: bytes, age: time.Second}
	relay := l
	relay.evict = true
	return newOutbox([lanes]laneLimits{LanePublish: l, LaneRelay: relay, LaneGossip: relay, LaneBulk: l})
}

func testItem(n, size int) item {
	topic := "t"
	m := &Message{enc: encoded{head: make([]byte, size)}}
	m.value.Topic = &topic
	m.Message = &m.value
	return item{msg: m, key: seenKey{byte(n)}, size: size}
}

func keysOf(b *batch) []byte {
	var ks []byte
	for _, it := range b.msgs {
		ks = append(ks, it.key[0])
	}
	return ks
}

func TestOutboxLanes(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, tt := range []struct {
		name    string
		items   int
		bytes   int
		push    func(o *outbox) bool
		want    []byte
		refused bool
		dropped [dropReasons]uint64
	}{
		{name: "own before relayed", items: 9, bytes: 9000, want: []byte{2, 1}, push: func(o *outbox) bool {
			return o.push(now, testItem(1, 10), LaneRelay) && o.push(now, testItem(2, 10), LanePublish)
		}},
		{name: "own refused when full", items: 1, bytes: 9000, want: []byte{1}, refused: true, dropped: [dropReasons]uint64{dropFull: 1}, push: func(o *outbox) bool {
			return o.push(now, testItem(1, 10), LanePublish) && o.push(now, testItem(2, 10), LanePublish)
		}},
		{name: "oldest relayed goes when full", items: 2, bytes: 9000, want: []byte{2, 3}, dropped: [dropReasons]uint64{dropFull: 1}, push: func(o *outbox) bool {
			return o.push(now, testItem(1, 10), LaneRelay) && o.push(now, testItem(2, 10), LaneRelay) && o.push(now, testItem(3, 10), LaneRelay)
		}},
		{name: "bounded in bytes", items: 9, bytes: 25, want: []byte{2, 3}, dropped: [dropReasons]uint64{dropFull: 1}, push: func(o *outbox) bool {
			return o.push(now, testItem(1, 10), LaneRelay) && o.push(now, testItem(2, 10), LaneRelay) && o.push(now, testItem(3, 10), LaneRelay)
		}},
		{name: "one may be larger than the bound", items: 9, bytes: 25, want: []byte{1}, push: func(o *outbox) bool {
			return o.push(now, testItem(1, 100), LanePublish)
		}},
		{name: "old ones are dropped", items: 9, bytes: 9000, want: []byte{2}, dropped: [dropReasons]uint64{dropExpired: 1}, push: func(o *outbox) bool {
			return o.push(now.Add(-2*time.Second), testItem(1, 10), LaneRelay) && o.push(now, testItem(2, 10), LaneRelay)
		}},
		{name: "copies are cancelled", items: 9, bytes: 9000, want: []byte{2}, dropped: [dropReasons]uint64{dropUnwanted: 1}, push: func(o *outbox) bool {
			ok := o.push(now, testItem(1, 10), LaneRelay) && o.push(now, testItem(2, 10), LaneRelay)
			o.unwanted.add(seenKey{1})
			return ok
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := testOutbox(tt.items, tt.bytes)
			if ok := tt.push(o); ok == tt.refused {
				t.Errorf("pushed: %v", ok)
			}
			var b batch
			o.take(now, &b, false)
			if got := keysOf(&b); !bytes.Equal(got, tt.want) {
				t.Errorf("took %v, want %v", got, tt.want)
			}
			if o.dropped != tt.dropped {
				t.Errorf("dropped %v, want %v", o.dropped, tt.dropped)
			}
			if n, size := o.queued(); n != 0 || size != 0 {
				t.Errorf("%d items of %d bytes left", n, size)
			}
		})
	}
}

// Of the bulk lane one message is taken at a time, and only in turn.
func TestOutboxBulk(t *testing.T) {
	now := time.Unix(1000, 0)
	o := testOutbox(10, 1<<20)
	for i := range 3 {
		o.push(now, testItem(i, 10000), LaneBulk)
	}
	var b batch
	o.take(now, &b, false)
	if !b.empty() || !o.onlyBulk() {
		t.Error("took a bulk message out of turn")
	}
	o.take(now, &b, true)
	if len(b.msgs) != 1 || !b.bulk {
		t.Errorf("took %d messages, want 1", len(b.msgs))
	}
}

// Of subscriptions, GRAFT and PRUNE the last word on a topic is sent.
func TestOutboxState(t *testing.T) {
	o := testOutbox(10, 1000)
	o.announce("a", true)
	o.announce("b", true)
	o.announce("a", false)
	o.graft("a")
	o.prune(wire.OutPrune{Topic: "a"})
	o.prune(wire.OutPrune{Topic: "b"})
	o.graft("b")
	var b batch
	o.take(time.Time{}, &b, false)
	if want := []subChange{{"a", false}, {"b", true}}; !slices.Equal(b.subs, want) {
		t.Errorf("subscriptions %v, want %v", b.subs, want)
	}
	if !slices.Equal(b.grafts, []string{"b"}) || len(b.prunes) != 1 || b.prunes[0].Topic != "a" {
		t.Errorf("GRAFT %v, PRUNE %v, want b and a", b.grafts, b.prunes)
	}
	o.announce("a", true)
	o.graft("a")
	o.prune(wire.OutPrune{Topic: "c"})
	o.reopened()
	b.reset()
	o.take(time.Time{}, &b, false)
	if len(b.subs)+len(b.grafts) != 0 || len(b.prunes) != 1 {
		t.Errorf("after the stream opened anew: %+v, want the PRUNE only", b)
	}
}

func TestUnwantedIsBoundedAndForgotten(t *testing.T) {
	var u unwantedSet
	n := 0
	for i := range 3 * maxUnwanted {
		if u.add(seenKey{byte(i), byte(i >> 8), byte(i >> 16)}) {
			n++
		}
	}
	if n != maxUnwanted {
		t.Errorf("%d remembered, want %d", n, maxUnwanted)
	}
	for i := range 6 {
		if want := i < 5; u.has(seenKey{1}) != want && i != 5 {
			t.Errorf("after %d beats: known %v, want %v", i, !want, want)
		}
		u.beat(3)
	}
	if u.has(seenKey{1}) {
		t.Error("still known after two times three beats")
	}
}

// What is written keeps within what every implementation accepts.
func TestBatchLimits(t *testing.T) {
	var out bytes.Buffer
	w := &batchWriter{w: &out, progress: func() {}}
	var b batch
	for i := range 250 {
		b.subs = append(b.subs, subChange{fmt.Sprintf("%s-%d", strings.Repeat("s", 200), i), true})
		b.grafts = append(b.grafts, fmt.Sprintf("%s-%d", strings.Repeat("g", 200), i))
		b.idontwant = append(b.idontwant, fmt.Sprint("unwanted ", i))
		b.iwant = append(b.iwant, fmt.Sprint("wanted ", i))
		b.prunes = append(b.prunes, wire.OutPrune{Topic: fmt.Sprint("p", i), Peers: []wire.PeerInfo{{ID: make([]byte, 40), Record: make([]byte, 300)}}})
	}
	ids := make([]string, 2000)
	for i := range ids {
		ids[i] = fmt.Sprintf("%046d", i)
	}
	b.ihave = []wire.OutIHave{{Topic: "x", IDs: ids}, {Topic: "y", IDs: ids[:5]}}
	raw := (&wire.Fields{Data: make([]byte, 300), Topic: "t"}).AppendMessage(nil)
	for range 300 {
		b.msgs = append(b.msgs, item{msg: &Message{enc: encoded{head: wire.AppendPublishRaw(nil, raw)}}})
	}
	big := wire.Fields{Data: bytes.Repeat([]byte("x"), 200<<10), Topic: "t"}
	b.msgs = append(b.msgs, item{msg: &Message{enc: encoded{head: big.AppendHead(nil), data: big.Data, tail: big.AppendTail(nil)}}})
	if err := w.write(&b); err != nil {
		t.Fatal(err)
	}
	if w.bytes != out.Len() {
		t.Errorf("counted %d bytes of %d", w.bytes, out.Len())
	}
	limits := wire.Limits{}.WithDefaults()
	var got struct{ subs, grafts, prunes, idontwant, iwant, ihave, msgs, rpcs int }
	for rest := out.Bytes(); len(rest) > 0; {
		n, prefix, err := wire.FrameLen(rest)
		if err != nil {
			t.Fatal(err)
		}
		b := rest[prefix : prefix+int(n)]
		rest = rest[prefix+int(n):]
		var r wire.RPC
		if err := r.Decode(b, &limits); err != nil {
			t.Fatal(err)
		}
		got.rpcs++
		if len(r.Publish) == 0 && len(b) > 16<<10 || len(r.Publish) > 1 && len(b) > 64<<10 {
			t.Errorf("an RPC of %d bytes with %d messages", len(b), len(r.Publish))
		}
		if len(r.Subscriptions) > 100 || len(r.Publish) > 100 {
			t.Errorf("an RPC with %d subscriptions and %d messages", len(r.Subscriptions), len(r.Publish))
		}
		got.subs += len(r.Subscriptions)
		got.grafts += len(r.Graft)
		got.prunes += len(r.Prune)
		got.msgs += len(r.Publish)
		for _, l := range r.IDontWant {
			if len(l.IDs) > 10 {
				t.Errorf("an IDONTWANT of %d ids", len(l.IDs))
			}
			got.idontwant += len(l.IDs)
		}
		for _, l := range r.IWant {
			got.iwant += len(l.IDs)
		}
		for _, h := range r.IHave {
			got.ihave += len(h.IDs)
		}
	}
	want := got
	want.subs, want.grafts, want.prunes, want.idontwant, want.iwant, want.ihave, want.msgs = 250, 250, 250, 250, 250, 2005, 301
	if got != want {
		t.Errorf("arrived %+v, want %+v", got, want)
	}
}

// IDONTWANT stops where it prevents nothing, and starts again where it does.
func TestIDontWantTuner(t *testing.T) {
	const base = 1024
	for _, tt := range []struct {
		name                string
		dupSent, dupControl int // per cent of messages that come all the same
		start, want         int
	}{
		{"prevents nothing", 60, 60, 0, idwMaxDouble},
		{"prevents all", 0, 80, 0, 0},
		{"prevents all again", 0, 80, 3, 0},
		{"prevents all, at the lowest threshold", 0, 100, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tu := idontwantTuner{doubled: tt.start}
			rng := rand.New(rand.NewPCG(1, 2))
			for i := range 20000 {
				k := seenKey{14: byte(i)}
				size := tu.threshold(base)
				sent := tu.send(k, size, base)
				if sent == tu.control(k) && size < idwAlways {
					t.Fatalf("message %d: sent %v", i, sent)
				}
				share := tt.dupControl
				if sent {
					share = tt.dupSent
				}
				if rng.IntN(100) < share {
					tu.duplicate(k, size, base)
				}
			}
			if tu.doubled != tt.want {
				t.Errorf("doubled %d times, want %d", tu.doubled, tt.want)
			}
			if !tu.send(seenKey{}, idwAlways, base) {
				t.Error("not sent for a large message")
			}
		})
	}
}
