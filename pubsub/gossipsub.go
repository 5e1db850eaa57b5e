package pubsub

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/host"

	"github.com/muster-p2p/muster/pubsub/timecache"
)

// NewGossipSub starts gossipsub on a host. The end of ctx closes it, as
// [PubSub.Close] does.
func NewGossipSub(ctx context.Context, h host.Host, opts ...Option) (*PubSub, error) {
	return newFromOptions(ctx, h, Config{}, opts)
}

func newFromOptions(ctx context.Context, h host.Host, cfg Config, opts []Option) (*PubSub, error) {
	cfg.SeenLast = TimeCacheStrategy == timecache.Strategy_LastSeen
	for _, opt := range opts {
		if err := opt(&cfg); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("pubsub: %w", err)
	}
	ps, err := New(h, cfg)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = ps.Close() })
	ps.closeMu.Lock()
	ps.unlink = stop
	ps.closeMu.Unlock()
	return ps, nil
}

// admits asks the peer gater whether the messages of an RPC may enter
// validation.
func (ps *PubSub) admits(p *Peer) bool {
	if ps.gater == nil || ps.isDirect(p.id) {
		return true
	}
	ps.gateMu.Lock()
	ok := ps.gater.admit(ps.now(), p.source())
	ps.gateMu.Unlock()
	if !ok {
		ps.stats.gated.Add(1)
		ps.trace.throttle(p.id)
	}
	return ok
}

// gated tells the gater what became of a peer's message.
func (ps *PubSub) gated(p *Peer, o gaterOutcome) {
	if ps.gater == nil {
		return
	}
	from := p.source()
	ps.gateMu.Lock()
	defer ps.gateMu.Unlock()
	ps.gater.note(from, o)
}

// source is what the gater puts the peer's messages down to, for as long as
// the peer is known.
func (p *Peer) source() gaterSource {
	p.sourceOnce.Do(func() { p.from = sourceOf(p.id, p.ps.addrsOf(p.id)) })
	return p.from
}

func (ps *PubSub) gaterThrottled(now time.Time) {
	if ps.gater == nil {
		return
	}
	ps.gateMu.Lock()
	defer ps.gateMu.Unlock()
	ps.gater.throttled(now)
}
