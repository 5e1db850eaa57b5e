package pubsub

import (
	"bytes"
	"testing"
	"time"

	"github.com/muster-p2p/muster/pubsub/wire"
)

// One RPC per stream is for peers that show that they read no more.
func TestStreamHabit(t *testing.T) {
	type end struct {
		age    time.Duration
		closed bool // by us
	}
	early, late := end{age: time.Millisecond}, end{age: habitTime}
	for _, tt := range []struct {
		name         string
		inbound      []int // RPCs of the peer's streams that ended
		ends         []end
		single, last bool
	}{
		{name: "nothing known"},
		{name: "one may be an accident", ends: []end{early}},
		{name: "two are a habit", ends: []end{early, early}, single: true},
		{name: "one, of a peer that writes like that", inbound: []int{1}, ends: []end{early}, single: true},
		{name: "a peer that has written more", inbound: []int{1, 7}, ends: []end{early}},
		{name: "it read on", ends: []end{early, late, early, early}, last: true},
		{name: "it read on, whatever it writes", inbound: []int{1}, ends: []end{late, early}, last: true},
		{name: "we had closed it", ends: []end{{closed: true}, {closed: true}, {closed: true}}},
		{name: "we had closed the second", ends: []end{early, {closed: true}}, single: true},
		{name: "we had closed it, and it writes like that", inbound: []int{1}, ends: []end{{closed: true}}, single: true},
	} {
		var h streamHabit
		for _, n := range tt.inbound {
			h.inbound(n)
		}
		got := false
		for _, e := range tt.ends {
			got = h.ended(e.age, e.closed)
		}
		if got != tt.single || h.lasting != tt.last {
			t.Errorf("%s: single %v, lasting %v, want %v and %v", tt.name, got, h.lasting, tt.single, tt.last)
		}
	}
}

func TestUnprovenIsGivenBack(t *testing.T) {
	now := time.Unix(1000, 0)
	o := testOutbox(100, 1<<20)
	var u unproven
	var b batch
	o.announce("in", true)
	o.announce("left", true)
	o.push(now, testItem(1, 10), LaneRelay)
	o.push(now, testItem(2, 10), LanePublish)
	o.take(now, &b, false)
	u.add(&b)
	o.push(now, testItem(3, 10), LanePublish)
	o.reopened()
	o.giveBack(&u)
	o.announce("in", true)
	if n, size := o.queued(); n != 3 || size != 30 {
		t.Errorf("%d items of %d bytes wait, want 3 of 30", n, size)
	}
	b.reset()
	o.take(now, &b, false)
	if got := keysOf(&b); !bytes.Equal(got, []byte{2, 1, 3}) {
		t.Errorf("took %v, want 2, 1 and 3", got)
	}
	for _, s := range b.subs {
		if s.in != (s.topic == "in") {
			t.Errorf("said %+v", s)
		}
	}
	if len(b.subs) != 2 || len(u.items)+len(u.topics)+u.bytes != 0 {
		t.Errorf("subscriptions %v, left %+v", b.subs, u)
	}
}

func TestUnprovenIsBounded(t *testing.T) {
	for _, size := range []int{1, 1000, 2 * unprovenBytes} {
		var u unproven
		sum := 0
		for i := range 3 * unprovenItems {
			u.add(&batch{msgs: []item{testItem(i, size)}})
			if len(u.items) > unprovenItems || u.bytes > unprovenBytes {
				t.Fatalf("%d items of %d bytes are kept", len(u.items), u.bytes)
			}
			sum = len(u.items) * size
			if size > unprovenBytes {
				break
			}
		}
		if u.bytes != sum {
			t.Errorf("counted %d bytes of %d", u.bytes, sum)
		}
	}
}

// frames splits what was written into RPCs.
func frames(t *testing.T, b []byte) (out []wire.RPC, sizes []int) {
	t.Helper()
	limits := wire.Limits{}.WithDefaults()
	for len(b) > 0 {
		n, prefix, err := wire.FrameLen(b)
		if err != nil {
			t.Fatal(err)
		}
		var r wire.RPC
		if err := r.Decode(b[prefix:prefix+int(n)], &limits); err != nil {
			t.Fatal(err)
		}
		out, sizes = append(out, r), append(sizes, int(n))
		b = b[prefix+int(n):]
	}
	return out, sizes
}

type writes [][]byte

func (w *writes) Write(b []byte) (int, error) {
	*w = append(*w, bytes.Clone(b))
	return len(b), nil
}

// Each call of Write has one RPC, of a size that such peers take.
func TestBatchOfSingleRPCs(t *testing.T) {
	var out writes
	w := &batchWriter{w: &out, progress: func() {}, limit: singleRPCBytes, each: true}
	o := testOutbox(1000, 1<<20)
	var b batch
	for i := range 50 {
		topic := string(bytes.Repeat([]byte{'a' + byte(i%26)}, 100+i))
		b.subs = append(b.subs, subChange{topic, i%2 == 0})
		b.prunes = append(b.prunes, wire.OutPrune{Topic: topic})
		b.grafts = append(b.grafts, topic)
	}
	raw := (&wire.Fields{Data: make([]byte, 600), Topic: "t"}).AppendMessage(nil)
	long := (&wire.Fields{Data: make([]byte, singleRPCBytes), Topic: "t"}).AppendMessage(nil)
	for range 10 {
		for _, m := range [][]byte{raw, long} {
			b.msgs = append(b.msgs, item{msg: &Message{enc: encoded{head: wire.AppendPublishRaw(nil, m)}}})
		}
	}
	o.dropLong(&b)
	if o.dropped[dropTooLong] != 10 {
		t.Errorf("dropped %v, want 10 that are too long", o.dropped)
	}
	if err := w.write(&b); err != nil {
		t.Fatal(err)
	}
	subs, prunes, grafts, msgs := 0, 0, 0, 0
	for _, call := range out {
		rpcs, sizes := frames(t, call)
		if len(rpcs) != 1 || sizes[0] > singleRPCBytes {
			t.Fatalf("a call with RPCs of %v bytes", sizes)
		}
		subs += len(rpcs[0].Subscriptions)
		prunes += len(rpcs[0].Prune)
		grafts += len(rpcs[0].Graft)
		msgs += len(rpcs[0].Publish)
	}
	if subs != 50 || prunes != 50 || grafts != 50 || msgs != 10 {
		t.Errorf("%d subscriptions, %d PRUNEs, %d GRAFTs and %d messages, want 50, 50, 50 and 10", subs, prunes, grafts, msgs)
	}
}

// PRUNE goes before the end of a subscription, in RPCs of its own.
func TestPruneGoesBeforeUnsubscribe(t *testing.T) {
	for _, tt := range []struct {
		name string
		subs []subChange
		rpcs int
	}{
		{"leaving", []subChange{{"x", false}}, 2},
		{"joining another", []subChange{{"y", true}}, 1},
		{"nothing else", nil, 1},
	} {
		var out bytes.Buffer
		w := &batchWriter{w: &out, progress: func() {}}
		b := batch{subs: tt.subs, prunes: []wire.OutPrune{{Topic: "x", Backoff: 10}}, grafts: []string{"z"}}
		if err := w.write(&b); err != nil {
			t.Fatal(err)
		}
		rpcs, _ := frames(t, out.Bytes())
		if len(rpcs) != tt.rpcs || w.rpcs != tt.rpcs {
			t.Errorf("%s: %d RPCs, %d counted, want %d", tt.name, len(rpcs), w.rpcs, tt.rpcs)
			continue
		}
		first, last := &rpcs[0], &rpcs[len(rpcs)-1]
		if len(first.Prune) != 1 || first.Prune[0].Backoff != 10 {
			t.Errorf("%s: the first RPC is %+v", tt.name, first)
		}
		if tt.rpcs == 2 && (len(first.Subscriptions) > 0 || len(last.Prune) > 0) || len(last.Subscriptions) != len(tt.subs) || len(last.Graft) != 1 {
			t.Errorf("%s: the last RPC is %+v", tt.name, last)
		}
	}
}
