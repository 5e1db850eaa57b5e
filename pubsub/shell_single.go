package pubsub

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// keep notes what is about to be written to a floodsub peer that may have read
// its last RPC of this stream.
func (p *Peer) keep(b *batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proto == FloodSubID && !p.habit.lasting {
		p.kept.add(b)
	}
}

// unprovenHabit reports whether the peer may read only one RPC of our stream.
func (p *Peer) unprovenHabit() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proto == FloodSubID && !p.habit.lasting
}

// writeFirst begins a stream of which the peer may read only one RPC with
// subscriptions or with an empty RPC, of a size that it takes, and not with
// messages: those cannot be lost then.
func (p *Peer) writeFirst(w *batchWriter, b *batch) error {
	p.keep(&batch{subs: b.subs})
	if len(b.subs) == 0 {
		return w.greet()
	}
	w.limit = singleRPCBytes
	defer func() { w.limit = 0 }()
	return p.writeState(w, b)
}

// writeState writes what a batch holds besides messages, and takes it out.
func (p *Peer) writeState(w *batchWriter, b *batch) error {
	w.tap = p.ps.sendTap(p)
	state := *b
	state.msgs = nil
	err := w.write(&state)
	p.sent(w, &state)
	b.subs, b.grafts, b.prunes, b.idontwant, b.ihave, b.iwant = b.subs[:0], b.grafts[:0], b.prunes[:0], b.idontwant[:0], b.ihave[:0], b.iwant[:0]
	return err
}

// provenLocked forgets what was kept once the stream has lasted.
func (p *Peer) provenLocked(now time.Time) {
	if p.stream != nil && p.proto == FloodSubID && !p.habit.lasting && p.habit.lasted(now.Sub(p.openedAt)) {
		p.kept = unproven{}
	}
}

// serveStreams writes to a stream and, as the peer's habit turns out when it
// has ended, to others after it.
func (p *Peer) serveStreams(ctx context.Context, s network.Stream) error {
	for {
		err := p.serveStream(ctx, s)
		single, doubt := p.streamEnded(errors.Is(err, errStreamDone))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case single:
			return p.writeSingly(ctx)
		case !doubt:
			return err
		}
		if s, err = p.ps.openStream(ctx, p.id, FloodSubID); err != nil { // the router knows it by this one
			return err
		}
		p.setStream(s)
		p.hello()
	}
}

// streamEnded notes the end of a stream. It reports whether the peer gets one
// for each RPC, and whether another stream would show.
func (p *Peer) streamEnded(closed bool) (single, doubt bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proto != FloodSubID {
		return false, false
	}
	single = p.habit.ended(p.ps.now().Sub(p.openedAt), closed)
	return single, !p.habit.lasting && p.habit.ends > 0
}

// setStream notes the stream that is written to.
func (p *Peer) setStream(s network.Stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stream, p.proto, p.openedAt = s, s.Protocol(), p.ps.now()
}

// hello makes the next stream begin with the topics that we are in. Topics
// that we join from here on are announced to all peers; those before are in
// the hello. One may be in both, none in neither.
func (p *Peer) hello() {
	p.mu.Lock()
	p.out.reopened()
	p.out.giveBack(&p.kept)
	p.mu.Unlock()
	p.SendSubscriptions(p.ps.topicsIn(), true)
}

// writeSingly sends each RPC on a stream of its own until that fails.
func (p *Peer) writeSingly(ctx context.Context) error {
	p.mu.Lock()
	p.stream = nil
	p.mu.Unlock()
	p.ps.log.Debug("peer reads one RPC of each stream", "peer", p.id)
	p.hello()
	ss := &singleWriter{ctx: ctx, p: p, slots: make(chan struct{}, singleStreams)}
	defer ss.settle()
	w := &batchWriter{w: ss, progress: func() {}, limit: singleRPCBytes, each: true}
	defer w.idle()
	var b batch
	for {
		b.reset()
		p.takeBatch(&b, true)
		p.mu.Lock()
		p.out.dropLong(&b)
		p.kept.items, p.kept.bytes = nil, 0
		p.kept.add(&b) // goes back if no stream can be opened
		drops := p.takeDropsLocked()
		p.mu.Unlock()
		p.report(drops)
		if !b.empty() {
			if err := p.writeSingleBatch(w, ss, &b); err != nil {
				return err
			}
			continue
		}
		if p.waiting.Load() > 0 {
			continue
		}
		if p.draining.Load() {
			return errStreamDone
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// writeSingleBatch writes a batch. Streams overtake each other, so the peer
// has read all that came before a subscription, and the subscription, before
// anything else is written.
func (p *Peer) writeSingleBatch(w *batchWriter, ss *singleWriter, b *batch) error {
	w.tap = p.ps.sendTap(p)
	if len(b.subs) > 0 {
		ss.settle()
		err := p.writeState(w, b)
		ss.settle()
		if err != nil {
			return err
		}
	}
	err := w.write(b)
	p.sent(w, b)
	return err
}

// A singleWriter opens a stream for each Write. Only one goroutine calls its
// methods.
type singleWriter struct {
	ctx   context.Context // the peer's
	p     *Peer
	slots chan struct{} // one taken per open stream
	wg    sync.WaitGroup
}

// Write sends a frame on a stream of its own, and on another if that one was
// refused. It waits while too many are open, and not for the peer to read it.
func (w *singleWriter) Write(frame []byte) (int, error) {
	n, err := w.writeOnce(frame)
	if err != nil && w.ctx.Err() == nil {
		n, err = w.writeOnce(frame)
	}
	return n, err
}

func (w *singleWriter) writeOnce(frame []byte) (int, error) {
	select {
	case w.slots <- struct{}{}:
	case <-w.ctx.Done():
		return 0, w.ctx.Err()
	}
	s, err := w.p.ps.openStream(w.ctx, w.p.id, FloodSubID)
	if err != nil {
		<-w.slots
		return 0, err
	}
	ctx, cancel := context.WithTimeout(w.ctx, w.p.ps.cfg.WriteTimeout)
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	n, err := s.Write(frame)
	w.wg.Go(func() {
		defer func() {
			stop()
			cancel()
			_ = s.Reset()
			<-w.slots
		}()
		if err == nil {
			awaitEnd(s)
		}
	})
	return n, err
}

// awaitEnd closes our end of a stream and waits for the peer to close its own,
// which it does when it has read what we wrote.
func awaitEnd(s network.Stream) {
	_ = s.CloseWrite()
	var b [1]byte
	_, _ = s.Read(b[:])
}

// settle waits until every stream has ended, each for the write time-out at
// most.
func (w *singleWriter) settle() { w.wg.Wait() }
