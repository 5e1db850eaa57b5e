package link

import (
	"fmt"
	"slices"
	"time"

	"github.com/muster-p2p/muster/link/wire"
)

const (
	// window is how many bytes a peer may be ahead of the reader: what the
	// buffer of 1 MiB holds, less a page, of which the reader may have left a
	// part.
	window = (maxChunks - 1) * chunkSize

	// ackEvery is how much may come until it is acknowledged at once: often
	// enough to keep the peer's buffer moving, rarely enough to cost nothing.
	ackEvery = window / 4

	// ackDelay is how long the last bytes of a burst wait for their
	// acknowledgement. Nobody waits for it but the peer's replay buffer, and
	// the watch for dead paths.
	ackDelay = 20 * time.Millisecond

	// maxSpans bounds the holes in what was received. Each change of the
	// path makes one.
	maxSpans = 64
)

// A span is received bytes behind a hole.
type span struct{ from, to uint64 }

// incoming is the direction that the peer writes: a ring of pages, in which
// each byte has its place by its offset, so that it does not matter by which
// path it came, nor how often.
type incoming struct {
	alloc func() []byte
	free  func([]byte)

	pages   [maxChunks][]byte
	filling bool   // somebody writes to the room that reserve gave out
	read    uint64 // offset of the next byte for the reader
	next    uint64 // of the first that is missing; FIN counts
	spans   []span // what came beyond next, in order

	fin   uint64 // offset of the end
	ended bool   // it is known
	told  wire.Ack
	since time.Time // when the first byte came that is not acknowledged; zero: none
	soon  bool      // an acknowledgement is due at once
}

func newIncoming(alloc func() []byte, free func([]byte)) incoming {
	return incoming{alloc: alloc, free: free, told: wire.Ack{Limit: wire.FirstLimit}}
}

// data takes the bytes at an offset.
func (in *incoming) data(now time.Time, off uint64, p []byte) error {
	end := off + uint64(len(p))
	switch {
	case end > in.told.Limit:
		return fmt.Errorf("%w: byte %d is beyond the limit %d", errPeer, end, in.told.Limit)
	case in.ended && end > in.fin:
		return fmt.Errorf("%w: byte %d comes after the end at %d", errPeer, end, in.fin)
	}
	if end <= in.next {
		in.soon = true // the peer did not hear of it
		return nil
	}
	if off < in.next {
		p, off = p[in.next-off:], in.next
	}
	in.put(off, p)
	return in.received(now, span{off, end})
}

// reserve returns the places for n bytes at an offset, to be written without the
// owner's lock until fill is called. It returns none, if the bytes are not just
// those that come next: then they have to go through data. Until fill is
// called, nothing else may be called but what the reader needs.
func (in *incoming) reserve(off uint64, n int) (a, b []byte, ok bool) {
	end := off + uint64(n)
	if off != in.next || end > in.told.Limit || len(in.spans) > 0 || in.ended || in.filling || n > chunkSize {
		return nil, nil, false
	}
	i, at := off/chunkSize%maxChunks, int(off%chunkSize)
	m := min(n, chunkSize-at)
	a = in.page(i)[at : at+m]
	if m < n {
		b = in.page((i + 1) % maxChunks)[:n-m]
	}
	in.filling = true
	return a, b, true
}

// fill ends a reservation: n bytes were written, or none.
func (in *incoming) fill(now time.Time, n int) error {
	in.filling = false
	if n == 0 {
		return nil
	}
	return in.received(now, span{in.next, in.next + uint64(n)})
}

func (in *incoming) page(i uint64) []byte {
	if in.pages[i] == nil {
		in.pages[i] = in.alloc()[:chunkSize]
	}
	return in.pages[i]
}

// end takes FIN.
func (in *incoming) end(now time.Time, off uint64) error {
	if in.ended && in.fin != off || off < in.highest() {
		return fmt.Errorf("%w: its end moves to %d", errPeer, off)
	}
	in.fin, in.ended = off, true
	in.soon = true
	if off+1 <= in.next {
		return nil
	}
	return in.received(now, span{off, off + 1})
}

// highest returns the offset behind all bytes that were received.
func (in *incoming) highest() uint64 {
	high := in.next
	if n := len(in.spans); n > 0 {
		high = in.spans[n-1].to
	}
	if in.ended && high > in.fin {
		return in.fin
	}
	return high
}

// put copies p to its place.
func (in *incoming) put(off uint64, p []byte) {
	for len(p) > 0 {
		i, at := off/chunkSize%maxChunks, off%chunkSize
		n := copy(in.page(i)[at:], p)
		p, off = p[n:], off+uint64(n)
	}
}

// received notes that the bytes of s are here.
func (in *incoming) received(now time.Time, s span) error {
	if s.from > in.next {
		in.soon = true
		return in.hole(s)
	}
	in.next = max(in.next, s.to)
	for len(in.spans) > 0 && in.spans[0].from <= in.next {
		in.next = max(in.next, in.spans[0].to)
		in.spans = slices.Delete(in.spans, 0, 1)
	}
	if in.since.IsZero() {
		in.since = now
	}
	return nil
}

// hole adds s to the spans.
func (in *incoming) hole(s span) error {
	i := 0
	for i < len(in.spans) && in.spans[i].to < s.from {
		i++
	}
	j := i
	for j < len(in.spans) && in.spans[j].from <= s.to {
		s.from, s.to = min(s.from, in.spans[j].from), max(s.to, in.spans[j].to)
		j++
	}
	in.spans = slices.Replace(in.spans, i, j, s)
	if len(in.spans) > maxSpans {
		return fmt.Errorf("%w: more than %d holes", errPeer, maxSpans)
	}
	return nil
}

// ready returns how many bytes can be read, and whether the end has come
// behind them.
func (in *incoming) ready() (n int, end bool) {
	top := in.next
	if in.ended && top > in.fin {
		top, end = in.fin, true
	}
	return int(top - in.read), end
}

// copyTo copies what can be read into p, without taking it out.
func (in *incoming) copyTo(p []byte) int {
	n, _ := in.ready()
	p = p[:min(n, len(p))]
	for off, rest := in.read, p; len(rest) > 0; {
		m := copy(rest, in.pages[off/chunkSize%maxChunks][off%chunkSize:])
		rest, off = rest[m:], off+uint64(m)
	}
	return len(p)
}

// consume takes n bytes out that were copied.
func (in *incoming) consume(n int) {
	from, to := in.read/chunkSize, (in.read+uint64(n))/chunkSize
	in.read += uint64(n)
	for i := from; i < to; i++ {
		in.freePage(i)
	}
	if left, _ := in.ready(); left == 0 && len(in.spans) == 0 && !in.filling {
		in.freePage(to) // an idle link holds no page
	}
}

func (in *incoming) freePage(i uint64) {
	i %= maxChunks
	if in.pages[i] != nil {
		in.free(in.pages[i][:0])
		in.pages[i] = nil
	}
}

// drop throws away what is there and whatever comes.
func (in *incoming) drop() {
	n, _ := in.ready()
	in.consume(n)
}

// state is what an acknowledgement says now.
func (in *incoming) state() wire.Ack {
	return wire.Ack{Next: in.next, Limit: max(in.told.Limit, min(in.read+window, wire.MaxOffset))}
}

// due returns when an acknowledgement is to be sent; the zero time if there is
// none to send.
func (in *incoming) due(now time.Time) time.Time {
	s := in.state()
	grown := s.Limit - in.told.Limit
	switch {
	case in.soon,
		s.Next-in.told.Next >= ackEvery,
		grown >= window/4,
		grown > 0 && in.told.Limit < s.Next+2*wire.MaxFrame: // the peer may be waiting
		return now
	case s.Next > in.told.Next:
		return in.since.Add(ackDelay)
	}
	return time.Time{}
}

// acknowledge returns what to send.
func (in *incoming) acknowledge() wire.Ack {
	in.told = in.state()
	in.soon, in.since = false, time.Time{}
	return in.told
}
