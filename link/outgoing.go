package link

import (
	"errors"
	"fmt"

	"github.com/muster-p2p/muster/link/wire"
)

const (
	// chunkSize is what the buffers of a link are made of: four records of TLS.
	chunkSize = 4 * wire.MaxFrame

	// maxChunks bounds the replay buffer of a direction to 1 MiB: on a path of
	// 100 ms that is 10 MB/s, and it is what a link may cost at worst.
	maxChunks = 16
)

// errPeer is what a peer that breaks the protocol makes of a link.
var errPeer = errors.New("link: peer breaks the protocol")

// A chunk holds encoded frames, one behind the other.
type chunk struct {
	buf  []byte
	refs int  // batches that are being written
	gone bool // acknowledged; to be freed with the last reference
}

// A batch is a part of a chunk that a path is to write: whole frames.
type batch struct {
	frames []byte
	chunk  *chunk
	end    uint64 // the offset behind the last of them
}

// outgoing is the direction that this side writes: what was not acknowledged
// yet, encoded as frames, so that it can be sent again on another path.
type outgoing struct {
	alloc func() []byte // a buffer of chunkSize capacity
	free  func([]byte)

	chunks []*chunk // the oldest first
	head   int      // where in the first chunk the first frame begins that is not acknowledged
	at     int      // the chunk of the next frame to send
	pos    int      // and where in it
	open   int      // where in the last chunk a frame begins that may still grow; -1: nowhere

	end      uint64 // offset behind what was written
	acked    uint64
	sent     uint64 // offset behind what was ever sent
	limit    uint64 // the peer's
	finished bool
}

func newOutgoing(alloc func() []byte, free func([]byte)) outgoing {
	return outgoing{alloc: alloc, free: free, open: -1, limit: wire.FirstLimit}
}

// write takes as much of p as there is room for, and returns how much that is.
func (o *outgoing) write(p []byte) (n int) {
	for len(p) > 0 {
		c, room := o.frame(len(p))
		if room == 0 {
			return n
		}
		m := min(room, len(p))
		c.buf = append(c.buf, p[:m]...)
		size := len(c.buf) - o.open - wire.DataHeaderLen
		o.end += uint64(m)
		wire.PutDataHeader(c.buf[o.open:], o.end-uint64(size), size)
		p, n = p[m:], n+m
	}
	return n
}

// frame returns the last chunk with a frame that can grow by up to room bytes,
// after it has begun a new one if need be. Room is zero if the buffer is full.
func (o *outgoing) frame(want int) (c *chunk, room int) {
	// A frame for a handful of bytes at the end of a chunk is not worth it.
	const least = 64
	if len(o.chunks) > 0 {
		c = o.chunks[len(o.chunks)-1]
		left := cap(c.buf) - len(c.buf)
		if o.open >= 0 {
			if room = min(left, wire.MaxFrame-(len(c.buf)-o.open)); room > 0 {
				return c, room
			}
		}
		if left >= wire.DataHeaderLen+min(want, least) {
			return c, o.begin(c)
		}
	}
	if len(o.chunks) == maxChunks {
		return nil, 0
	}
	c = &chunk{buf: o.alloc()}
	o.chunks = append(o.chunks, c)
	return c, o.begin(c)
}

// begin begins a frame in c and returns the room in it.
func (o *outgoing) begin(c *chunk) int {
	o.open = len(c.buf)
	c.buf = c.buf[:o.open+wire.DataHeaderLen]
	return min(cap(c.buf)-len(c.buf), wire.MaxData)
}

// finish ends the direction: FIN goes out behind what was written.
func (o *outgoing) finish() {
	if o.finished {
		return
	}
	o.finished = true
	// A chunk of its own, as the last one may be full.
	o.chunks = append(o.chunks, &chunk{buf: wire.AppendFin(nil, o.end)})
	o.open = -1
	o.end++
}

// full reports whether write would take nothing.
func (o *outgoing) full() bool {
	if len(o.chunks) < maxChunks {
		return false
	}
	c := o.chunks[len(o.chunks)-1]
	left := cap(c.buf) - len(c.buf)
	return left == 0 || o.open < 0 && left < wire.DataHeaderLen+1 || o.open >= 0 && len(c.buf)-o.open == wire.MaxFrame && left < wire.DataHeaderLen+1
}

// take returns the next frames to send, and false if there are none, or none
// that the peer is ready for. The caller must release the batch.
func (o *outgoing) take() (batch, bool) {
	for o.at < len(o.chunks) && o.pos == len(o.chunks[o.at].buf) && o.at+1 < len(o.chunks) {
		o.at, o.pos = o.at+1, 0
	}
	if o.at == len(o.chunks) {
		return batch{}, false
	}
	c := o.chunks[o.at]
	b := batch{chunk: c}
	start := o.pos
	for o.pos < len(c.buf) {
		end, size := frameAt(c.buf[o.pos:])
		if end > o.limit && size > finLen { // FIN needs no room
			break
		}
		o.pos += size
		b.end = end
	}
	if o.pos == start {
		return batch{}, false
	}
	if o.at == len(o.chunks)-1 && o.open >= 0 && o.open < o.pos {
		o.open = -1
	}
	b.frames = c.buf[start:o.pos:o.pos]
	c.refs++
	o.sent = max(o.sent, b.end)
	return b, true
}

// pending reports whether take would return something.
func (o *outgoing) pending() bool {
	at, pos := o.at, o.pos
	for at < len(o.chunks) && pos == len(o.chunks[at].buf) {
		at, pos = at+1, 0
	}
	if at >= len(o.chunks) {
		return false
	}
	end, size := frameAt(o.chunks[at].buf[pos:])
	return end <= o.limit || size == finLen
}

const finLen = wire.HeaderLen + wire.OffsetLen

// frameAt returns the offset behind the frame that b begins with, and its size.
func frameAt(b []byte) (end uint64, size int) {
	size = wire.HeaderLen + int(b[1])<<16 + int(b[2])<<8 + int(b[3])
	for _, v := range b[wire.HeaderLen : wire.HeaderLen+wire.OffsetLen] {
		end = end<<8 | uint64(v)
	}
	if wire.Type(b[0]) == wire.FIN {
		return end + 1, size
	}
	return end + uint64(size-wire.DataHeaderLen), size
}

// release gives back a batch that was written, or will not be.
func (o *outgoing) release(b batch) {
	if b.chunk.refs--; b.chunk.gone && b.chunk.refs == 0 {
		o.recycle(b.chunk)
	}
}

func (o *outgoing) recycle(c *chunk) {
	if cap(c.buf) == chunkSize {
		o.free(c.buf[:0])
	}
	c.buf = nil
}

// ack takes what the peer says. An old one changes nothing; one for what was
// never sent is an error.
func (o *outgoing) ack(a wire.Ack) error {
	if a.Next > o.sent {
		return fmt.Errorf("%w: it acknowledges byte %d of %d", errPeer, a.Next, o.sent)
	}
	o.limit = max(o.limit, a.Limit)
	if a.Next <= o.acked {
		return nil
	}
	o.acked = a.Next
	for len(o.chunks) > 0 {
		c := o.chunks[0]
		for o.head < len(c.buf) {
			end, size := frameAt(c.buf[o.head:])
			if end > a.Next {
				break
			}
			o.head += size
		}
		if o.head < len(c.buf) {
			break
		}
		o.drop()
	}
	if o.at == 0 {
		o.pos = max(o.pos, o.head)
	}
	return nil
}

// drop takes the first chunk out, all of which was acknowledged.
func (o *outgoing) drop() {
	c := o.chunks[0]
	if len(o.chunks) == 1 {
		o.open = -1
	}
	copy(o.chunks, o.chunks[1:])
	o.chunks[len(o.chunks)-1] = nil
	o.chunks = o.chunks[:len(o.chunks)-1]
	o.head = 0
	if o.at == 0 {
		o.pos = 0
	} else {
		o.at--
	}
	if c.gone = true; c.refs == 0 {
		o.recycle(c)
	}
}

// rewind makes take return again what was not acknowledged.
func (o *outgoing) rewind() { o.at, o.pos = 0, o.head }

// drained reports whether everything was acknowledged.
func (o *outgoing) drained() bool { return o.acked == o.end }

// arrived reports whether the peer has every byte, though it may not have the
// FIN behind them.
func (o *outgoing) arrived() bool {
	return o.drained() || o.finished && o.acked == o.end-1
}

// record returns how many bytes of frames, whole ones, fill one record.
func record(frames []byte) (n int) {
	for n < len(frames) {
		_, size := frameAt(frames[n:])
		if n > 0 && n+size > wire.MaxFrame {
			break
		}
		n += size
	}
	return n
}
