package pubsub

import (
	"context"
	"fmt"
	"time"

	pb "github.com/muster-p2p/muster/pubsub/pb"
	"github.com/muster-p2p/muster/pubsub/wire"
)

// Send queues an RPC and returns at once. Messages go into the lane, or into
// LaneBulk if they are large; subscriptions, GRAFT and PRUNE are merged into
// what waits already. It returns ErrQueueFull if a message found no room, and
// ErrMessageTooLarge if it could never be sent; what comes before it is queued.
func (p *Peer) Send(rpc *RPC, ln Lane) error { return p.send(rpc, ln, p.enqueue) }

// SendWait is Send that waits for room until ctx is done.
func (p *Peer) SendWait(ctx context.Context, rpc *RPC, ln Lane) error {
	return p.send(rpc, ln, func(m *Message, ln Lane) error { return p.enqueueWait(ctx, m, ln, 0) })
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

// enqueueWait queues a message when there is room. If patience is above zero
// it gives up on a peer that takes nothing for so long, and does not wait for
// that one again until it does.
func (p *Peer) enqueueWait(ctx context.Context, m *Message, ln Lane, patience time.Duration) error {
	for {
		p.mu.Lock()
		if p.closing || p.out.room(m.enc.size(), ln) || patience > 0 && p.stalled {
			p.mu.Unlock()
			return p.enqueue(m, ln)
		}
		if p.room == nil {
			p.room = make(chan struct{})
		}
		room := p.room
		p.mu.Unlock()
		if err := p.awaitRoom(ctx, room, patience); err != nil {
			return err
		}
	}
}

// awaitRoom waits until the writer has taken something, or was given up on.
func (p *Peer) awaitRoom(ctx context.Context, room <-chan struct{}, patience time.Duration) error {
	var late <-chan time.Time
	if patience > 0 {
		t := time.NewTimer(patience)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-room:
		return nil
	case <-late:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stalled = p.room == room // or it took something just now
		return nil
	case <-p.done:
		return ErrPeerGone
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrQueueFull, ctx.Err())
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
