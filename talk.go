package muster

import (
	"context"
	"sync/atomic"

	"github.com/muster-p2p/muster/pubsub"
)

// Talk is the wing that says things to many.
type Talk struct {
	router atomic.Pointer[pubsub.PubSub]
	off    atomic.Bool
}

func (n *Node) startTalk(context.Context) error {
	if n.cfg.Talk.Off {
		n.Talk.off.Store(true)
		return nil
	}
	cfg := n.cfg.Talk.PubSub
	if cfg.Logger == nil {
		cfg.Logger = n.cfg.Logger
	}
	if cfg.Registerer == nil {
		cfg.Registerer = n.cfg.Registerer
	}
	if cfg.Discovery == nil && len(n.cfg.Points) > 0 {
		cfg.Discovery = &pubsub.DiscoveryConfig{Discovery: n.Find.names.Load()}
	}
	ps, err := pubsub.New(n.inner, cfg)
	if err != nil {
		return err
	}
	n.onClose(ps.Close)
	n.Talk.router.Store(ps)
	return nil
}

// Join returns a handle to publish to a topic and to subscribe to it. There is
// one for each topic until it is closed.
func (t *Talk) Join(topic string) (*pubsub.Topic, error) {
	ps := t.router.Load()
	switch {
	case ps != nil:
		return ps.Join(topic)
	case t.off.Load():
		return nil, ErrOff
	default:
		return nil, ErrNotStarted
	}
}

// PubSub returns the router, nil before Start and if it is off.
func (t *Talk) PubSub() *pubsub.PubSub { return t.router.Load() }
