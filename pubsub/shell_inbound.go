package pubsub

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	pb "github.com/muster-p2p/muster/pubsub/pb"
	"github.com/muster-p2p/muster/pubsub/wire"
)

// orderWait is how long a new inbound floodsub stream waits for the one
// before it to end, so that RPCs that came on streams of their own are handled
// in order.
const orderWait = time.Second

// maxBadFrames is how many undecodable RPCs end the connection to a peer.
const maxBadFrames = 3

// An inbound is one stream that a peer writes to.
type inbound struct {
	s    network.Stream
	done chan struct{}
	// since is when the frame being read began, or the stream was opened if
	// there was none yet, in Unix nanoseconds; 0 while waiting for a frame.
	since atomic.Int64
	begun atomic.Bool // a frame is being read
}

// stuck reports whether a frame takes too long.
func (in *inbound) stuck(now time.Time, c *Config) bool {
	t := in.since.Load()
	if t == 0 {
		return false
	}
	limit := c.FirstFrameTimeout
	if in.begun.Load() {
		limit = c.ReadTimeout
	}
	return now.Sub(time.Unix(0, t)) > limit
}

// A reader is what serving one inbound stream needs, used again for each RPC.
type reader struct {
	p       *Peer
	rpc     wire.RPC
	frame   *frame
	scratch []byte     // for ids and signatures
	msg     pb.Message // for message-id functions
	done    chan struct{}
}

// handleStream serves an inbound stream.
func (ps *PubSub) handleStream(s network.Stream) {
	if !ps.enter() {
		_ = s.Reset()
		return
	}
	defer ps.wg.Done()
	id := s.Conn().RemotePeer()
	var p *Peer
	if ps.blacklisted(id) || ps.do(func(time.Time) { p = ps.addPeer(id) }) != nil || p == nil {
		_ = s.Reset()
		return
	}
	p.serveInbound(s)
}

// serveInbound reads a stream to its end.
func (p *Peer) serveInbound(s network.Stream) {
	in := &inbound{s: s, done: make(chan struct{})}
	in.since.Store(p.ps.now().UnixNano())
	defer close(in.done)
	p.mu.Lock()
	if p.closing || len(p.inbound) >= p.maxInbound(s) {
		p.mu.Unlock()
		p.ps.stats.streamsRefused.Add(1)
		_ = s.Reset()
		return
	}
	p.inbound[in] = struct{}{}
	before := p.lastOpen
	p.lastOpen = in.done
	p.mu.Unlock()
	if s.Protocol() == FloodSubID {
		p.awaitOrder(before)
	}
	rpcs, err := p.readLoop(in)
	p.mu.Lock()
	delete(p.inbound, in)
	if s.Protocol() == FloodSubID && errors.Is(err, io.EOF) {
		p.habit.inbound(rpcs)
	}
	p.mu.Unlock()
	if errors.Is(err, io.EOF) {
		_ = s.Close()
		return
	}
	p.ps.log.Debug("inbound stream ended", "peer", p.id, "err", err)
	_ = s.Reset()
}

// floodsubStreams is how many times as many inbound streams a floodsub peer
// may have. rust-libp2p opens one for each RPC, up to the 512 that its yamux
// allows on a connection, and does not say again what was on one that is
// refused. They are read one after the other; the rest wait unread, so that it
// is yamux's windows that hold up the peer.
const floodsubStreams = 64

func (p *Peer) maxInbound(s network.Stream) int {
	if s.Protocol() == FloodSubID {
		return floodsubStreams * p.ps.cfg.MaxStreams
	}
	return p.ps.cfg.MaxStreams
}

func (p *Peer) awaitOrder(before <-chan struct{}) {
	if before == nil {
		return
	}
	t := time.NewTimer(orderWait)
	defer t.Stop()
	select {
	case <-before:
	case <-t.C:
	case <-p.done:
	}
}

// readLoop handles a stream's RPCs until it ends, and returns how many it had.
func (p *Peer) readLoop(in *inbound) (rpcs int, err error) {
	ps := p.ps
	fr := newFrameReader(in.s, ps.cfg.MaxMessageSize, func(waiting bool) {
		in.begun.Store(waiting)
		if waiting {
			in.since.Store(ps.now().UnixNano())
		} else {
			in.since.Store(0)
		}
	})
	rd := &reader{p: p, done: make(chan struct{}, 1)}
	for {
		f, b, err := fr.next()
		if err != nil {
			if errors.Is(err, errFrameTooLong) || errors.Is(err, errFramePrefix) {
				p.badFrame()
			}
			return rpcs, err
		}
		rpcs++
		if f == nil {
			continue
		}
		p.stats.rpcsRecv.Add(1)
		p.stats.bytesRecv.Add(uint64(len(b)))
		rd.frame = f
		err = ps.handleRPC(rd, b)
		rd.rpc.Reset()
		f.release()
		if err != nil {
			return rpcs, err
		}
	}
}

// badFrame counts what nobody can read, and ends the connection to a peer
// that keeps sending it.
func (p *Peer) badFrame() {
	p.ps.stats.badRPCs.Add(1)
	p.ps.penalize(p.ps.now(), p.id, 1)
	p.mu.Lock()
	p.badFrames++
	n := p.badFrames
	p.mu.Unlock()
	if n >= maxBadFrames {
		p.disconnect()
	}
}

// disconnect closes all connections to the peer.
func (p *Peer) disconnect() {
	p.ps.stats.disconnects.Add(1)
	if p.ps.enter() {
		go func() { // ClosePeer waits for the streams' goroutines, of which we may be one
			defer p.ps.wg.Done()
			_ = p.ps.host.Network().ClosePeer(p.id)
		}()
	}
}

// handleRPC handles one RPC on the goroutine that read it: what a peer sends
// too fast delays nobody but that peer.
func (ps *PubSub) handleRPC(rd *reader, b []byte) error {
	p := rd.p
	if err := rd.rpc.Decode(b, &ps.cfg.Limits); err != nil {
		p.badFrame()
		return err
	}
	ps.stats.rpcsReceived.Add(1)
	if n := rd.rpc.Excess.Total(); n > 0 {
		ps.stats.excess.Add(uint64(n))
	}
	if ps.graylisted(p) || ps.blacklisted(p.id) {
		ps.stats.graylisted.Add(1)
		return nil
	}
	if ps.looksAtRPCs() {
		if !ps.observeRPC(rd) {
			return nil
		}
	}
	if len(rd.rpc.Subscriptions) > 0 {
		if err := ps.handleSubscriptions(rd); err != nil {
			return err
		}
	}
	if len(rd.rpc.Publish) > 0 && ps.admits(p) {
		now := ps.now()
		p.stats.msgsRecv.Add(uint64(len(rd.rpc.Publish)))
		for i := range rd.rpc.Publish {
			ps.receive(now, rd, &rd.rpc.Publish[i])
		}
	}
	return ps.handleControl(rd)
}

// graylisted reports whether a peer's score is so low that its RPCs are not
// looked at. Direct peers are always heard.
func (ps *PubSub) graylisted(p *Peer) bool {
	return ps.scorer != nil && p.Score() < ps.cfg.Thresholds.GraylistThreshold && !ps.isDirect(p.id)
}

// handleSubscriptions hands the subscriptions of an RPC to the owner.
func (ps *PubSub) handleSubscriptions(rd *reader) error {
	subs := rd.rpc.Subscriptions
	if ps.cfg.SubscriptionFilter != nil {
		var err error
		if subs, err = ps.filterSubscriptions(rd.p.id, subs); err != nil {
			ps.log.Debug("subscriptions refused", "peer", rd.p.id, "err", err)
			return nil
		}
	}
	return ps.doWith(rd.done, func(now time.Time) { ps.subscriptions(now, rd.p, subs) })
}

func (ps *PubSub) filterSubscriptions(id peer.ID, subs []wire.SubOpts) ([]wire.SubOpts, error) {
	in := make([]*pb.RPC_SubOpts, 0, len(subs))
	for i := range subs {
		in = append(in, &pb.RPC_SubOpts{Subscribe: new(subs[i].Subscribe), Topicid: new(string(subs[i].Topic))})
	}
	out, err := ps.cfg.SubscriptionFilter.FilterIncomingSubscriptions(id, in)
	if err != nil {
		return nil, err
	}
	subs = make([]wire.SubOpts, 0, len(out))
	for _, s := range out {
		subs = append(subs, wire.SubOpts{Subscribe: s.GetSubscribe(), Topic: []byte(s.GetTopicid())})
	}
	return subs, nil
}

// subscriptions runs on the owner.
func (ps *PubSub) subscriptions(now time.Time, p *Peer, subs []wire.SubOpts) {
	if ps.peers[p.id] != p {
		return
	}
	for i := range subs {
		s := &subs[i]
		switch {
		case s.Subscribe && ps.mesh.subscribe(now, p.id, s.Topic):
			ps.notifyTopic(string(s.Topic), PeerEvent{Type: PeerJoin, Peer: p.id})
		case !s.Subscribe && ps.mesh.unsubscribe(now, p.id, s.Topic):
			ps.notifyTopic(string(s.Topic), PeerEvent{Type: PeerLeave, Peer: p.id})
		}
	}
}

// handleControl handles the control part: IDONTWANT here, since it is of use
// only if it is quick, and the rest on the owner.
func (ps *PubSub) handleControl(rd *reader) error {
	r := &rd.rpc
	if !r.HasControl || ps.cfg.FloodSub {
		return nil
	}
	ps.dontWanted(rd)
	if len(r.IHave)+len(r.IWant)+len(r.Graft)+len(r.Prune) == 0 {
		return nil
	}
	return ps.doWith(rd.done, func(now time.Time) {
		if ps.peers[rd.p.id] == rd.p {
			ps.mesh.control(now, rd.p.id, r)
		}
	})
}

// dontWanted notes IDONTWANTs.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.2.md#idontwant-message
func (ps *PubSub) dontWanted(rd *reader) {
	if len(rd.rpc.IDontWant) == 0 {
		return
	}
	room := ps.cfg.Params.MaxIDontWantLength
	for _, l := range rd.rpc.IDontWant {
		for _, id := range l.IDs {
			if room--; room < 0 {
				ps.stats.refused[refusedIDontWant].Add(1)
				return
			}
			if !rd.p.dontWantFrom(ps.seen.hash.keyBytes(id)) {
				ps.stats.refused[refusedIDontWant].Add(1)
				return
			}
			ps.stats.idontwantReceived.Add(1)
		}
	}
}

// dontWantFrom reports whether the peer may say IDONTWANT that often.
func (p *Peer) dontWantFrom(k seenKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.unwanted.add(k)
}
