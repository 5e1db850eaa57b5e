package pubsub

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	pb "github.com/muster-p2p/muster/pubsub/pb"
	"github.com/muster-p2p/muster/pubsub/wire"
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

// Errors of sending to a peer.
var (
	// ErrQueueFull is returned when a message found no room in a bounded queue.
	ErrQueueFull = errors.New("pubsub: queue full")
	// ErrPeerGone is returned when the peer has disconnected.
	ErrPeerGone = errors.New("pubsub: peer gone")
	// ErrMessageTooLarge is returned for a message that would make an RPC
	// longer than Config.MaxMessageSize.
	ErrMessageTooLarge = errors.New("pubsub: message too large")
)

// A Verdict is what an observer does to an RPC.
type Verdict uint8

const (
	// Keep leaves the RPC as it is.
	Keep Verdict = iota
	// Modified says that the observer changed the RPC.
	Modified
	// Drop drops the whole RPC.
	Drop
)

// An Observer sees what is exchanged with peers; nil functions are not
// called. They run in the order given, on the goroutine that serves the peer,
// and so must not block nor wait for anything that this peer does. A panic in
// one is contained and drops the RPC.
type Observer struct {
	// OnRecv sees each RPC after the limits were applied and before routing.
	OnRecv func(p *Peer, rpc *RPC) Verdict
	// OnSend sees each RPC before it is written. Each peer's RPC is a copy.
	OnSend func(p *Peer, rpc *RPC) Verdict
	// OnValidated sees each message that was accepted, with the peer that sent it.
	OnValidated func(p *Peer, msg *Message)
}

// PeerStats counts what was exchanged with a peer.
type PeerStats struct {
	RPCsSent, RPCsReceived         uint64
	BytesSent, BytesReceived       uint64
	MessagesSent, MessagesReceived uint64 // received: duplicates too
	Duplicates                     uint64
	// Dropped counts what was queued for the peer and not sent: for want of
	// room, because it was too old, or because the peer did not want it.
	DroppedFull, DroppedExpired, DroppedUnwanted uint64
	// Queued and QueuedBytes are what waits now.
	Queued, QueuedBytes int
	Streams             int // inbound streams open now
	Opens               uint64
}

// A Peer is one remote peer: its outbound stream, what waits to be sent on
// it, and its inbound streams. It exists from the first connection to the
// peer until the last one closes. All methods may be called at any time from
// any goroutine.
type Peer struct {
	id     peer.ID
	ps     *PubSub
	cancel context.CancelFunc
	done   <-chan struct{}
	wake   chan struct{} // there is something to send
	ended  chan struct{} // closed when run returns
	retry  chan struct{} // it is worth trying to open again

	mu        sync.Mutex // guards what follows, never held across I/O or a call
	out       *outbox
	stream    network.Stream // outbound; nil if it is not open
	proto     protocol.ID
	ready     chan struct{} // closed while the outbound stream is open
	room      chan struct{} // closed when a queue has room again; nil if nobody waits
	inbound   map[*inbound]struct{}
	lastOpen  chan struct{} // done channel of the inbound stream opened last
	drops     []item        // dropped with tracers present, to be reported
	closing   bool
	badFrames int

	waiting    atomic.Int64  // messages queued, so that readers need not lock
	score      atomic.Uint64 // float bits, as of the last heartbeat or penalty
	writeSince atomic.Int64  // when the write that runs began, in Unix nanoseconds; 0 if none
	badSigs    atomic.Int64
	draining   atomic.Bool    // send what waits, then end the stream
	bulkSlow   bool           // the writer's own: large messages were not taken in time
	idw        idontwantTuner // guarded by idwMu
	idwMu      sync.Mutex

	stats struct {
		rpcsSent, rpcsRecv, bytesSent, bytesRecv, msgsSent, msgsRecv, dups, opens atomic.Uint64
		slow                                                                      atomic.Int64 // drops since the last heartbeat
	}
}

func newPeer(ps *PubSub, id peer.ID) *Peer {
	ctx, cancel := context.WithCancel(ps.ctx)
	p := &Peer{
		id:      id,
		ps:      ps,
		cancel:  cancel,
		done:    ctx.Done(),
		wake:    make(chan struct{}, 1),
		ended:   make(chan struct{}),
		retry:   make(chan struct{}, 1),
		ready:   make(chan struct{}),
		out:     newOutbox(ps.cfg.laneLimits()),
		inbound: make(map[*inbound]struct{}),
	}
	p.out.onDrop = p.noteDrop
	ps.wg.Go(func() {
		defer close(p.ended)
		p.run(ctx)
	})
	return p
}

// ID returns the peer's id.
func (p *Peer) ID() peer.ID { return p.id }

// Protocol returns the protocol of our outbound stream, which decides what
// may be sent, or "" while none is open.
func (p *Peer) Protocol() protocol.ID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proto
}

// String returns the peer's id as text.
func (p *Peer) String() string { return p.id.String() }

// Ready waits until our outbound stream is open.
func (p *Peer) Ready(ctx context.Context) error {
	p.mu.Lock()
	ready := p.ready
	p.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-p.done:
		return ErrPeerGone
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stats returns a snapshot of the peer's counters.
func (p *Peer) Stats() PeerStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, bytes := p.out.queued()
	return PeerStats{
		RPCsSent: p.stats.rpcsSent.Load(), RPCsReceived: p.stats.rpcsRecv.Load(),
		BytesSent: p.stats.bytesSent.Load(), BytesReceived: p.stats.bytesRecv.Load(),
		MessagesSent: p.stats.msgsSent.Load(), MessagesReceived: p.stats.msgsRecv.Load(),
		Duplicates:  p.stats.dups.Load(),
		DroppedFull: p.out.dropped[dropFull], DroppedExpired: p.out.dropped[dropExpired], DroppedUnwanted: p.out.dropped[dropUnwanted],
		Queued: n, QueuedBytes: bytes,
		Streams: len(p.inbound), Opens: p.stats.opens.Load(),
	}
}

func (p *Peer) wakeWriter() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// SendSubscriptions announces that we are in topics, or left them. It is
// state, not a message: only the last word on a topic is sent, and a stream
// that opens anew begins with all the topics we are in then.
func (p *Peer) SendSubscriptions(topics []string, subscribe bool) {
	p.change(func(o *outbox) {
		for _, t := range topics {
			o.announce(t, subscribe)
		}
	})
}

// SendGraft sends GRAFT for topics, in place of a PRUNE that still waits. It
// does not change the router's mesh.
func (p *Peer) SendGraft(topics ...string) {
	p.change(func(o *outbox) {
		for _, t := range topics {
			o.graft(t)
		}
	})
}

// SendPrune sends PRUNE for topics, in place of a GRAFT that still waits,
// with a back-off of whole seconds; less than one leaves it out. It does not
// change the router's mesh.
func (p *Peer) SendPrune(backoff time.Duration, topics ...string) {
	p.change(func(o *outbox) {
		for _, t := range topics {
			o.prune(wire.OutPrune{Topic: t, Backoff: uint64(max(backoff, 0) / time.Second)})
		}
	})
}

func (p *Peer) sendPrune(pr wire.OutPrune) { p.change(func(o *outbox) { o.prune(pr) }) }

// change changes what waits and wakes the writer.
func (p *Peer) change(f func(*outbox)) {
	p.mu.Lock()
	f(p.out)
	p.waiting.Store(int64(p.waitingLocked()))
	p.mu.Unlock()
	p.wakeWriter()
}

func (p *Peer) waitingLocked() int {
	n, _ := p.out.queued()
	return n
}

// Send queues an RPC and returns at once. Messages go into the lane, or into
// LaneBulk if they are large; subscriptions, GRAFT and PRUNE are merged into
// what waits already. It returns ErrQueueFull if a message found no room, and
// ErrMessageTooLarge if it could never be sent; what comes before it is queued.
func (p *Peer) Send(rpc *RPC, ln Lane) error { return p.send(rpc, ln, p.enqueue) }

// SendWait is Send that waits for room until ctx is done.
func (p *Peer) SendWait(ctx context.Context, rpc *RPC, ln Lane) error {
	return p.send(rpc, ln, func(m *Message, ln Lane) error { return p.enqueueWait(ctx, m, ln) })
}

func (p *Peer) send(rpc *RPC, ln Lane, enqueue func(*Message, Lane) error) error {
	msgs, err := messagesOf(&rpc.RPC, p.ps.self)
	if err != nil {
		return err
	}
	p.change(func(o *outbox) {
		for _, s := range rpc.Subscriptions {
			o.announce(s.GetTopicid(), s.GetSubscribe())
		}
		if rpc.Control != nil {
			p.mergeControl(o, rpc.Control)
		}
	})
	for _, m := range msgs {
		if m.enc.size() > p.ps.cfg.MaxMessageSize {
			return fmt.Errorf("%w: %d bytes", ErrMessageTooLarge, m.enc.size())
		}
		if err := p.ps.identify(m); err != nil {
			return err
		}
		if err := enqueue(m, p.ps.laneOf(m, ln)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Peer) mergeControl(o *outbox, c *pb.ControlMessage) {
	now := p.ps.now()
	for _, g := range c.Graft {
		o.graft(g.GetTopicID())
	}
	for _, pr := range c.Prune {
		o.prune(wire.OutPrune{Topic: pr.GetTopicID(), Backoff: pr.GetBackoff(), Peers: peersOf(pr.Peers)})
	}
	for _, l := range c.Idontwant {
		for _, id := range l.MessageIDs {
			o.dontWant(id)
		}
	}
	for _, h := range c.Ihave {
		o.push(now, ihaveItem(h.GetTopicID(), h.MessageIDs), LaneGossip)
	}
	for _, l := range c.Iwant {
		o.push(now, iwantItem(l.MessageIDs), LaneGossip)
	}
}

func ihaveItem(topic string, ids []string) item {
	return item{ihave: &wire.OutIHave{Topic: topic, IDs: ids}, size: len(topic) + idBytes(ids)}
}

func iwantItem(ids []string) item { return item{iwant: ids, size: idBytes(ids)} }

func idBytes(ids []string) int {
	n := 0
	for _, id := range ids {
		n += len(id) + 2
	}
	return n
}

// gossip queues a piece of gossip; if there is no room the oldest goes.
func (p *Peer) gossip(now time.Time, it item) {
	p.change(func(o *outbox) { o.push(now, it, LaneGossip) })
}

// dontWant tells the peer that it need not send a message.
func (p *Peer) dontWant(id string) { p.change(func(o *outbox) { o.dontWant(id) }) }

// enqueue queues a message without waiting.
func (p *Peer) enqueue(m *Message, ln Lane) error {
	now := p.ps.now()
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		return ErrPeerGone
	}
	if p.out.unwanted.has(m.key) {
		p.out.dropped[dropUnwanted]++
		p.mu.Unlock()
		return nil
	}
	ok := p.out.push(now, item{msg: m, key: m.key, size: m.enc.size()}, ln)
	p.waiting.Store(int64(p.waitingLocked()))
	drops := p.takeDropsLocked()
	p.mu.Unlock()
	p.report(drops)
	if !ok {
		p.stats.slow.Add(1)
		return ErrQueueFull
	}
	p.wakeWriter()
	return nil
}

// enqueueWait queues a message when there is room.
func (p *Peer) enqueueWait(ctx context.Context, m *Message, ln Lane) error {
	for {
		p.mu.Lock()
		if p.closing || p.out.room(m.enc.size(), ln) {
			p.mu.Unlock()
			return p.enqueue(m, ln)
		}
		if p.room == nil {
			p.room = make(chan struct{})
		}
		room := p.room
		p.mu.Unlock()
		select {
		case <-room:
		case <-p.done:
			return ErrPeerGone
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrQueueFull, ctx.Err())
		}
	}
}

// noteDrop is called with the lock held.
func (p *Peer) noteDrop(it item, why dropReason) {
	p.ps.stats.dropped[why].Add(1)
	if it.msg != nil && why != dropUnwanted && p.ps.trace.active() {
		p.drops = append(p.drops, it)
	}
}

func (p *Peer) takeDropsLocked() []item {
	d := p.drops
	p.drops = nil
	return d
}

func (p *Peer) report(drops []item) {
	for _, it := range drops {
		p.ps.trace.dropRPC(&RPC{RPC: pb.RPC{Publish: []*pb.Message{it.msg.Message}}, from: p.ps.self}, p.id)
	}
}

// unwant notes that the peer has a message, or will: copies of it that still
// wait are not sent.
func (p *Peer) unwant(k seenKey) {
	p.mu.Lock()
	p.out.unwanted.add(k)
	p.mu.Unlock()
}

// has is unwant for a peer that sent the message itself. It costs nothing
// where nothing waits.
func (p *Peer) has(k seenKey) {
	if p.waiting.Load() > 0 {
		p.unwant(k)
	}
}

// Score returns the peer's score, as of the last heartbeat or penalty.
func (p *Peer) Score() float64 { return math.Float64frombits(p.score.Load()) }

func (p *Peer) setScore(s float64) { p.score.Store(math.Float64bits(s)) }

// run keeps our outbound stream open while the peer is there.
func (p *Peer) run(ctx context.Context) {
	attempts, since := 0, p.ps.now()
	for ctx.Err() == nil && !p.draining.Load() {
		s, err := p.ps.openStream(ctx, p.id)
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
			p.awaitRetry(ctx, 0)
			continue
		}
		attempts++
		if attempts >= reopenAttempts {
			p.awaitRetry(ctx, reopenWindow)
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

func (p *Peer) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// awaitRetry waits until the peer may speak our protocols after all, or for d
// if that is not zero.
func (p *Peer) awaitRetry(ctx context.Context, d time.Duration) {
	if d > 0 {
		p.pause(ctx, d)
		return
	}
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

// serve writes to an outbound stream until it fails.
func (p *Peer) serve(ctx context.Context, s network.Stream) error {
	p.stats.opens.Add(1)
	p.mu.Lock()
	p.out.reopened()
	p.stream, p.proto = s, s.Protocol()
	p.mu.Unlock()
	// Topics that we join from here on are announced to all peers; those
	// before are in the hello. One may be in both, none in neither.
	p.SendSubscriptions(p.ps.topicsIn(), true)
	p.ps.peerOpened(p, s)
	p.mu.Lock()
	close(p.ready)
	p.mu.Unlock()

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

	p.mu.Lock()
	p.stream, p.proto, p.ready = nil, "", make(chan struct{})
	p.mu.Unlock()
	p.ps.peerClosed(p)
	return err
}

var errStreamGone = errors.New("pubsub: stream closed by the peer")

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
	greeted := false
	for {
		b.reset()
		onlyBulk, hasBulk := p.takeBatch(&b, turn.may())
		if b.empty() {
			if !greeted {
				greeted = true
				if err := w.greet(); err != nil {
					return err
				}
			}
			w.idle()
			p.writeSince.Store(0)
			if p.draining.Load() {
				return p.finish(ctx, s, gone)
			}
			// A message of the bulk lane waits for its turn on this host.
			var gate chan<- struct{}
			if !hasBulk {
				turn.release()
			}
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
			continue
		}
		greeted = true
		w.tap = p.ps.sendTap(p)
		err := w.write(&b)
		turn.done(b.bulk)
		p.sent(w, &b)
		if err != nil {
			return err
		}
		if hasBulk && !turn.may() {
			turn.try()
		}
	}
}

// finish ends a stream after everything was written. The peer closes its end
// when it has read it all.
func (p *Peer) finish(ctx context.Context, s network.Stream, gone <-chan struct{}) error {
	if err := s.CloseWrite(); err != nil {
		return err
	}
	select {
	case <-gone:
	case <-ctx.Done():
	}
	return errStreamGone
}

// takeBatch fills a batch with what is to be written next. It reports whether
// bulk messages still wait, and whether nothing else does.
func (p *Peer) takeBatch(b *batch, bulk bool) (onlyBulk, hasBulk bool) {
	now := p.ps.now()
	p.mu.Lock()
	p.out.take(now, b, bulk)
	onlyBulk, hasBulk = p.out.onlyBulk(), p.out.lanes[LaneBulk].len() > 0
	p.waiting.Store(int64(p.waitingLocked()))
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

// tick is called at every heartbeat: it ends streams that are stuck and ages
// what the peer does not want.
func (p *Peer) tick(now time.Time) {
	var stuck []network.Stream
	p.mu.Lock()
	p.out.unwanted.beat(max(1, p.ps.cfg.Params.IDontWantMessageTTL))
	if t := p.writeSince.Load(); t != 0 && now.Sub(time.Unix(0, t)) > p.ps.cfg.WriteTimeout && p.stream != nil {
		stuck = append(stuck, p.stream)
	}
	for in := range p.inbound {
		if in.stuck(now, &p.ps.cfg) {
			stuck = append(stuck, in.s)
		}
	}
	p.mu.Unlock()
	p.ps.stats.stuckStreams.Add(uint64(len(stuck)))
	p.ps.reset(stuck)
}

// close ends the peer's goroutines; it does not wait for them.
func (p *Peer) close() {
	p.mu.Lock()
	p.closing = true
	streams := make([]network.Stream, 0, 1+len(p.inbound))
	if p.stream != nil {
		streams = append(streams, p.stream)
	}
	for in := range p.inbound {
		streams = append(streams, in.s)
	}
	p.mu.Unlock()
	p.cancel()
	p.ps.reset(streams)
}

// reset resets streams without waiting: on a connection that is stuck, even
// that takes its time. The caller is one of the room's goroutines, or Close.
func (ps *PubSub) reset(streams []network.Stream) {
	if len(streams) == 0 {
		return
	}
	ps.wg.Go(func() {
		for _, s := range streams {
			_ = s.Reset()
		}
	})
}

// tuneSend decides whether an IDONTWANT for a message of size bytes is worth
// its bytes towards this peer.
func (p *Peer) tuneSend(k seenKey, size int) bool {
	p.idwMu.Lock()
	defer p.idwMu.Unlock()
	return p.idw.send(k, size, p.ps.cfg.Params.IDontWantMessageThreshold)
}

// tuneDuplicate tells the tuner that the peer sent a duplicate.
func (p *Peer) tuneDuplicate(k seenKey, size int) {
	p.idwMu.Lock()
	defer p.idwMu.Unlock()
	p.idw.duplicate(k, size, p.ps.cfg.Params.IDontWantMessageThreshold)
}

// opened reports whether our outbound stream is open.
func (p *Peer) opened() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stream != nil
}
