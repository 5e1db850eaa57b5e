package pubsub

import (
	"github.com/muster-p2p/muster/pubsub/wire"
)

// looksAtRPCs reports whether anybody wants to see inbound RPCs.
func (ps *PubSub) looksAtRPCs() bool {
	return ps.hasRecv || ps.cfg.Inspector != nil || ps.trace.active() || ps.cfg.RPCLogger != nil
}

// observeRPC shows an inbound RPC to those who want to see it, and reports
// whether it is to be handled.
func (ps *PubSub) observeRPC(rd *reader) bool {
	p := rd.p
	rpc := rpcOf(&rd.rpc, p.id)
	if ps.cfg.RPCLogger != nil {
		ps.cfg.RPCLogger.Debug("received", "peer", p.id, "rpc", rpc)
	}
	switch ps.observe(p, rpc, func(o *Observer) func(*Peer, *RPC) Verdict { return o.OnRecv }) {
	case Drop:
		ps.stats.observerDrops.Add(1)
		return false
	case Modified:
		if !rd.replace(rpc, &ps.cfg.Limits) {
			return false
		}
	case Keep:
	}
	if ps.cfg.Inspector != nil {
		if err := ps.cfg.Inspector(p.id, rpc); err != nil {
			ps.log.Debug("RPC refused by the inspector", "peer", p.id, "err", err)
			return false
		}
	}
	ps.trace.recvRPC(rpc)
	return true
}

// replace puts a changed RPC in the place of the one in the frame.
func (rd *reader) replace(rpc *RPC, limits *wire.Limits) bool {
	b := appendRPC(nil, &rpc.RPC)
	rd.frame = &frame{b: b, taken: true}
	return rd.rpc.Decode(b, limits) == nil
}

// observe runs one hook of all observers.
func (ps *PubSub) observe(p *Peer, rpc *RPC, hook func(*Observer) func(*Peer, *RPC) Verdict) (v Verdict) {
	defer func() {
		if e := recover(); e != nil {
			ps.log.Error("an observer panicked", "panic", e)
			v = Drop
		}
	}()
	for i := range ps.observers {
		f := hook(&ps.observers[i])
		if f == nil {
			continue
		}
		switch f(p, rpc) {
		case Drop:
			return Drop
		case Modified:
			v = Modified
		case Keep:
		}
	}
	return v
}

func (ps *PubSub) observeValidated(p *Peer, m *Message) {
	defer func() {
		if e := recover(); e != nil {
			ps.log.Error("an observer panicked", "panic", e)
		}
	}()
	for i := range ps.observers {
		if f := ps.observers[i].OnValidated; f != nil {
			f(p, m)
		}
	}
}

// sendTap returns what looks at the RPCs for a peer before they are written,
// or nil if nobody does.
func (ps *PubSub) sendTap(p *Peer) func([]byte) []byte {
	if !ps.hasSend && !ps.trace.active() && ps.cfg.RPCLogger == nil {
		return nil
	}
	return func(b []byte) []byte {
		var w wire.RPC
		limits := ps.cfg.Limits
		if err := w.Decode(b, &limits); err != nil {
			panic("BUG: an RPC of ours is malformed")
		}
		rpc := rpcOf(&w, ps.self)
		switch ps.observe(p, rpc, func(o *Observer) func(*Peer, *RPC) Verdict { return o.OnSend }) {
		case Drop:
			ps.stats.observerDrops.Add(1)
			ps.trace.dropRPC(rpc, p.id)
			return nil
		case Modified:
			b = appendRPC(nil, &rpc.RPC)
		case Keep:
		}
		if ps.cfg.RPCLogger != nil {
			ps.cfg.RPCLogger.Debug("sent", "peer", p.id, "rpc", rpc)
		}
		ps.trace.sendRPC(rpc, p.id)
		return b
	}
}
