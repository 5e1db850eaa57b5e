package pubsub

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/muster-p2p/muster/pubsub/wire"
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
	DroppedTooLong                               uint64 // for the one RPC of a stream that the peer reads
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
	fresh  chan struct{} // there is a new connection

	mu        sync.Mutex // guards what follows, never held across I/O or a call
	out       *outbox
	stream    network.Stream // outbound; nil if it is not open
	proto     protocol.ID
	ready     chan struct{} // closed while the outbound stream is open
	room      chan struct{} // closed when a queue has room again; nil if nobody waits
	stalled   bool          // Publish gave up on it, and the writer has taken nothing since
	inbound   map[*inbound]struct{}
	lastOpen  chan struct{} // done channel of the inbound stream opened last
	drops     []item        // dropped with tracers present, to be reported
	closing   bool
	badFrames int
	openedAt  time.Time   // of stream
	habit     streamHabit // of a floodsub peer
	kept      unproven    // to be sent again if the peer did not read it

	sourceOnce sync.Once
	from       gaterSource // set once, by source

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
		fresh:   make(chan struct{}, 1),
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
		DroppedTooLong: p.out.dropped[dropTooLong],
		Queued:         n, QueuedBytes: bytes,
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

// Score returns the peer's score, as of the last heartbeat or penalty.
func (p *Peer) Score() float64 { return math.Float64frombits(p.score.Load()) }

func (p *Peer) setScore(s float64) { p.score.Store(math.Float64bits(s)) }

// tick is called at every heartbeat: it ends streams that are stuck and ages
// what the peer does not want.
func (p *Peer) tick(now time.Time) {
	var stuck []network.Stream
	p.mu.Lock()
	p.provenLocked(now)
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

// opened reports whether the peer can be sent to.
func (p *Peer) opened() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proto != ""
}
