package pubsub

import (
	"slices"
	"time"

	"github.com/muster-p2p/muster/pubsub/wire"
)

// A Lane is a priority of what waits to be sent to a peer. Lanes are drained
// in this order; LaneBulk is paced over all peers of a host.
type Lane uint8

const (
	// LanePublish holds our own messages. When it is full, more are refused.
	LanePublish Lane = iota
	// LaneRelay holds messages of others. When it is full, the oldest go.
	LaneRelay
	// LaneGossip holds IHAVE, IWANT and answers to IWANT. When it is full, the oldest go.
	LaneGossip
	// LaneBulk holds messages of BulkSize and more. When it is full, more are refused.
	LaneBulk

	lanes
)

// String returns the lane's name.
func (l Lane) String() string {
	return [...]string{"publish", "relay", "gossip", "bulk", "unknown"}[min(l, lanes)]
}

// An item waits in a lane: a message, or a piece of gossip.
type item struct {
	msg     *Message
	key     seenKey // of msg
	ihave   *wire.OutIHave
	iwant   []string
	size    int
	expires time.Time
}

// laneLimits bound one lane.
type laneLimits struct {
	items, bytes int
	age          time.Duration
	evict        bool // make room by dropping the oldest
}

// A lane is a bounded queue. The zero value is empty.
type lane struct {
	items []item
	head  int
	bytes int
}

func (l *lane) len() int { return len(l.items) - l.head }

func (l *lane) push(it item) {
	if l.head > 0 && len(l.items) == cap(l.items) {
		n := copy(l.items, l.items[l.head:])
		clear(l.items[n:])
		l.items, l.head = l.items[:n], 0
	}
	l.items = append(l.items, it)
	l.bytes += it.size
}

func (l *lane) pop() item {
	it := l.items[l.head]
	l.items[l.head] = item{}
	l.head++
	l.bytes -= it.size
	if l.head == len(l.items) {
		l.items, l.head = l.items[:0], 0
		if cap(l.items) > laneKeepCap {
			l.items = nil
		}
	}
	return it
}

// laneKeepCap is the room for items that an empty lane keeps.
const laneKeepCap = 256

// Bounds of one write and of the RPCs in it.
const (
	// batchBytes is where a batch for one write is full. It is also the most
	// that a relayed small message waits behind.
	batchBytes = 64 << 10
	// rpcBytes is where an RPC of several messages ends: rust-libp2p refuses
	// an RPC over 64 KiB unless told otherwise.
	rpcBytes = 32 << 10
	// rpcMessages bounds the messages of one RPC: rust-libp2p refuses 500.
	rpcMessages = 100
	// rpcControlBytes bounds what an RPC says besides messages: rust-libp2p
	// closes the stream over 16 KiB of subscriptions and control.
	rpcControlBytes = 15 << 10
	// rpcSubscriptions bounds the subscriptions of one RPC: rust-libp2p
	// ignores all of more than 100.
	rpcSubscriptions = 100
	// rpcIDontWant bounds the ids of one IDONTWANT: go-libp2p ignores the rest.
	rpcIDontWant = 10
	// maxPendingIDontWant bounds the IDONTWANTs that wait for one peer: past
	// it the oldest are of no use to anyone.
	maxPendingIDontWant = 1000
)

// A batch is what is taken out of an outbox to be written in one go.
type batch struct {
	subs      []subChange
	grafts    []string
	prunes    []wire.OutPrune
	idontwant []string
	ihave     []wire.OutIHave
	iwant     []string
	msgs      []item
	bytes     int
	bulk      bool // one of msgs is from LaneBulk
}

func (b *batch) reset() {
	clear(b.msgs)
	*b = batch{
		subs: b.subs[:0], grafts: b.grafts[:0], prunes: b.prunes[:0], idontwant: b.idontwant[:0],
		ihave: b.ihave[:0], iwant: b.iwant[:0], msgs: b.msgs[:0],
	}
}

func (b *batch) empty() bool {
	return len(b.subs) == 0 && !b.hasControl() && len(b.msgs) == 0
}

// leaves reports whether the batch says that we left a topic.
func (b *batch) leaves() bool {
	return slices.ContainsFunc(b.subs, func(s subChange) bool { return !s.in })
}

func (b *batch) hasControl() bool {
	return len(b.grafts) > 0 || len(b.prunes) > 0 || len(b.idontwant) > 0 || len(b.ihave) > 0 || len(b.iwant) > 0
}

// A subChange is one announcement.
type subChange struct {
	topic string
	in    bool
}

// dropReason says why something in an outbox was not sent.
type dropReason uint8

const (
	dropFull dropReason = iota
	dropExpired
	dropUnwanted // the peer said IDONTWANT or has sent the message itself
	dropTooLong  // for a peer that reads one small RPC of each stream
	dropReasons
)

// An outbox is what waits to be sent to one peer. Subscriptions, GRAFT and
// PRUNE are state: only the last word on a topic waits. The rest waits in
// lanes, each bounded in bytes, items and age. An outbox has one owner.
type outbox struct {
	limits [lanes]laneLimits
	lanes  [lanes]lane

	subs      map[string]bool
	subOrder  []string // of subs; may name a topic twice
	grafts    map[string]struct{}
	prunes    map[string]wire.OutPrune
	idontwant []string

	unwanted unwantedSet
	dropped  [dropReasons]uint64
	onDrop   func(it item, why dropReason) // may be nil
}

func newOutbox(limits [lanes]laneLimits) *outbox {
	return &outbox{limits: limits}
}

func (o *outbox) drop(it item, why dropReason) {
	o.dropped[why]++
	if o.onDrop != nil {
		o.onDrop(it, why)
	}
}

// push puts it into a lane and reports whether there was room.
func (o *outbox) push(now time.Time, it item, ln Lane) bool {
	lim := &o.limits[ln]
	q := &o.lanes[ln]
	for q.len() > 0 && (q.len() >= lim.items || q.bytes+it.size > lim.bytes) {
		if !lim.evict {
			o.drop(it, dropFull)
			return false
		}
		o.drop(q.pop(), dropFull)
	}
	it.expires = now.Add(lim.age)
	q.push(it)
	return true
}

// room reports whether push would find room for size bytes without dropping.
func (o *outbox) room(size int, ln Lane) bool {
	lim, q := &o.limits[ln], &o.lanes[ln]
	return q.len() == 0 || q.len() < lim.items && q.bytes+size <= lim.bytes
}

// announce notes a subscription or its end.
func (o *outbox) announce(topic string, in bool) {
	if o.subs == nil {
		o.subs = make(map[string]bool)
	}
	if _, ok := o.subs[topic]; !ok {
		o.subOrder = append(o.subOrder, topic)
	}
	o.subs[topic] = in
}

// graft notes a GRAFT; it takes the place of a PRUNE that still waits.
func (o *outbox) graft(topic string) {
	if o.grafts == nil {
		o.grafts = make(map[string]struct{})
	}
	delete(o.prunes, topic)
	o.grafts[topic] = struct{}{}
}

// prune notes a PRUNE; it takes the place of a GRAFT that still waits.
func (o *outbox) prune(p wire.OutPrune) {
	if o.prunes == nil {
		o.prunes = make(map[string]wire.OutPrune)
	}
	delete(o.grafts, p.Topic)
	o.prunes[p.Topic] = p
}

// dontWant notes an IDONTWANT for the peer.
func (o *outbox) dontWant(id string) {
	if len(o.idontwant) < maxPendingIDontWant {
		o.idontwant = append(o.idontwant, id)
	}
}

// reopened forgets what the next stream's first RPC says anyway.
func (o *outbox) reopened() {
	clear(o.subs)
	clear(o.grafts)
	o.subOrder = o.subOrder[:0]
	o.idontwant = o.idontwant[:0]
}

// onlyBulk reports whether bulk messages wait, and nothing else does.
func (o *outbox) onlyBulk() bool {
	return o.lanes[LaneBulk].len() > 0 && o.lanes[LanePublish].len() == 0 && o.lanes[LaneRelay].len() == 0 &&
		o.lanes[LaneGossip].len() == 0 && !o.hasState()
}

func (o *outbox) hasState() bool {
	return len(o.subs) > 0 || len(o.grafts) > 0 || len(o.prunes) > 0 || len(o.idontwant) > 0
}

// queued returns how many messages and pieces of gossip wait.
func (o *outbox) queued() (n, bytes int) {
	for i := range o.lanes {
		n += o.lanes[i].len()
		bytes += o.lanes[i].bytes
	}
	return n, bytes
}

// take moves what goes into the next write to b. Of the bulk lane it takes
// one message, and that only if bulk is set.
func (o *outbox) take(now time.Time, b *batch, bulk bool) {
	o.takeState(b)
	for _, ln := range [...]Lane{LanePublish, LaneRelay, LaneGossip} {
		for b.bytes < batchBytes && o.lanes[ln].len() > 0 {
			o.takeItem(now, b, ln)
		}
	}
	for bulk && !b.bulk && o.lanes[LaneBulk].len() > 0 {
		b.bulk = o.takeItem(now, b, LaneBulk)
	}
}

func (o *outbox) takeState(b *batch) {
	for _, topic := range o.subOrder {
		if in, ok := o.subs[topic]; ok {
			b.subs = append(b.subs, subChange{topic, in})
			delete(o.subs, topic)
		}
	}
	o.subOrder = o.subOrder[:0]
	for topic := range o.grafts {
		b.grafts = append(b.grafts, topic)
	}
	clear(o.grafts)
	for _, p := range o.prunes {
		b.prunes = append(b.prunes, p)
	}
	clear(o.prunes)
	b.idontwant = append(b.idontwant, o.idontwant...)
	clear(o.idontwant)
	o.idontwant = o.idontwant[:0]
}

// takeItem reports whether the next item of a lane is still of use and went
// into the batch.
func (o *outbox) takeItem(now time.Time, b *batch, ln Lane) bool {
	it := o.lanes[ln].pop()
	switch {
	case now.After(it.expires):
		o.drop(it, dropExpired)
		return false
	case it.msg != nil && o.unwanted.has(it.key):
		o.drop(it, dropUnwanted)
		return false
	case it.msg != nil:
		b.msgs = append(b.msgs, it)
	case it.ihave != nil:
		b.ihave = append(b.ihave, *it.ihave)
	default:
		b.iwant = append(b.iwant, it.iwant...)
	}
	b.bytes += it.size
	return true
}

// An unwantedSet remembers what a peer does not want or has already, for a
// few heartbeats and at most maxUnwanted of each. The zero value is empty.
type unwantedSet struct {
	now, before map[seenKey]struct{}
	ticks       int
}

// maxUnwanted bounds one generation: 1,000 ids in each of three heartbeats.
// What a peer says beyond it is ignored, at the cost of a duplicate to itself.
const maxUnwanted = 3000

// add reports whether there was room.
func (u *unwantedSet) add(k seenKey) bool {
	if u.now == nil {
		u.now = make(map[seenKey]struct{})
	}
	if len(u.now) >= maxUnwanted {
		return false
	}
	u.now[k] = struct{}{}
	return true
}

func (u *unwantedSet) has(k seenKey) bool {
	if len(u.now) == 0 && len(u.before) == 0 {
		return false
	}
	if _, ok := u.now[k]; ok {
		return true
	}
	_, ok := u.before[k]
	return ok
}

// beat ages the set; what was added ttl beats ago and earlier is forgotten
// within another ttl.
func (u *unwantedSet) beat(ttl int) {
	u.ticks++
	if u.ticks < ttl {
		return
	}
	u.ticks = 0
	if len(u.now) == 0 && len(u.before) == 0 {
		return
	}
	u.now, u.before = u.before, u.now
	clear(u.now)
}
