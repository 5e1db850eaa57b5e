package transfer

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"path"
	"sync"

	"github.com/muster-p2p/muster/transfer/wire"
)

// The content of files flows through stages, each with a goroutine: from the
// stream or the disk, through the hash, to the disk or the stream. So reading,
// hashing and writing go on at once, each in its order.

const (
	// depth is how many chunks may wait between two stages: enough to smooth
	// a disk's pauses, at two megabytes.
	depth = 8

	// finishers is how many files are brought to disk at once: syncing many
	// small files one by one would take as long as a disk turns.
	finishers = 16
)

// What an item is.
type itemKind int

const (
	itemBegin itemKind = iota // of a file
	itemData
	itemEnd
)

// An item is one step of a file's content.
type item struct {
	kind  itemKind
	span  wire.Span         // which file, from where
	h     hash.Hash         // itemBegin: what is hashed so far
	p     *partial          // itemBegin, when receiving: what goes on, or nil
	buf   []byte            // itemData: the content, from the pool
	frame []byte            // itemData, when sending: the whole frame
	sum   [sha256.Size]byte // itemEnd: the hash of all of it, by the hasher
	other [sha256.Size]byte // itemEnd: the hash as the sender says
}

// hashItems is the middle stage: it hashes what passes.
func hashItems(in <-chan item, out chan<- item) {
	defer close(out)
	var h hash.Hash
	for it := range in {
		switch it.kind {
		case itemBegin:
			h = it.h
		case itemData:
			h.Write(it.buf)
		case itemEnd:
			h.Sum(it.sum[:0])
		}
		out <- it
	}
}

// A pool recycles the buffers of a pipeline.
type pool chan []byte

// get returns a buffer of n bytes.
func (p pool) get(n int) []byte {
	select {
	case b := <-p:
		if cap(b) >= n {
			return b[:n]
		}
	default:
	}
	return make([]byte, n, max(n, wire.HeadSize+chunk))
}

func (p pool) put(b []byte) {
	select {
	case p <- b:
	default:
	}
}

// An intake writes the files that come.
type intake struct {
	r    *receiver
	pool pool
	cur  *partial // the file that is coming; of the writing goroutine
	fail error    // likewise: nothing is written any more

	sem  chan struct{}
	wg   sync.WaitGroup // of finishers
	dirs map[string]bool
}

// takeFiles reads all that is wanted and returns when it is on disk.
func (r *receiver) takeFiles() error {
	in := &intake{r: r, pool: make(pool, 3*depth), sem: make(chan struct{}, finishers), dirs: map[string]bool{}}
	raw, hashed := make(chan item, depth), make(chan item, depth)
	written := make(chan struct{})
	go hashItems(raw, hashed)
	go func() {
		defer close(written)
		in.writeAll(hashed)
	}()
	err := r.readFiles(raw, in.pool)
	close(raw)
	<-written
	in.wg.Wait()
	if err == nil {
		err = r.s.reason()
	}
	if err == nil {
		r.disk.syncDirs(in.dirs)
	}
	return err
}

// readFiles reads the files as they come and hands them on.
func (r *receiver) readFiles(out chan<- item, pool pool) error {
	for _, w := range r.wants {
		b, err := r.s.frame(wire.File)
		if err != nil {
			return err
		}
		if got, err := wire.ParseSpan(b); err != nil || got != w {
			return fmt.Errorf("%w: another file than was wanted", ErrProtocol)
		}
		begin := item{kind: itemBegin, span: w, h: sha256.New()}
		if c, ok := r.resume[w.Index]; ok {
			begin.h, begin.p = c.h, c.p
			delete(r.resume, w.Index)
		}
		out <- begin
		if err := r.readFile(w, out, pool); err != nil {
			return err
		}
	}
	_, err := r.s.frame(wire.Fin)
	return err
}

// readFile reads what is left of one file, and no byte more.
func (r *receiver) readFile(w wire.Span, out chan<- item, pool pool) error {
	left := r.m.entries[w.Index].size - int64(w.Offset)
	for {
		t, n, err := r.s.next()
		switch {
		case err != nil:
			return err
		case t == wire.End && left == 0:
			b := make([]byte, n)
			if err := r.s.payload(b); err != nil {
				return err
			}
			sum, err := wire.ParseEnd(b)
			if err != nil {
				return err
			}
			out <- item{kind: itemEnd, span: w, other: sum}
			return nil
		case t != wire.Data || n == 0 || int64(n) > left:
			return fmt.Errorf("%w: frame of type %d, %d bytes, with %d to come", ErrProtocol, t, n, left)
		}
		buf := pool.get(n)
		if err := r.s.payload(buf); err != nil {
			return err
		}
		left -= int64(n)
		out <- item{kind: itemData, span: w, buf: buf}
	}
}

// writeAll is the last stage. After an error it only empties the channel, so
// that the other stages can end.
func (in *intake) writeAll(items <-chan item) {
	for it := range items {
		if in.fail == nil {
			if in.fail = in.write(it); in.fail != nil {
				in.r.s.interrupt(in.fail)
			}
		}
		if it.buf != nil {
			in.pool.put(it.buf)
		}
		if it.p != nil && it.p != in.cur {
			_ = it.p.keep() // nobody else will
		}
	}
	if in.cur != nil {
		_ = in.cur.keep() // the error that broke it off is the one to report
	}
}

func (in *intake) write(it item) error {
	r := in.r
	switch it.kind {
	case itemBegin:
		e := &r.m.entries[it.span.Index]
		r.done.Path = e.path
		if it.p != nil {
			in.cur = it.p
			return nil
		}
		var err error
		in.cur, err = r.disk.newPartial(e)
		return err
	case itemData:
		if err := in.cur.write(it.buf); err != nil {
			return err
		}
		r.res.Moved += int64(len(it.buf))
		r.done.Done += int64(len(it.buf))
		r.tell()
		return nil
	default:
		return in.end(it)
	}
}

// end verifies the file that came and hands it to a finisher.
func (in *intake) end(it item) error {
	p := in.cur
	in.cur = nil
	if it.sum != it.other {
		p.discard()
		return fmt.Errorf("%w: %q has SHA-256 %s…, the sender's has %s…", ErrIntegrity, p.e.path, short(it.sum), short(it.other))
	}
	replace := in.r.present[it.span.Index]
	in.dirs[path.Dir(p.e.path)] = true
	in.sem <- struct{}{}
	in.wg.Go(func() {
		if err := p.finish(replace); err != nil {
			in.r.s.interrupt(err)
		}
		<-in.sem
	})
	in.r.done.Files++
	in.r.tell()
	return nil
}

func (r *receiver) tell() {
	if r.cfg.Progress != nil {
		r.cfg.Progress(r.done)
	}
}

// reason is the error that cut the stream short, if one did.
func (s *stream) reason() error {
	s.deadlines.Lock()
	defer s.deadlines.Unlock()
	return s.cut
}
