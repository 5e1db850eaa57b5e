package rdv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxPiece bounds what is relayed at a time, so that counters, limits and
	// other pairs get their turn. It is what one pipe holds: larger ones save
	// little more, and a user without privileges may have 64 MiB of them in
	// all (fs.pipe-user-pages-soft).
	maxPiece = 512 << 10

	// defaultBuffer is that of [io.Copy], as documented by v0.0.6.
	defaultBuffer = 32 << 10

	// restBuffer is the buffer of a direction with little or nothing to do.
	restBuffer = 2 << 10
)

// errIdle and errStuck are what a pair dies of when its watch ends it.
var (
	errIdle  = fmt.Errorf("rdv: relay was idle: %w", os.ErrDeadlineExceeded)
	errStuck = fmt.Errorf("rdv: peer takes no data: %w", os.ErrDeadlineExceeded)
)

// Relay copies data from r1 to w1 and from r2 to w2, as in
//
//	n1, n2, err := relayer.Relay(ctx, ac, dc, dc, ac)
//
// When a reader ends, its writer is told so (CloseWrite) and the other
// direction goes on; if the writer cannot be told, both are closed. Both
// writers are closed when the second reader ends too, upon an error, when ctx
// ends, and when [Relayer.IdleTimeout] or [Relayer.WriteTimeout] has passed.
// Relay returns how many bytes went each way, and the first error: io.EOF if
// both ended as they should.
//
// Call [Relayer.Continue] first. To watch or limit the data, wrap r1 and r2
// (io.TeeReader); it is then copied through a buffer of [Relayer.BufferSize].
func (r *Relayer) Relay(ctx context.Context, w1, w2 io.WriteCloser, r1, r2 io.Reader) (n1, n2 int64, err error) {
	return r.RelayCharged(ctx, w1, w2, r1, r2, nil)
}

// RelayCharged is [Relayer.Relay] that tells charge of each piece of n bytes
// that was moved, at most 512 KiB, from both directions at once. An error of
// charge ends the pair and is returned: a quota is used up. Unlike wrapping a
// reader, it leaves the data in the kernel.
func (r *Relayer) RelayCharged(ctx context.Context, w1, w2 io.WriteCloser, r1, r2 io.Reader, charge func(n int) error) (n1, n2 int64, err error) {
	pace, release := r.newPace(w1, w2)
	defer release()
	p := &pump{r: r, pace: pace, charge: charge, writers: [2]io.WriteCloser{w1, w2}, begun: time.Now()}
	dead := withDefault(r.WriteTimeout, DefaultWriteTimeout)
	for _, w := range p.writers {
		if err := setDeadTimeout(w, dead); err != nil {
			return 0, 0, errors.Join(err, w1.Close(), w2.Close())
		}
	}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	defer p.cancel(nil)
	stop := context.AfterFunc(p.ctx, p.closeBoth)
	p.startWatch()
	r.stats.relaying.Add(1)
	defer r.stats.relaying.Add(-1)

	var wg sync.WaitGroup
	wg.Go(func() { p.run(1, w2, r2) })
	p.run(0, w1, r1)
	wg.Wait()

	stop()
	p.cancel(io.EOF) // has no effect if there was an error
	p.closeBoth()
	if p.watch != nil {
		p.watch.Stop()
	}
	return p.moved[0].Load(), p.moved[1].Load(), context.Cause(p.ctx)
}

// A pump moves the data of one pair. Each direction belongs to a goroutine;
// what they share with the watch is atomic.
type pump struct {
	r       *Relayer
	ctx     context.Context // ends the pair; its cause is the first error
	cancel  context.CancelCauseFunc
	pace    *pace
	charge  func(n int) error // nil if nobody pays
	writers [2]io.WriteCloser

	begun   time.Time
	watch   *time.Timer
	active  atomic.Int64    // when data last moved, since begun
	blocked [2]atomic.Int64 // when a write began that takes no data, since begun; 0 if none
	moved   [2]atomic.Int64
}

func (p *pump) closeBoth() {
	for _, w := range p.writers {
		_ = w.Close() // the error that matters is the cause
	}
}

// run moves one direction until its end.
func (p *pump) run(dir int, w io.WriteCloser, rd io.Reader) {
	err := p.copy(dir, w, rd)
	if err == nil {
		err = closeWrite(w)
	}
	if err != nil {
		p.cancel(err)
	}
}

// closeWrite passes the end of a direction on, or io.EOF where that cannot be
// told but by closing everything.
func closeWrite(w io.Writer) error {
	cw, ok := w.(interface{ CloseWrite() error })
	if !ok {
		return io.EOF
	}
	err := cw.CloseWrite()
	if errors.Is(err, errors.ErrUnsupported) {
		return io.EOF
	}
	return err
}

// copy moves data until the reader's end, for which it returns nil.
func (p *pump) copy(dir int, w io.Writer, rd io.Reader) error {
	if done, err := p.splice(dir, w, rd); done {
		return err
	}
	buf := p.r.newBuffers()
	defer buf.release()
	for {
		n, err := rd.Read(buf.b[:p.pace.piece(len(buf.b))])
		if n > 0 {
			if werr := p.write(dir, w, buf.b[:n]); werr != nil {
				return werr
			}
			if werr := p.progress(dir, n); werr != nil {
				return werr
			}
		}
		if err == io.EOF { // by the contract of io.Reader not wrapped
			return nil
		}
		if err != nil {
			return err
		}
		buf.fit(n)
	}
}

// buffers is the buffer of one direction: small at rest, large while there is
// much to do.
type buffers struct {
	r     *Relayer
	small []byte
	large *[]byte // nil at rest; returned to the relayer's pool
	b     []byte  // the one to use
}

func (r *Relayer) newBuffers() *buffers {
	small := make([]byte, min(restBuffer, withDefault(r.BufferSize, defaultBuffer)))
	return &buffers{r: r, small: small, b: small}
}

// fit chooses the buffer by the n bytes that were read into the last one.
func (b *buffers) fit(n int) {
	switch size := withDefault(b.r.BufferSize, defaultBuffer); {
	case b.large == nil && n == len(b.small) && n < size:
		large, ok := b.r.buffers.Get().(*[]byte)
		if !ok || len(*large) != size {
			large = new(make([]byte, size))
		}
		b.large, b.b = large, *large
	case b.large != nil && n < len(b.small):
		b.release()
		b.b = b.small
	}
}

func (b *buffers) release() {
	if b.large != nil {
		b.r.buffers.Put(b.large)
		b.large = nil
	}
}

func (p *pump) write(dir int, w io.Writer, b []byte) error {
	p.block(dir)
	_, err := w.Write(b)
	p.unblock(dir)
	return err
}

// progress accounts for n bytes that were moved, and waits as long as the
// rates demand.
func (p *pump) progress(dir, n int) error {
	p.moved[dir].Add(int64(n))
	p.r.stats.bytes.Add(int64(n))
	if p.charge != nil {
		if err := p.charge(n); err != nil {
			return err
		}
	}
	err := p.pace.wait(p.ctx, n)
	p.active.Store(int64(time.Since(p.begun))) // to wait for one's turn is not to be idle
	return err
}

// block notes that a peer takes nothing from now on, unblock that it did.
func (p *pump) block(dir int) { p.blocked[dir].Store(max(1, int64(time.Since(p.begun)))) }

func (p *pump) unblock(dir int) {
	p.blocked[dir].Store(0)
	p.active.Store(int64(time.Since(p.begun)))
}

// startWatch ends the pair when nothing moves for too long. One timer serves
// both directions: it looks, and sleeps until the next deadline there can be.
func (p *pump) startWatch() {
	idle, stuck := max(0, p.r.IdleTimeout), withDefault(p.r.WriteTimeout, DefaultWriteTimeout)
	if idle == 0 && stuck == 0 {
		return
	}
	p.watch = time.AfterFunc(time.Hour, func() { p.look(idle, stuck) })
	p.watch.Reset(0)
}

// look ends the pair if one of its times is up, and else comes back when that
// can be next.
func (p *pump) look(idle, stuck time.Duration) {
	if p.ctx.Err() != nil {
		return
	}
	now := time.Since(p.begun)
	next := time.Duration(math.MaxInt64)
	if idle > 0 {
		next = time.Duration(p.active.Load()) + idle - now
		if next <= 0 {
			p.r.stats.idle.Add(1)
			p.cancel(errIdle)
			return
		}
	}
	if stuck > 0 {
		next = min(next, stuck/watchFraction)
		for dir := range p.blocked {
			since := time.Duration(p.blocked[dir].Load())
			if since == 0 {
				continue
			}
			if now-since >= stuck {
				p.r.stats.stuck.Add(1)
				p.cancel(errStuck)
				return
			}
			next = min(next, since+stuck-now)
		}
	}
	p.watch.Reset(next)
}

// watchFraction is how much later than WriteTimeout a stuck pair may be
// noticed: a quarter of it.
const watchFraction = 4
