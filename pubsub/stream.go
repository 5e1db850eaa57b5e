package pubsub

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/muster-p2p/muster/pubsub/wire"
)

// Buffers between a stream and its frames.
const (
	// readBuffer is what one read from a stream takes at most. It is also
	// what must have arrived of a large frame before room is made for all of
	// it, so that a length prefix alone reserves nothing.
	readBuffer = 16 << 10

	// Frames up to these sizes come from pools of buffers of these sizes.
	smallFrame = 2 << 10
	midFrame   = 16 << 10

	// directWrite is the payload size from which a message is written from
	// where it lies rather than through the batch buffer.
	directWrite = 32 << 10
)

var (
	errFrameTooLong  = errors.New("pubsub: frame over the limit")
	errFramePrefix   = errors.New("pubsub: malformed frame length")
	smallFrames      = sync.Pool{New: func() any { return &frame{b: make([]byte, smallFrame)} }}
	midFrames        = sync.Pool{New: func() any { return &frame{b: make([]byte, midFrame)} }}
	bigFrames        sync.Pool // *frame of any size
	batchBuffers     = sync.Pool{New: func() any { b := make([]byte, 0, batchBytes+rpcBytes); return &b }}
	maxBatchRetained = 4 * batchBytes
)

// A frame is the buffer of one RPC that was read. It goes back to its pool
// when it has been handled, unless a message took it.
type frame struct {
	b     []byte
	taken bool // a message holds b now
}

func getFrame(n int) *frame {
	switch {
	case n <= smallFrame:
		return smallFrames.Get().(*frame)
	case n <= midFrame:
		return midFrames.Get().(*frame)
	}
	if f, ok := bigFrames.Get().(*frame); ok && len(f.b) >= n {
		return f
	}
	return &frame{b: make([]byte, n)}
}

func (f *frame) release() {
	switch {
	case f.taken:
	case len(f.b) == smallFrame:
		smallFrames.Put(f)
	case len(f.b) == midFrame:
		midFrames.Put(f)
	default:
		bigFrames.Put(f)
	}
}

// takeMin is the size from which a message may take its frame: a smaller one
// is copied, which costs less than a new frame.
const takeMin = 4 << 10

// keep returns b, a part of the frame, as memory that outlives the frame. A
// part that is most of the frame takes it along; a smaller one is copied, so
// that a message never pins more than twice its size.
func (f *frame) keep(b []byte) []byte {
	if len(b) >= takeMin && 2*len(b) >= len(f.b) {
		f.taken = true
		return b
	}
	return append(make([]byte, 0, len(b)), b...)
}

// A frameReader splits a stream into frames.
type frameReader struct {
	br  *bufio.Reader
	max int
	// waiting is called with true before a read for the rest of a frame of
	// which the length has arrived, and with false when it is there.
	waiting func(bool)
}

func newFrameReader(r io.Reader, limit int, waiting func(bool)) *frameReader {
	return &frameReader{br: bufio.NewReaderSize(r, readBuffer), max: limit, waiting: waiting}
}

// next reads a frame; the caller releases it. It returns io.EOF only between
// frames. A frame of no bytes is legal and returned as nil.
func (r *frameReader) next() (*frame, []byte, error) {
	if _, err := r.br.Peek(1); err != nil {
		return nil, nil, err
	}
	// From the first byte of its length on, a frame must make progress.
	r.waiting(true)
	defer r.waiting(false)
	n, err := binary.ReadUvarint(r.br)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, nil, io.ErrUnexpectedEOF
		}
		return nil, nil, errors.Join(errFramePrefix, err)
	}
	if n > uint64(r.max) {
		return nil, nil, errFrameTooLong
	}
	if n == 0 {
		return nil, nil, nil
	}
	if _, err := r.br.Peek(min(int(n), readBuffer)); err != nil {
		return nil, nil, noEOF(err)
	}
	f := getFrame(int(n))
	if _, err := io.ReadFull(r.br, f.b[:n]); err != nil {
		f.release()
		return nil, nil, noEOF(err)
	}
	return f, f.b[:n], nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A batchWriter encodes batches into RPCs that every known implementation
// accepts and writes each batch in one call, but for large payloads, which
// are not copied.
type batchWriter struct {
	w        io.Writer
	progress func()                  // called before each write
	tap      func(rpc []byte) []byte // may replace an RPC, or drop it with nil; nil if nobody looks
	buf      *[]byte
	rpcs     int // written by the last call of write
	bytes    int
	limit    int  // most bytes of an RPC with more than one entry; 0 for those of control and messages
	each     bool // write each RPC in a call of its own
	ctl      wire.Control
	body     []byte
}

// atMost returns what bounds an RPC, n being its bound on any stream.
func (w *batchWriter) atMost(n int) int {
	if w.limit > 0 {
		return min(n, w.limit)
	}
	return n
}

// write writes a batch. Where it ends a subscription, PRUNE goes in an RPC
// before that: of one RPC rust-libp2p handles the subscriptions first, and who
// leaves a topic while in its mesh is kept out of it for a minute, whatever
// the PRUNE says.
func (w *batchWriter) write(b *batch) error {
	w.rpcs, w.bytes = 0, 0
	if w.buf == nil {
		w.buf = batchBuffers.Get().(*[]byte)
	}
	for b.leaves() && len(b.prunes) > 0 {
		w.appendPrunes(b)
		if err := w.flushEach(); err != nil {
			return err
		}
	}
	for len(b.subs) > 0 || b.hasControl() {
		w.appendState(b)
		if err := w.flushEach(); err != nil {
			return err
		}
	}
	if err := w.appendMessages(b.msgs); err != nil {
		return err
	}
	return w.flush()
}

// idle gives the buffer back until the next write.
func (w *batchWriter) idle() {
	if w.buf == nil {
		return
	}
	if cap(*w.buf) <= maxBatchRetained {
		*w.buf = (*w.buf)[:0]
		batchBuffers.Put(w.buf)
	}
	w.buf = nil
}

func (w *batchWriter) flush() error {
	if len(*w.buf) == 0 {
		return nil
	}
	w.progress()
	n, err := w.w.Write(*w.buf)
	w.bytes += n
	*w.buf = (*w.buf)[:0]
	return err
}

// greet writes a frame of no bytes: it completes the negotiation of the
// protocol, which is lazy, where there is nothing to say yet.
func (w *batchWriter) greet() error {
	w.progress()
	_, err := w.w.Write([]byte{0})
	return err
}

// flushEach ends a call of Write where each RPC is to have its own.
func (w *batchWriter) flushEach() error {
	if !w.each {
		return nil
	}
	return w.flush()
}

// appendPrunes appends one RPC of PRUNEs and takes them out of the batch.
func (w *batchWriter) appendPrunes(b *batch) {
	only := batch{prunes: b.prunes}
	w.takeControl(&only, w.atMost(rpcControlBytes))
	b.prunes = only.prunes
	w.body = w.ctl.AppendControl(w.body[:0])
	w.appendRPC(w.body)
}

// appendState appends one RPC of subscriptions and control, and takes what it
// holds out of the batch.
func (w *batchWriter) appendState(b *batch) {
	w.body = w.body[:0]
	n := 0
	for n < len(b.subs) && n < rpcSubscriptions {
		s := b.subs[n]
		if n > 0 && len(w.body)+wire.SubscriptionSize(len(s.topic)) > w.atMost(rpcControlBytes) {
			break
		}
		w.body = wire.AppendSubscription(w.body, s.topic, s.in)
		n++
	}
	b.subs = b.subs[n:]
	w.takeControl(b, w.atMost(rpcControlBytes)-len(w.body))
	w.body = w.ctl.AppendControl(w.body)
	w.appendRPC(w.body)
}

// appendRPC appends a whole RPC, after whoever looks at it has had its say.
func (w *batchWriter) appendRPC(rpc []byte) {
	if w.tap != nil {
		rpc = w.tap(rpc)
	}
	if len(rpc) == 0 {
		return
	}
	*w.buf = wire.AppendFrameLen(*w.buf, len(rpc))
	*w.buf = append(*w.buf, rpc...)
	w.rpcs++
}

// controlEntry is the most bytes that tags and lengths of a control entry take
// beside its topics and ids.
const controlEntry = 16

// takeControl moves control entries of about room bytes from b to w.ctl, and
// at least one if there is any and nothing else is in the RPC.
func (w *batchWriter) takeControl(b *batch, room int) {
	w.ctl = wire.Control{}
	first := room == w.atMost(rpcControlBytes)
	fits := func(size int) bool {
		if room < size && !first {
			return false
		}
		room -= size
		first = false
		return true
	}
	n := 0
	for n < len(b.grafts) && fits(len(b.grafts[n])+controlEntry) {
		n++
	}
	w.ctl.Graft, b.grafts = b.grafts[:n], b.grafts[n:]
	n = 0
	for n < len(b.prunes) && fits(pruneBytes(&b.prunes[n])) {
		n++
	}
	w.ctl.Prune, b.prunes = b.prunes[:n], b.prunes[n:]
	n = 0
	for n < min(len(b.idontwant), rpcIDontWant) && fits(len(b.idontwant[n])+controlEntry) {
		n++
	}
	w.ctl.IDontWant, b.idontwant = b.idontwant[:n], b.idontwant[n:]
	n = 0
	for n < len(b.iwant) && fits(len(b.iwant[n])+controlEntry) {
		n++
	}
	w.ctl.IWant, b.iwant = b.iwant[:n], b.iwant[n:]
	for len(b.ihave) > 0 {
		h := &b.ihave[0]
		n = 0
		for n < len(h.IDs) && fits(len(h.IDs[n])+controlEntry+len(h.Topic)*b2i(n == 0)) {
			n++
		}
		if n == 0 && len(h.IDs) > 0 {
			return
		}
		w.ctl.IHave = append(w.ctl.IHave, wire.OutIHave{Topic: h.Topic, IDs: h.IDs[:n]})
		if n < len(h.IDs) {
			h.IDs = h.IDs[n:]
			return
		}
		b.ihave = b.ihave[1:]
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func pruneBytes(p *wire.OutPrune) int {
	n := len(p.Topic) + controlEntry
	for _, px := range p.Peers {
		n += len(px.ID) + len(px.Record) + controlEntry
	}
	return n
}

// appendMessages appends the messages as RPCs of several.
func (w *batchWriter) appendMessages(items []item) error {
	for len(items) > 0 {
		n, size := 1, items[0].msg.enc.size()
		for n < len(items) && n < rpcMessages && size+items[n].msg.enc.size() <= w.atMost(rpcBytes) {
			size += items[n].msg.enc.size()
			n++
		}
		if w.tap != nil {
			w.appendTapped(items[:n])
		} else if err := w.appendGroup(items[:n], size); err != nil {
			return err
		}
		if err := w.flushEach(); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

// appendGroup appends one RPC of the given messages, size bytes in all.
func (w *batchWriter) appendGroup(items []item, size int) error {
	*w.buf = wire.AppendFrameLen(*w.buf, size)
	for i := range items {
		if err := w.appendMessage(&items[i].msg.enc); err != nil {
			return err
		}
	}
	w.rpcs++
	return nil
}

// appendTapped is appendGroup where somebody looks: it copies.
func (w *batchWriter) appendTapped(items []item) {
	w.body = w.body[:0]
	for i := range items {
		w.body = items[i].msg.enc.appendTo(w.body)
	}
	w.appendRPC(w.body)
}

func (w *batchWriter) appendMessage(e *encoded) error {
	for _, part := range [...][]byte{e.head, e.data, e.tail} {
		if len(part) < directWrite {
			*w.buf = append(*w.buf, part...)
			continue
		}
		if err := w.flush(); err != nil {
			return err
		}
		if err := w.writeLarge(part); err != nil {
			return err
		}
	}
	return nil
}

// writeLarge writes b in pieces, so that a slow peer that takes them one by
// one is told from one that is stuck.
func (w *batchWriter) writeLarge(b []byte) error {
	for len(b) > 0 {
		w.progress()
		n, err := w.w.Write(b[:min(len(b), batchBytes)])
		w.bytes += n
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// An encoded message is its entry in an RPC, in up to three parts so that a
// payload is not copied to be sent. It is never changed once made, and shared
// by all the peers that it is sent to.
type encoded struct {
	head, data, tail []byte
}

func (e *encoded) size() int { return len(e.head) + len(e.data) + len(e.tail) }

func (e *encoded) appendTo(dst []byte) []byte {
	return append(append(append(dst, e.head...), e.data...), e.tail...)
}
