package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"os"
	"time"

	"github.com/muster-p2p/muster/transfer/wire"
)

// SendConfig configures [Send].
type SendConfig struct {
	// Progress, if not nil, is told how far things are, for every chunk of some
	// 256 KiB and every file, from one goroutine at a time. It must not block.
	Progress func(Progress)

	// Stall is how long the other end may be silent. If zero, DefaultStall.
	Stall time.Duration
}

// Send offers src to the other end of conn, and sends what that wants of it.
// It returns when the receiver has all of it verified and on disk, or with an
// error. The caller closes conn. When ctx ends, so does Send.
func Send(ctx context.Context, conn net.Conn, src *Source, cfg SendConfig) (Result, error) {
	t := &sender{
		cfg: cfg, s: newStream(conn, cfg.Stall), src: src, m: src.manifest,
		asks: make(chan wire.Span, askWindow), planned: make(chan struct{}), heard: make(chan error, 1),
		known: map[uint32]prefix{},
	}
	t.res.Offer = t.m.offer()
	stop := context.AfterFunc(ctx, func() { t.s.interrupt(fmt.Errorf("transfer: %w", ctx.Err())) })
	defer stop()
	if err := t.s.greet(wire.RoleSend, wire.RoleRecv); err != nil {
		return t.res, err
	}
	return t.res, t.run()
}

// A sender is one Send.
type sender struct {
	cfg SendConfig
	s   *stream
	src *Source
	m   *manifest
	res Result

	asks    chan wire.Span // as many as a receiver may have open
	asked   int            // of the listening goroutine
	plan    []wire.Span    // of the listening goroutine until planned is closed
	planned chan struct{}
	heard   chan error // the end of listening: nil after DONE

	known map[uint32]prefix // hashes that an ASK has already cost
	done  Progress
}

// A prefix is the hash of the first n bytes of a file.
type prefix struct {
	n uint64
	h hash.Hash
}

func (t *sender) run() error {
	go func() {
		err := t.listen()
		if err != nil {
			t.s.interrupt(err)
		}
		t.heard <- err
	}()
	err := t.converse()
	if err == nil {
		return <-t.heard
	}
	return t.fail(err)
}

// converse says what there is, answers, and sends.
func (t *sender) converse() error {
	if err := t.offer(); err != nil {
		return err
	}
	if err := t.answer(); err != nil {
		return err
	}
	if err := t.sendFiles(); err != nil {
		return err
	}
	return t.s.send(wire.Fin, nil)
}

// fail ends a transfer that has an error. What the other end says about it is
// better than what we see of it.
func (t *sender) fail(err error) error {
	if errors.Is(err, ErrBroken) {
		wait := time.NewTimer(farewell)
		defer wait.Stop()
		select {
		case said := <-t.heard:
			return first(said, err)
		case <-wait.C:
		}
	}
	t.s.interrupt(err)
	if said := <-t.heard; !worthTelling(said) {
		return first(said, err)
	}
	t.s.giveUp(err)
	return err
}

func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// offer sends the manifest.
func (t *sender) offer() error {
	if err := t.s.write(wire.Offer, wire.AppendTotal(nil, t.m.total())); err != nil {
		return err
	}
	buf := make([]byte, 0, wire.MaxList)
	for i := 0; i < len(t.m.entries); {
		buf, i = t.m.appendEntries(buf[:0], i)
		if err := t.s.write(wire.Entries, buf); err != nil {
			return err
		}
	}
	return t.s.flush()
}

// listen reads what the receiver says, until DONE.
func (t *sender) listen() error {
	for {
		typ, n, err := t.s.next()
		if err != nil {
			return err
		}
		b := make([]byte, n)
		if err := t.s.payload(b); err != nil {
			return err
		}
		switch typ {
		case wire.Ask:
			err = t.takeAsk(b)
		case wire.Want:
			err = t.takeWant(b)
		case wire.Go:
			err = t.takeGo()
		case wire.Done:
			return t.takeDone()
		default:
			err = fmt.Errorf("%w: frame of type %d from a receiver", ErrProtocol, typ)
		}
		if err != nil {
			return err
		}
	}
}

func (t *sender) isPlanned() bool {
	select {
	case <-t.planned:
		return true
	default:
		return false
	}
}

// takeAsk queues a question. There are at most two per file: about the whole
// and about a part of it. So a receiver cannot have us read for ever.
func (t *sender) takeAsk(b []byte) error {
	q, err := wire.ParseSpan(b)
	if err != nil {
		return err
	}
	if t.asked++; t.isPlanned() || t.asked > 2*t.m.files || !t.inFile(q) {
		return fmt.Errorf("%w: a question that is not allowed", ErrProtocol)
	}
	select {
	case t.asks <- q:
		return nil
	default:
		return fmt.Errorf("%w: more than %d questions at once", ErrProtocol, askWindow)
	}
}

// takeWant adds to the plan, which is in the order of the manifest.
func (t *sender) takeWant(b []byte) error {
	if t.isPlanned() {
		return fmt.Errorf("%w: WANT after GO", ErrProtocol)
	}
	return wire.ParseSpans(b, func(w wire.Span) error {
		if !t.inFile(w) || len(t.plan) > 0 && w.Index <= t.plan[len(t.plan)-1].Index {
			return fmt.Errorf("%w: a wish that is not allowed", ErrProtocol)
		}
		t.plan = append(t.plan, w)
		return nil
	})
}

func (t *sender) takeGo() error {
	if t.isPlanned() {
		return fmt.Errorf("%w: GO twice", ErrProtocol)
	}
	close(t.planned)
	return nil
}

func (t *sender) takeDone() error {
	if !t.isPlanned() {
		return fmt.Errorf("%w: DONE before GO", ErrProtocol)
	}
	return nil
}

// inFile reports whether q is about a file that was offered.
func (t *sender) inFile(q wire.Span) bool {
	return int(q.Index) < len(t.m.entries) && !t.m.entries[q.Index].dir && q.Offset <= uint64(t.m.entries[q.Index].size)
}

// answer hashes what the receiver asks for, until it knows what it wants.
func (t *sender) answer() error {
	for {
		select {
		case q := <-t.asks:
			if err := t.answerOne(q); err != nil {
				return err
			}
			continue
		default:
		}
		select {
		case q := <-t.asks:
			if err := t.answerOne(q); err != nil {
				return err
			}
		case <-t.planned:
			return nil
		case err := <-t.heard:
			t.heard <- err // for whoever waits for the end
			return first(err, ErrProtocol)
		}
	}
}

// answerOne hashes, which may take minutes, and says meanwhile that it does. At
// other times a sender has something to say or the receiver does not listen.
func (t *sender) answerOne(q wire.Span) error {
	busy, cancel := context.WithCancel(context.Background())
	defer cancel()
	go t.s.keepBusy(busy)
	f, err := t.src.openEntry(q.Index)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	h, err := hashPrefix(f, int64(q.Offset), t.s.reason)
	if err != nil {
		return err
	}
	if h == nil {
		return fmt.Errorf("%w: %q", ErrChanged, t.m.entries[q.Index].path)
	}
	if len(t.known) < maxResumed && q.Offset < uint64(t.m.entries[q.Index].size) {
		t.known[q.Index] = prefix{n: q.Offset, h: h}
	}
	return t.s.send(wire.Sum, wire.AppendSum(nil, q.Index, [sha256.Size]byte(h.Sum(nil))))
}

// sendFiles sends what is planned.
func (t *sender) sendFiles() error {
	t.start()
	files := &outlet{t: t, pool: make(pool, 3*depth), stop: make(chan struct{})}
	raw, hashed := make(chan item, depth), make(chan item, depth)
	var readErr error
	go func() {
		readErr = files.readAll(raw)
		close(raw)
	}()
	go hashItems(raw, hashed)
	err := files.writeAll(hashed)
	close(files.stop)
	for it := range hashed { // let the other stages end
		_ = it
	}
	return first(err, readErr)
}

// start sets what is there already: what the receiver does not want.
func (t *sender) start() {
	t.done = Progress{Total: t.m.bytes, Done: t.m.bytes, Files: t.m.files - len(t.plan)}
	t.res.Same, t.res.SameFiles = t.m.bytes, t.done.Files
	for _, w := range t.plan {
		size := t.m.entries[w.Index].size
		t.done.Done -= size - int64(w.Offset)
		t.res.Same -= size
		t.res.Kept += int64(w.Offset)
	}
}

// An outlet reads files and writes them to the stream.
type outlet struct {
	t    *sender
	pool pool
	stop chan struct{} // closed when nobody wants more
}

var errStopped = errors.New("transfer: stopped")

func (o *outlet) put(out chan<- item, it item) error {
	select {
	case out <- it:
		return nil
	case <-o.stop:
		return errStopped
	}
}

// readAll is the first stage: it reads the files of the plan.
func (o *outlet) readAll(out chan<- item) error {
	for _, w := range o.t.plan {
		if err := o.readFile(w, out); err != nil {
			return err
		}
	}
	return nil
}

func (o *outlet) readFile(w wire.Span, out chan<- item) error {
	e := &o.t.m.entries[w.Index]
	f, err := o.t.src.openEntry(w.Index)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	h, err := o.prefix(f, w)
	if err != nil {
		return err
	}
	if err := o.put(out, item{kind: itemBegin, span: w, h: h}); err != nil {
		return err
	}
	for at := int64(w.Offset); at < e.size; {
		size := int(min(chunk, e.size-at))
		frame := o.pool.get(wire.HeadSize + size)
		wire.AppendHead(frame[:0], wire.Data, size)
		buf := frame[wire.HeadSize:]
		n, err := f.ReadAt(buf, at)
		if err != nil && (!errors.Is(err, io.EOF) || n < len(buf)) {
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("%w: %q", ErrChanged, e.path)
			}
			return fmt.Errorf("transfer: %w", err)
		}
		at += int64(n)
		if err := o.put(out, item{kind: itemData, span: w, buf: buf, frame: frame}); err != nil {
			return err
		}
	}
	if info, err := f.Stat(); err != nil || !e.same(info) {
		return fmt.Errorf("%w: %q", ErrChanged, e.path)
	}
	return o.put(out, item{kind: itemEnd, span: w})
}

// prefix is the hash of what the receiver has of the file.
func (o *outlet) prefix(f *os.File, w wire.Span) (hash.Hash, error) {
	if w.Offset == 0 {
		return sha256.New(), nil
	}
	if p, ok := o.t.known[w.Index]; ok && p.n == w.Offset {
		return p.h, nil
	}
	busy, cancel := context.WithCancel(context.Background())
	defer cancel()
	go o.t.s.keepBusy(busy) // this may take minutes, too
	h, err := hashPrefix(f, int64(w.Offset), o.t.s.reason)
	if err == nil && h == nil {
		err = fmt.Errorf("%w: %q", ErrChanged, o.t.m.entries[w.Index].path)
	}
	return h, err
}

// writeAll is the last stage: it writes frames. They are sent when there is
// nothing more to send at the moment.
func (o *outlet) writeAll(items <-chan item) error {
	for {
		select {
		case it, ok := <-items:
			if !ok {
				return o.t.s.flush()
			}
			if err := o.write(it); err != nil {
				return err
			}
			continue
		default:
		}
		if err := o.t.s.flush(); err != nil {
			return err
		}
		it, ok := <-items
		if !ok {
			return nil
		}
		if err := o.write(it); err != nil {
			return err
		}
	}
}

func (o *outlet) write(it item) error {
	t := o.t
	switch it.kind {
	case itemBegin:
		t.done.Path = t.m.entries[it.span.Index].path
		return t.s.write(wire.File, wire.AppendSpan(nil, it.span))
	case itemData:
		err := t.s.writeRaw(it.frame)
		o.pool.put(it.frame)
		if err != nil {
			return err
		}
		t.res.Moved += int64(len(it.buf))
		t.done.Done += int64(len(it.buf))
	case itemEnd:
		if err := t.s.write(wire.End, it.sum[:]); err != nil {
			return err
		}
		t.done.Files++
	}
	if t.cfg.Progress != nil {
		t.cfg.Progress(t.done)
	}
	return nil
}
