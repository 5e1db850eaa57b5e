package pubsub

import "time"

// Floodsub does not say how many RPCs a stream carries. go, js and py keep one
// stream for all of them. rust-libp2p reads one RPC of each stream, drops the
// stream, and opens another for each RPC of its own: what is written after the
// first RPC is lost. Which kind a peer is shows only by what it does.
//
// https://github.com/libp2p/specs/blob/master/pubsub/README.md
const (
	// singleRPCBytes is the most bytes of an RPC on a stream of its own, and
	// of one to a floodsub peer that may want that: rust-libp2p closes the
	// connection over larger ones.
	singleRPCBytes = 2048
	// singleStreams is how many streams of one RPC each are open to a peer at
	// a time. Peers bound those that they have not accepted yet; rust-libp2p
	// does at 128.
	singleStreams = 16
	// habitTime is how long a stream lasts that its peer reads on: several
	// round trips of any path.
	habitTime = 5 * time.Second
	// habitEnds is how many streams in a row a peer must end before habitTime
	// to be one that reads a single RPC, unless it writes such streams itself.
	habitEnds = 2
	// unprovenItems and unprovenBytes bound what is kept to be sent again to a
	// peer of which the habit does not show yet.
	unprovenItems = 4096
	unprovenBytes = 1 << 20
)

// A streamHabit learns how many RPCs a floodsub peer reads of a stream. The
// zero value knows nothing yet. It has one owner.
type streamHabit struct {
	lasting bool // it reads on
	single  bool // it reads one
	writes  bool // it writes streams of one RPC
	ends    int  // streams of ours that it ended early, in a row
}

// inbound notes that a stream of the peer came to its end after some RPCs.
func (h *streamHabit) inbound(rpcs int) { h.writes = rpcs == 1 }

// lasted notes that a stream of ours has lasted for age, and reports whether
// that shows that the peer reads on.
func (h *streamHabit) lasted(age time.Duration) bool {
	if age >= habitTime && !h.single {
		h.lasting, h.ends = true, 0
	}
	return h.lasting
}

// ended notes that the peer ended a stream of ours at some age, and reports
// whether it gets a stream for each RPC from here on. A stream that we had
// closed (closed) is ended by every peer, and shows only what one before let suspect.
func (h *streamHabit) ended(age time.Duration, closed bool) bool {
	if h.single || h.lasted(age) {
		return h.single
	}
	if !closed || h.ends > 0 {
		h.ends++
	}
	h.single = h.writes || h.ends >= habitEnds
	return h.single
}

// unproven is what was written to a peer that may have read only the first
// RPC of it. The zero value is empty.
type unproven struct {
	topics map[string]struct{} // that were announced, or their end
	items  []item
	bytes  int
}

// add notes a batch that is about to be written. Beyond the bounds the oldest
// messages go.
func (u *unproven) add(b *batch) {
	for _, s := range b.subs {
		if u.topics == nil {
			u.topics = make(map[string]struct{})
		}
		u.topics[s.topic] = struct{}{}
	}
	for _, it := range b.msgs {
		u.items = append(u.items, it)
		u.bytes += it.size
	}
	n := 0
	for n < len(u.items) && (len(u.items)-n > unprovenItems || u.bytes > unprovenBytes) {
		u.bytes -= u.items[n].size
		n++
	}
	if n > 0 {
		left := copy(u.items, u.items[n:])
		clear(u.items[left:])
		u.items = u.items[:left]
	}
}

// giveBack puts what may not have been read before all that waits, and
// empties u. Topics are announced as left: those that we are in are to be
// announced after this.
func (o *outbox) giveBack(u *unproven) {
	for topic := range u.topics {
		o.announce(topic, false)
	}
	o.lanes[LanePublish].unpop(u.items)
	*u = unproven{}
}

// unpop puts items before the others.
func (l *lane) unpop(items []item) {
	if len(items) == 0 {
		return
	}
	l.items, l.head = append(items, l.items[l.head:]...), 0
	for _, it := range items {
		l.bytes += it.size
	}
}

// dropLong drops the messages of a batch that the peer could not read.
func (o *outbox) dropLong(b *batch) {
	kept := b.msgs[:0]
	for _, it := range b.msgs {
		if it.msg.enc.size() > singleRPCBytes {
			o.drop(it, dropTooLong)
			continue
		}
		kept = append(kept, it)
	}
	clear(b.msgs[len(kept):])
	b.msgs = kept
}
