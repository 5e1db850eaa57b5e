package link

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-p2p/muster/link/wire"
)

func testAlloc() []byte { return make([]byte, 0, chunkSize) }

// scribble makes sure that nobody reads what was freed.
func scribble(b []byte) {
	b = b[:cap(b)]
	for i := range b {
		b[i] = 0xdb
	}
}

// frame cuts the first frame off b.
func cutFrame(b []byte) (h wire.Header, payload, rest []byte) {
	h, err := wire.ParseHeader([wire.HeaderLen]byte(b))
	if err != nil {
		panic(err)
	}
	return h, b[wire.HeaderLen : wire.HeaderLen+h.Len], b[wire.HeaderLen+h.Len:]
}

// TestStream: two directions' ends, and between them a network that loses,
// doubles and reorders frames, as several dying paths do. The naive model is
// that what was written is what is read.
func TestStream(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(0, 0)
		out := newOutgoing(testAlloc, scribble)
		in := newIncoming(testAlloc, scribble)
		in.acknowledge()
		if err := out.ack(in.told); err != nil {
			t.Fatal(err)
		}
		var written, read, next []byte
		var flying [][]byte // copies of frames
		var acks []wire.Ack
		deliver := func(i int, keep bool) {
			h, p, _ := cutFrame(flying[i])
			off, err := wire.ParseOffset(p[:wire.OffsetLen], max(h.Len-wire.OffsetLen, 1))
			if err != nil {
				t.Fatal(err)
			}
			if h.Type == wire.FIN {
				err = in.end(now, off)
			} else {
				err = in.data(now, off, p[wire.OffsetLen:])
			}
			if err != nil {
				t.Fatal(err)
			}
			if !keep {
				flying = slices.Delete(flying, i, i+1)
			}
		}
		take := func() bool {
			b, ok := out.take()
			if !ok {
				return false
			}
			for rest := b.frames; len(rest) > 0; {
				before := rest
				_, _, rest = cutFrame(rest)
				flying = append(flying, bytes.Clone(before[:len(before)-len(rest)]))
			}
			if n := record(b.frames); n > wire.MaxFrame || n == 0 {
				t.Fatalf("a record of %d bytes", n)
			}
			out.release(b)
			return true
		}
		readSome := func(n int) {
			p := make([]byte, n)
			p = p[:in.copyTo(p)]
			in.consume(len(p))
			read = append(read, p...)
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				if out.finished {
					t.Skip()
				}
				p := make([]byte, rapid.SampledFrom([]int{1, 10, 100, 5000, wire.MaxData, wire.MaxData + 1, 200_000}).Draw(t, "size"))
				for i := range p {
					p[i] = byte(len(written) + i + (len(written)+i)>>8)
				}
				full := out.full()
				n := out.write(p)
				if full != (n == 0) {
					t.Fatalf("full %v, took %d", full, n)
				}
				written = append(written, p[:n]...)
			},
			"take":   func(*rapid.T) { take() },
			"rewind": func(*rapid.T) { out.rewind() },
			"lose": func(t *rapid.T) {
				if len(flying) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(flying)-1).Draw(t, "which")
				flying = slices.Delete(flying, i, i+1)
				out.rewind() // a path that loses something is a dead path
			},
			"deliver": func(t *rapid.T) {
				if len(flying) == 0 {
					t.Skip()
				}
				deliver(rapid.IntRange(0, len(flying)-1).Draw(t, "which"), rapid.Bool().Draw(t, "twice"))
			},
			"ack": func(*rapid.T) { acks = append(acks, in.acknowledge()) },
			"hear": func(t *rapid.T) {
				if len(acks) == 0 {
					t.Skip()
				}
				if err := out.ack(acks[rapid.IntRange(0, len(acks)-1).Draw(t, "which")]); err != nil {
					t.Fatal(err)
				}
			},
			"read": func(t *rapid.T) { readSome(rapid.IntRange(0, 300_000).Draw(t, "n")) },
			"finish": func(*rapid.T) {
				if len(written) > 100_000 {
					out.finish()
				}
			},
			"": func(t *rapid.T) {
				if !bytes.HasPrefix(written, read) {
					t.Fatal("read something else than was written")
				}
				if n := len(out.chunks); n > maxChunks+1 {
					t.Fatalf("%d chunks", n)
				}
				due := in.due(now)
				if s := in.state(); s.Next > in.told.Next && due.IsZero() {
					t.Fatal("an acknowledgement is due, and never comes")
				}
				next = next[:0]
			},
		})
		// A good path brings the rest.
		flying = nil
		out.finish()
		for range 1000 {
			out.rewind()
			for take() {
			}
			for len(flying) > 0 {
				deliver(0, false)
			}
			if err := out.ack(in.acknowledge()); err != nil {
				t.Fatal(err)
			}
			readSome(1 << 20)
			if out.drained() {
				break
			}
		}
		if n, end := in.ready(); !bytes.Equal(read, written) || n != 0 || !end {
			t.Fatalf("read %d bytes of %d; end %v", len(read), len(written), end)
		}
		for i, p := range in.pages {
			if p != nil {
				t.Fatalf("page %d is kept by an idle link", i)
			}
		}
		if len(out.chunks) != 0 {
			t.Fatal("chunks are kept by an idle link")
		}
	})
}

// TestBadPeer: what a peer must not send.
func TestBadPeer(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	for name, f := range map[string]func() error{
		"acknowledges what was not sent": func() error {
			out := newOutgoing(testAlloc, scribble)
			out.write(make([]byte, 10))
			return out.ack(wire.Ack{Next: 1})
		},
		"acknowledges an end that was not sent": func() error {
			out := newOutgoing(testAlloc, scribble)
			out.write(make([]byte, 10))
			out.take()
			return out.ack(wire.Ack{Next: 11})
		},
		"beyond the limit": func() error {
			in := newIncoming(testAlloc, scribble)
			return in.data(now, wire.FirstLimit, []byte{1})
		},
		"data after the end": func() error {
			in := newIncoming(testAlloc, scribble)
			return errors.Join(in.end(now, 10), in.data(now, 10, []byte{1}))
		},
		"end before data": func() error {
			in := newIncoming(testAlloc, scribble)
			return errors.Join(in.data(now, 5, []byte{1, 2}), in.end(now, 6))
		},
		"another end": func() error {
			in := newIncoming(testAlloc, scribble)
			return errors.Join(in.end(now, 5), in.end(now, 6))
		},
		"many holes": func() error {
			in := newIncoming(testAlloc, scribble)
			for i := range uint64(maxSpans) + 1 {
				if err := in.data(now, 1+2*i, []byte{1}); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		if err := f(); !errors.Is(err, errPeer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSmallWritesShareFrames: bytes that wait for a path go out together.
func TestSmallWritesShareFrames(t *testing.T) {
	t.Parallel()
	out := newOutgoing(testAlloc, scribble)
	for range 1000 {
		out.write([]byte("x"))
	}
	b, ok := out.take()
	if !ok || len(b.frames) != 1000+wire.DataHeaderLen {
		t.Errorf("%d bytes of frames", len(b.frames))
	}
	out.write([]byte("y"))
	if len(b.frames) != 1000+wire.DataHeaderLen || b.frames[wire.HeaderLen-1] != byte((1000+wire.OffsetLen)&0xff) {
		t.Error("a frame grew that is being written")
	}
	out.release(b)
}

// TestAckTiming: at once where the peer may wait for it, a little later
// otherwise.
func TestAckTiming(t *testing.T) {
	t.Parallel()
	now := time.Unix(100, 0)
	fresh := func() *incoming {
		in := newIncoming(testAlloc, scribble)
		in.acknowledge()
		return &in
	}
	for name, c := range map[string]struct {
		do   func(in *incoming)
		want time.Time
	}{
		"nothing": {func(*incoming) {}, time.Time{}},
		"a byte":  {func(in *incoming) { in.data(now, 0, []byte{1}) }, now.Add(ackDelay)}, //nolint:errcheck // cannot fail
		"much":    {func(in *incoming) { in.data(now, 0, make([]byte, ackEvery)) }, now},  //nolint:errcheck // cannot fail
		"a hole":  {func(in *incoming) { in.data(now, 7, []byte{1}) }, now},               //nolint:errcheck // cannot fail
		"the end": {func(in *incoming) { in.end(now, 0) }, now},                           //nolint:errcheck // cannot fail
		"again": {func(in *incoming) {
			in.data(now, 0, []byte{1}) //nolint:errcheck // cannot fail
			in.acknowledge()
			in.data(now, 0, []byte{1}) //nolint:errcheck // cannot fail
		}, now},
		"the reader made room": {func(in *incoming) {
			in.data(now, 0, make([]byte, window)) //nolint:errcheck // cannot fail
			in.acknowledge()
			in.consume(1)
		}, now},
	} {
		in := fresh()
		c.do(in)
		if got := in.due(now); !got.Equal(c.want) {
			t.Errorf("%s: due %v, want %v", name, got, c.want)
		}
	}
}

// TestNoAllocations: the way of a record's bytes through both ends of a link
// costs no memory, once buffers and chunks are there.
func TestNoAllocations(t *testing.T) {
	var free [][]byte
	alloc := func() []byte {
		if n := len(free); n > 0 {
			b := free[n-1]
			free = free[:n-1]
			return b
		}
		return testAlloc()
	}
	put := func(b []byte) { free = append(free, b) }
	out, in := newOutgoing(alloc, put), newIncoming(alloc, put)
	now := time.Unix(0, 0)
	p, sink := make([]byte, chunkSize), make([]byte, chunkSize)
	n := testing.AllocsPerRun(1000, func() {
		out.write(p)
		for b, ok := out.take(); ok; b, ok = out.take() {
			for rest := b.frames; len(rest) > 0; {
				_, size := frameAt(rest)
				off, err := wire.ParseOffset(rest[wire.HeaderLen:wire.DataHeaderLen], size-wire.DataHeaderLen)
				if err != nil {
					t.Fatal(err)
				}
				x, y, ok := in.reserve(off, size-wire.DataHeaderLen)
				if !ok {
					t.Fatal("no room")
				}
				m := copy(x, rest[wire.DataHeaderLen:size])
				m += copy(y, rest[wire.DataHeaderLen+m:size])
				if err := in.fill(now, m); err != nil {
					t.Fatal(err)
				}
				rest = rest[size:]
			}
			out.release(b)
		}
		in.consume(in.copyTo(sink))
		if err := out.ack(in.acknowledge()); err != nil {
			t.Fatal(err)
		}
	})
	if n > 2 { // chunks' own descriptions: one for four records
		t.Errorf("%v allocations for a chunk of four records", n)
	}
}

// TestReserve: bytes that come in order are written to their place, which may
// be two; whatever else comes goes the long way.
func TestReserve(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	in := newIncoming(testAlloc, scribble)
	in.acknowledge()
	if err := in.data(now, 0, make([]byte, chunkSize-10)); err != nil {
		t.Fatal(err)
	}
	x, y, ok := in.reserve(chunkSize-10, 100)
	if !ok || len(x) != 10 || len(y) != 90 {
		t.Fatalf("%d and %d bytes, %v", len(x), len(y), ok)
	}
	copy(x, bytes.Repeat([]byte{1}, 10))
	copy(y, bytes.Repeat([]byte{2}, 90))
	if _, _, ok := in.reserve(chunkSize-10, 100); ok {
		t.Error("one place for two")
	}
	in.consume(chunkSize - 10) // the reader goes on meanwhile
	if err := in.fill(now, 100); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 200)
	got = got[:in.copyTo(got)]
	if want := slices.Concat(bytes.Repeat([]byte{1}, 10), bytes.Repeat([]byte{2}, 90)); !bytes.Equal(got, want) {
		t.Errorf("read %v", got)
	}
	at := uint64(chunkSize + 90)
	for name, ok := range map[string]bool{
		"old":              func() bool { _, _, ok := in.reserve(at-1, 1); return ok }(),
		"a hole":           func() bool { _, _, ok := in.reserve(at+1, 1); return ok }(),
		"beyond the limit": func() bool { _, _, ok := in.reserve(at, window); return ok }(),
	} {
		if ok {
			t.Errorf("%s: reserved", name)
		}
	}
	// A path that dies in a frame leaves nothing behind.
	if _, _, ok := in.reserve(at, 10); !ok {
		t.Fatal("no room")
	}
	if err := in.fill(now, 0); err != nil || in.next != at {
		t.Errorf("next is %d, %v", in.next, err)
	}
}
