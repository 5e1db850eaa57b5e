package pubsub

import (
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
)

// Reopening of our outbound stream. rust-libp2p switches gossipsub off for a
// connection after five streams, so reopening has to be rare.
const (
	reopenAttempts   = 4
	reopenWindow     = 10 * time.Minute
	minReopenBackoff = 100 * time.Millisecond
	maxReopenBackoff = 10 * time.Second

	// openTimeout bounds opening a stream, which may wait for identify.
	openTimeout = 30 * time.Second
)

// run keeps our outbound stream open while the peer is there.
func (p *Peer) run(ctx context.Context) {
	attempts, since := 0, p.ps.now()
	for ctx.Err() == nil && !p.draining.Load() {
		select {
		case <-p.fresh: // this attempt is on it
		default:
		}
		s, err := p.ps.openStream(ctx, p.id, p.ps.cfg.Protocols...)
		if err == nil {
			err = p.serve(ctx, s)
		}
		if ctx.Err() != nil || p.draining.Load() {
			return
		}
		p.ps.log.Debug("outbound stream ended", "peer", p.id, "err", err)
		if now := p.ps.now(); now.Sub(since) > reopenWindow {
			attempts, since = 0, now
		}
		if unsupported(err) {
			p.awaitRetry(ctx)
			continue
		}
		attempts++
		if attempts >= reopenAttempts {
			if p.pause(ctx, reopenWindow) {
				attempts = 0
			}
			continue
		}
		p.pause(ctx, reopenBackoff(attempts))
	}
}

func reopenBackoff(attempt int) time.Duration {
	return min(minReopenBackoff<<(2*(attempt-1)), maxReopenBackoff)
}

func unsupported(err error) bool {
	_, ok := errors.AsType[multistream.ErrNotSupported[protocol.ID]](err)
	return ok
}

// pause waits for d, or less if there is a new connection to the peer, and
// reports whether there is.
func (p *Peer) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.fresh:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// awaitRetry waits until the peer may speak our protocols after all.
func (p *Peer) awaitRetry(ctx context.Context) {
	select {
	case <-p.retry:
	case <-ctx.Done():
	}
}

// mayRetry says that it is worth trying to open a stream again.
func (p *Peer) mayRetry() {
	select {
	case p.retry <- struct{}{}:
	default:
	}
}

// serve tells the router that the peer can be sent to, and sends what there is
// until that fails.
func (p *Peer) serve(ctx context.Context, s network.Stream) error {
	p.stats.opens.Add(1)
	p.setStream(s)
	p.hello()
	p.ps.peerOpened(p, s)
	p.mu.Lock()
	close(p.ready)
	p.mu.Unlock()

	err := p.serveStreams(ctx, s)

	p.mu.Lock()
	p.stream, p.proto, p.ready = nil, "", make(chan struct{})
	p.mu.Unlock()
	p.ps.peerClosed(p)
	return err
}

// serveStream writes to a stream until it fails or the peer ends it.
func (p *Peer) serveStream(ctx context.Context, s network.Stream) error {
	gone := make(chan struct{})
	p.ps.wg.Go(func() {
		defer close(gone)
		// The stream is ours to write and the peer's to read: a byte that
		// comes back is a violation, and anything else is the end.
		var b [1]byte
		_, err := s.Read(b[:])
		p.ps.log.Debug("outbound stream closed by peer", "peer", p.id, "err", err)
		_ = s.Reset() // frees the writer
	})
	err := p.writeLoop(ctx, s, gone)
	_ = s.Reset()
	<-gone
	return err
}

var (
	errStreamGone = errors.New("pubsub: stream closed by the peer")
	errStreamDone = errors.New("pubsub: stream closed by us")
)

func (p *Peer) writeLoop(ctx context.Context, s network.Stream, gone <-chan struct{}) error {
	turn := &bulkTurn{gate: p.ps.bulkWrites, slow: p.bulkSlow}
	defer func() {
		turn.stop()
		p.bulkSlow = turn.slow
	}()
	w := &batchWriter{w: s, progress: func() {
		p.writeSince.Store(p.ps.now().UnixNano())
		turn.begin()
	}}
	defer w.idle()
	defer p.writeSince.Store(0)
	var b batch
	unproven := p.unprovenHabit()
	for greeted := false; ; greeted = true {
		b.reset()
		onlyBulk, hasBulk := p.takeBatch(&b, turn.may())
		switch {
		case !b.empty():
			if unproven && !greeted {
				if err := p.writeFirst(w, &b); err != nil {
					return err
				}
			}
			if err := p.writeBatch(w, turn, &b); err != nil {
				return err
			}
			if hasBulk && !turn.may() {
				turn.try()
			}
			continue
		case !greeted:
			if err := w.greet(); err != nil {
				return err
			}
			continue
		}
		w.idle()
		p.writeSince.Store(0)
		if !hasBulk {
			turn.release()
			if p.draining.Load() {
				return p.finish(ctx, s, gone)
			}
		}
		if err := p.awaitWork(ctx, turn, onlyBulk, gone); err != nil {
			return err
		}
	}
}

func (p *Peer) writeBatch(w *batchWriter, turn *bulkTurn, b *batch) error {
	w.tap = p.ps.sendTap(p)
	p.keep(b)
	err := w.write(b)
	turn.done(b.bulk)
	p.sent(w, b)
	return err
}

// awaitWork waits until there is something to write or, if only messages of
// the bulk lane wait, for the turn to write one.
func (p *Peer) awaitWork(ctx context.Context, turn *bulkTurn, onlyBulk bool, gone <-chan struct{}) error {
	var gate chan<- struct{}
	if onlyBulk && !turn.may() {
		gate = turn.gate
	}
	select {
	case gate <- struct{}{}:
		turn.taken()
	case <-p.wake:
	case <-gone:
		return errStreamGone
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// finish ends a stream after everything was written. The peer closes its end
// when it has read it all.
func (p *Peer) finish(ctx context.Context, s network.Stream, gone <-chan struct{}) error {
	select {
	case <-gone:
		return errStreamGone
	default:
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	select {
	case <-gone:
	case <-ctx.Done():
	}
	return errStreamDone
}

// takeBatch fills a batch with what is to be written next. It reports whether
// bulk messages still wait, and whether nothing else does.
func (p *Peer) takeBatch(b *batch, bulk bool) (onlyBulk, hasBulk bool) {
	now := p.ps.now()
	p.mu.Lock()
	p.out.take(now, b, bulk)
	onlyBulk, hasBulk = p.out.onlyBulk(), p.out.lanes[LaneBulk].len() > 0
	p.waiting.Store(int64(p.waitingLocked()))
	p.stalled = false
	if p.room != nil {
		close(p.room)
		p.room = nil
	}
	drops := p.takeDropsLocked()
	p.mu.Unlock()
	p.report(drops)
	return onlyBulk, hasBulk
}

func (p *Peer) sent(w *batchWriter, b *batch) {
	p.stats.rpcsSent.Add(uint64(w.rpcs))
	p.stats.bytesSent.Add(uint64(w.bytes))
	p.stats.msgsSent.Add(uint64(len(b.msgs)))
	p.ps.stats.rpcsSent.Add(uint64(w.rpcs))
	p.ps.stats.messagesSent.Add(uint64(len(b.msgs)))
}
