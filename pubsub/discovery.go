package pubsub

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Pace of discovery.
const (
	// discoveryPrefix stands before a topic in the namespace under which its
	// peers find each other; go-libp2p-pubsub has the same.
	discoveryPrefix = "floodsub:"

	// The first search follows the last after this time, and each after that
	// after twice the time, until there are enough peers.
	minDiscoveryPause = time.Second
	maxDiscoveryPause = time.Minute

	// advertiseRetry is when a failed advertisement is tried again, and
	// advertiseAhead how much of its time to live one is renewed early.
	advertiseRetry = 2 * time.Minute
	advertiseAhead = 8

	// discoveryBatch is how many peers one search takes.
	discoveryBatch = 100
)

// A DiscoveryConfig configures the search for peers of topics.
type DiscoveryConfig struct {
	Discovery discovery.Discovery
	Options   []discovery.Option
	// Connector makes what dials the peers that were found. If nil, it is the
	// PubSub's own dialer.
	Connector func(host.Host) (Connector, error)
}

// A Connector dials the peers that come out of a channel, until it is closed
// or the context is done. go-libp2p's BackoffConnector is one.
type Connector interface {
	Connect(ctx context.Context, peers <-chan peer.AddrInfo)
}

// A DiscoverOpt is an option of WithDiscovery.
type DiscoverOpt func(*DiscoveryConfig) error

// WithDiscoveryOpts gives options to each call of the discovery.
func WithDiscoveryOpts(opts ...discovery.Option) DiscoverOpt {
	return func(c *DiscoveryConfig) error {
		c.Options = opts
		return nil
	}
}

// WithDiscoverConnector has a connector dial what was found.
func WithDiscoverConnector[C Connector](f func(host.Host) (C, error)) DiscoverOpt {
	return func(c *DiscoveryConfig) error {
		c.Connector = func(h host.Host) (Connector, error) { return f(h) }
		return nil
	}
}

// A discoverer advertises the topics that we are in, and searches for peers
// of those that have too few.
type discoverer struct {
	ps        *PubSub
	cfg       *DiscoveryConfig
	connector Connector
	topics    map[string]context.CancelFunc // owned by the loop
}

func newDiscoverer(ps *PubSub, cfg *DiscoveryConfig) *discoverer {
	d := &discoverer{ps: ps, cfg: cfg, topics: make(map[string]context.CancelFunc)}
	if cfg.Connector != nil {
		var err error
		if d.connector, err = cfg.Connector(ps.host); err != nil {
			ps.log.Warn("no discovery connector", "err", err)
		}
	}
	return d
}

// enter starts advertising and searching for a topic. It runs on the owner.
func (d *discoverer) enter(topic string) {
	ctx, cancel := context.WithCancel(d.ps.ctx)
	d.topics[topic] = cancel
	d.ps.wg.Go(func() { d.advertise(ctx, topic) })
	d.ps.wg.Go(func() { d.search(ctx, topic) })
}

// leave ends both. It runs on the owner.
func (d *discoverer) leave(topic string) {
	if cancel := d.topics[topic]; cancel != nil {
		cancel()
		delete(d.topics, topic)
	}
}

func (d *discoverer) advertise(ctx context.Context, topic string) {
	for {
		ttl, err := d.cfg.Discovery.Advertise(ctx, discoveryPrefix+topic, d.cfg.Options...)
		wait := ttl - ttl/advertiseAhead
		if err != nil || wait <= 0 {
			d.ps.log.Debug("advertising failed", "topic", topic, "err", err)
			wait = advertiseRetry
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// sleep reports whether it was not cut short by ctx.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// search searches for peers of a topic until ctx is done or the room closed.
func (d *discoverer) search(ctx context.Context, topic string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.ps.ctx, cancel)()
	pause := minDiscoveryPause
	for {
		if (routerView{d.ps}).EnoughPeers(topic, 0) {
			pause = minDiscoveryPause
		} else {
			d.find(ctx, topic)
			pause = min(2*pause, maxDiscoveryPause)
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// find searches once and dials what it finds.
func (d *discoverer) find(ctx context.Context, topic string) {
	opts := append([]discovery.Option{discovery.Limit(discoveryBatch)}, d.cfg.Options...)
	ctx, cancel := context.WithTimeout(ctx, maxDiscoveryPause)
	defer cancel()
	found, err := d.cfg.Discovery.FindPeers(ctx, discoveryPrefix+topic, opts...)
	if err != nil {
		d.ps.log.Debug("searching failed", "topic", topic, "err", err)
		return
	}
	if d.connector != nil {
		d.connector.Connect(ctx, found)
		return
	}
	for {
		select {
		case pi, ok := <-found:
			if !ok {
				return
			}
			d.found(pi)
		case <-ctx.Done():
			return
		}
	}
}

func (d *discoverer) found(pi peer.AddrInfo) {
	if pi.ID != d.ps.self && !d.ps.blacklisted(pi.ID) {
		d.ps.dials.dial(pi)
	}
}
