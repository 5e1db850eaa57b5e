package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"net"
	"os"
	"path"
	"runtime"
	"time"

	"github.com/muster-p2p/muster/transfer/wire"
)

// ReceiveConfig configures [Receive]. The zero value takes everything that the
// default limits allow.
type ReceiveConfig struct {
	// Accept, if not nil, is asked before anything is written or a directory is
	// looked at; an error refuses the offer. The other end is told ErrRefused and not
	// the error.
	Accept func(Offer) error

	// Overwrite lets files that are there be replaced. A directory is never
	// replaced by a file, nor a file by a directory.
	Overwrite bool

	// Limits bound what is accepted.
	Limits Limits

	// Progress, if not nil, is told how far things are, for every chunk of some
	// 256 KiB and every file, from one goroutine at a time. It must not block.
	Progress func(Progress)

	// Stall is how long the other end may be silent. If zero, DefaultStall.
	Stall time.Duration

	hooks testHooks
}

// testHooks stand in for what a test cannot have: a full disk, another system.
type testHooks struct {
	write   func(f *os.File, b []byte, at int64) (int, error)
	folds   bool
	windows bool
}

// Progress says how far a transfer is.
type Progress struct {
	Path  string // the file that is moving
	Done  int64  // bytes that are there, those of earlier transfers included
	Total int64  // bytes of all files
	Files int    // files that are there
}

// A Result says what a transfer did.
type Result struct {
	Offer Offer

	// Moved are the bytes that moved now. Kept are those that a broken transfer
	// had left, and Same those of files that were there already, of which
	// SameFiles is the number. The three add up to Offer.Bytes.
	Moved, Kept, Same int64
	SameFiles         int
}

// Receive takes what the other end of conn sends, and writes it to dir, which
// is made if missing. It returns when all is verified and on disk, or with an
// error: then whole files that had come stay, and the one that was coming
// stays as a partial to go on with (unless its content was wrong). The caller
// closes conn. When ctx ends, so does Receive.
func Receive(ctx context.Context, conn net.Conn, dir string, cfg ReceiveConfig) (Result, error) {
	r := &receiver{
		cfg: cfg, s: newStream(conn, cfg.Stall), dir: dir,
		m:       newManifest(cfg.Limits, runtime.GOOS == "windows" || cfg.hooks.windows),
		missing: map[string]bool{}, present: map[uint32]bool{}, resume: map[uint32]resumption{},
	}
	defer r.close()
	stop := context.AfterFunc(ctx, func() { r.s.interrupt(fmt.Errorf("transfer: %w", ctx.Err())) })
	err := r.run(ctx)
	stop()
	if err != nil {
		r.s.giveUp(err)
		return r.res, err
	}
	r.s.bye()
	return r.res, nil
}

// A receiver is one Receive.
type receiver struct {
	cfg  ReceiveConfig
	s    *stream
	dir  string
	disk *disk
	m    *manifest
	res  Result

	missing map[string]bool // directories that were not there
	present map[uint32]bool // files that Overwrite replaces
	wants   []wire.Span
	resume  map[uint32]resumption // of files that go on
	done    Progress
}

// A resumption is a partial and the hash of what is in it.
type resumption struct {
	p *partial
	h hash.Hash
}

// maxResumed bounds the partials of one transfer, which are held open. A
// transfer leaves a handful behind.
const maxResumed = 32

func (r *receiver) close() {
	for _, c := range r.resume {
		_ = c.p.keep()
	}
	if r.disk != nil {
		_ = r.disk.Close()
	}
}

func (r *receiver) run(ctx context.Context) error {
	if err := r.s.greet(wire.RoleRecv, wire.RoleSend); err != nil {
		return err
	}
	busy, cancel := context.WithCancel(ctx)
	defer cancel()
	go r.s.keepBusy(busy)
	if err := r.takeOffer(); err != nil {
		return err
	}
	if r.cfg.Accept != nil {
		if err := r.cfg.Accept(r.res.Offer); err != nil {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	if err := r.prepare(); err != nil {
		return err
	}
	if err := r.order(); err != nil {
		return err
	}
	if err := r.takeFiles(); err != nil {
		return err
	}
	return r.s.send(wire.Done, nil)
}

// takeOffer reads what there is to have.
func (r *receiver) takeOffer() error {
	b, err := r.s.frame(wire.Offer)
	if err != nil {
		return err
	}
	total, err := wire.ParseTotal(b)
	if err != nil {
		return err
	}
	if n := total.Files + total.Dirs; n > uint64(r.m.limits.MaxEntries) {
		return &LimitError{What: fmt.Sprintf("%d files and directories", r.m.limits.MaxEntries)}
	}
	for uint64(len(r.m.entries)) < total.Files+total.Dirs {
		b, err := r.s.frame(wire.Entries)
		if err != nil {
			return err
		}
		if len(b) == 0 {
			return fmt.Errorf("%w: an empty list", ErrProtocol)
		}
		if err := wire.ParseEntries(b, func(e wire.Entry) error { return r.m.add(fromWire(e)) }); err != nil {
			return err
		}
	}
	if r.m.total() != total {
		return fmt.Errorf("%w: the list does not add up to what was said", ErrProtocol)
	}
	r.res.Offer = r.m.offer()
	return nil
}

// prepare compares what is offered with what is there. Nothing is written
// unless all can be.
func (r *receiver) prepare() (err error) {
	if r.disk, err = openDisk(r.dir); err != nil {
		return err
	}
	r.disk.stop, r.disk.hooks = r.s.reason, r.cfg.hooks
	if r.disk.folds || r.disk.hooks.folds {
		if err := r.m.collision(); err != nil {
			return err
		}
	}
	look, err := r.lookAll()
	if err != nil {
		return err
	}
	var exists ExistsError
	same, err := r.compare(look, &exists)
	if err != nil {
		return err
	}
	if len(exists.Paths) > 0 {
		return &exists
	}
	for i := range r.m.entries {
		e := &r.m.entries[i]
		switch {
		case e.dir:
			if look[i] == absent {
				err = r.disk.mkdir(e)
			}
		case same[uint32(i)]:
			r.res.Same += e.size
			r.res.SameFiles++
		default:
			r.wants = append(r.wants, wire.Span{Index: uint32(i)})
		}
		if err != nil {
			return err
		}
	}
	return r.findPartials()
}

// lookAll says for each entry what is in its place.
func (r *receiver) lookAll() ([]presence, error) {
	look := make([]presence, len(r.m.entries))
	for i := range r.m.entries {
		var err error
		if look[i], err = r.disk.look(&r.m.entries[i], r.missing); err != nil {
			return nil, err
		}
		r.present[uint32(i)] = look[i] == maybe || look[i] == differs
	}
	return look, nil
}

// compare finds the files that are there with the same content, and notes
// those that are in the way.
func (r *receiver) compare(look []presence, exists *ExistsError) (map[uint32]bool, error) {
	same := map[uint32]bool{}
	var maybes []wire.Span
	for i, l := range look {
		e := &r.m.entries[i]
		switch l {
		case absent, ready:
		case maybe:
			maybes = append(maybes, wire.Span{Index: uint32(i), Offset: uint64(e.size)})
		case differs:
			if !r.cfg.Overwrite {
				exists.add(e.path)
			}
		case blocked:
			exists.add(e.path)
		}
	}
	err := r.ask(maybes, func(q wire.Span, theirs [sha256.Size]byte) error {
		e := &r.m.entries[q.Index]
		own, ok, err := r.disk.hashFile(e.path, e.size)
		switch {
		case err != nil:
			return err
		case ok && own == theirs:
			same[q.Index] = true
		case !r.cfg.Overwrite:
			exists.add(e.path)
		}
		return nil
	})
	return same, err
}

// askWindow is how many questions are asked before an answer is read: enough
// to hide the round trip, few enough for any buffer.
const askWindow = 128

// ask has the sender hash parts of its files, and calls got with each answer.
func (r *receiver) ask(questions []wire.Span, got func(wire.Span, [sha256.Size]byte) error) error {
	for len(questions) > 0 {
		batch := questions[:min(len(questions), askWindow)]
		questions = questions[len(batch):]
		for _, q := range batch {
			if err := r.s.write(wire.Ask, wire.AppendSpan(nil, q)); err != nil {
				return err
			}
		}
		if err := r.s.flush(); err != nil {
			return err
		}
		for _, q := range batch {
			b, err := r.s.frame(wire.Sum)
			if err != nil {
				return err
			}
			index, sum, err := wire.ParseSum(b)
			if err != nil {
				return err
			}
			if index != q.Index {
				return fmt.Errorf("%w: an answer that was not asked for", ErrProtocol)
			}
			if err := got(q, sum); err != nil {
				return err
			}
		}
	}
	return nil
}

// findPartials looks for what a broken transfer has left, and keeps what the
// sender's hash of the same bytes confirms.
func (r *receiver) findPartials() error {
	places := map[uint32]int{}
	var questions []wire.Span
	for i, w := range r.wants {
		e := &r.m.entries[w.Index]
		if len(r.resume) == maxResumed || r.missing[path.Dir(e.path)] {
			continue
		}
		c, err := r.disk.openResumption(e)
		if err != nil {
			return err
		}
		if c.p == nil {
			continue
		}
		r.resume[w.Index] = c
		places[w.Index] = i
		questions = append(questions, wire.Span{Index: w.Index, Offset: uint64(c.p.at)})
	}
	return r.ask(questions, func(q wire.Span, theirs [sha256.Size]byte) error {
		c := r.resume[q.Index]
		if [sha256.Size]byte(c.h.Sum(nil)) == theirs {
			r.wants[places[q.Index]].Offset = q.Offset
			r.res.Kept += c.p.at
			return c.p.truncate(c.p.at)
		}
		delete(r.resume, q.Index)
		return c.p.f.Close()
	})
}

// openResumption opens e's partial and hashes what is in it. Its p is nil if
// there is none of use.
func (d *disk) openResumption(e *entry) (resumption, error) {
	p, err := d.openPartial(e)
	if errors.Is(err, errLocked) {
		return resumption{}, err
	}
	if err != nil || p == nil {
		return resumption{}, nil //nolint:nilerr // newPartial removes what is there, or says why not
	}
	p.at = min(p.size(), e.size)
	h, err := hashPrefix(p.f, p.at, d.stop)
	if err != nil || h == nil || p.at == 0 {
		return resumption{}, p.f.Close()
	}
	return resumption{p: p, h: h}, nil
}

// order says what is wanted.
func (r *receiver) order() error {
	r.done = Progress{Total: r.m.bytes, Done: r.res.Same + r.res.Kept, Files: r.res.SameFiles}
	for rest := r.wants; len(rest) > 0; {
		var b []byte
		for len(rest) > 0 && len(b) < wire.MaxList-32 {
			b = wire.AppendSpan(b, rest[0])
			rest = rest[1:]
		}
		if err := r.s.write(wire.Want, b); err != nil {
			return err
		}
	}
	return r.s.send(wire.Go, nil)
}
