package pubsub

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Bounds of what is remembered about deliveries.
const (
	// defaultSeenMsgTTL is the time that go, nim and js remember an id.
	defaultSeenMsgTTL = 120 * time.Second
	// maxDeliveries bounds the messages; the oldest are forgotten first, and
	// with them only near-first deliveries that come very late.
	maxDeliveries = 1 << 16
	// maxDeliverers bounds the peers remembered per message.
	maxDeliverers = 128
)

// deliveries remembers who delivered which message, for a time.
type deliveries struct {
	ttl     time.Duration
	records map[string]*delivery
	queue   []*delivery // oldest first, from head on
	head    int
}

type delivery struct {
	id    string
	state deliveryState
	since time.Time // first seen
	valid time.Time // accepted
	peers []peer.ID // who delivered it; the first of them first
}

type deliveryState uint8

const (
	deliveryValidating deliveryState = iota
	deliveryValid
	deliveryInvalid
	deliveryIgnored
)

func (d *deliveries) init(ttl time.Duration) {
	if ttl == 0 {
		ttl = defaultSeenMsgTTL
	}
	*d = deliveries{ttl: ttl, records: map[string]*delivery{}}
}

func (d *deliveries) get(now time.Time, id string) *delivery {
	if rec := d.records[id]; rec != nil {
		return rec
	}
	if len(d.records) >= maxDeliveries {
		d.drop()
	}
	rec := &delivery{id: id, since: now}
	d.records[id] = rec
	d.queue = append(d.queue, rec)
	return rec
}

func (d *deliveries) expire(now time.Time) {
	for d.head < len(d.queue) && now.Sub(d.queue[d.head].since) > d.ttl {
		d.drop()
	}
}

// drop forgets the oldest message.
func (d *deliveries) drop() {
	delete(d.records, d.queue[d.head].id)
	d.queue[d.head] = nil
	if d.head++; d.head*2 >= len(d.queue) && d.head > 1024 || d.head == len(d.queue) {
		d.queue = slices.Clone(d.queue[d.head:])
		d.head = 0
	}
}

// by notes that p delivered the message and reports whether it is p's first
// copy of it.
func (r *delivery) by(p peer.ID) bool {
	if slices.Contains(r.peers, p) || len(r.peers) >= maxDeliverers {
		return false
	}
	r.peers = append(r.peers, p)
	return true
}

// validating notes that a message has begun to be validated.
func (s *scorer) validating(now time.Time, id string) { s.deliveries.get(now, id) }

// deliver notes that a message of topic from a peer was accepted. The peer gets
// the credit of the first delivery, those that sent copies meanwhile that of a
// near-first one.
func (s *scorer) deliver(now time.Time, id string, from peer.ID, topic string) {
	rec := s.deliveries.get(now, id)
	if rec.state != deliveryValidating {
		return
	}
	rec.state, rec.valid = deliveryValid, now
	s.markFirst(from, topic)
	for _, p := range rec.peers {
		if p != from {
			s.markMesh(p, topic)
		}
	}
	rec.by(from)
}

// reject notes that a validator refused a message: whoever sent it answers for
// it (P4), but nobody who is only suspected.
func (s *scorer) reject(now time.Time, id string, from peer.ID, topic string) {
	rec := s.deliveries.get(now, id)
	if rec.state != deliveryValidating {
		return
	}
	rec.state = deliveryInvalid
	s.invalid(from, topic)
	for _, p := range rec.peers {
		if p != from {
			s.invalid(p, topic)
		}
	}
	rec.by(from)
}

// ignore notes that a message was neither accepted nor refused: nobody is
// scored for it, now or later.
func (s *scorer) ignore(now time.Time, id string) {
	if rec := s.deliveries.get(now, id); rec.state == deliveryValidating {
		rec.state = deliveryIgnored
		rec.peers = nil
	}
}

// duplicate notes another copy of a message that has been seen.
func (s *scorer) duplicate(now time.Time, id string, from peer.ID, topic string) {
	rec := s.deliveries.records[id]
	if rec == nil || rec.state == deliveryIgnored || !rec.by(from) {
		return
	}
	switch rec.state {
	case deliveryValid:
		if tp := s.params.Topics[topic]; tp != nil && now.Sub(rec.valid) <= tp.MeshMessageDeliveriesWindow {
			s.markMesh(from, topic)
		}
	case deliveryInvalid:
		s.invalid(from, topic)
	case deliveryValidating, deliveryIgnored: // settled when validation ends
	}
}

// markFirst counts a first delivery: for P2, and in the mesh for P3.
func (s *scorer) markFirst(p peer.ID, topic string) {
	if ts := s.stats(p, topic); ts != nil {
		ts.first = min(ts.first+1, s.params.Topics[topic].FirstMessageDeliveriesCap)
		s.markMesh(p, topic)
	}
}

// markMesh counts a first or near-first delivery by a peer in the mesh: P3.
func (s *scorer) markMesh(p peer.ID, topic string) {
	if ts := s.stats(p, topic); ts != nil && ts.inMesh {
		ts.mesh = min(ts.mesh+1, s.params.Topics[topic].MeshMessageDeliveriesCap)
	}
}
