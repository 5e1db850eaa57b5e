package muster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
)

// Errors of a node.
var (
	// ErrNotStarted is returned by what needs a node that runs.
	ErrNotStarted = errors.New("muster: the node is not started")

	// ErrOff is returned by a wing or part that the configuration leaves out.
	ErrOff = errors.New("muster: not part of this node")
)

// A Node finds, reaches and talks to peers; with [Config.Point] it is a point
// as well. Its methods may be called by several goroutines at once.
type Node struct {
	// Find looks for peers by name, Talk says things to many. They can be used
	// from Start on.
	Find *Find
	Talk *Talk

	// Reach connects to peers through NATs. Start sets it.
	Reach *Reach

	// Point is what others use of this node, nil if it is none.
	Point *Point

	cfg    Config
	panics atomic.Uint64 // of handlers

	mu     sync.Mutex // guards the following
	state  nodeState
	host   host.Host
	inner  host.Host      // host for the rooms: a panic stays in its handler
	undo   []func() error // of what was started, in that order
	closed error
}

type nodeState uint8

const (
	stateNew nodeState = iota
	stateStarted
	stateClosed
)

// New returns a node that is not started: it has opened nothing.
func New(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, Find: &Find{}, Talk: &Talk{}}
	if cfg.Point != nil {
		n.Point = &Point{cfg: *cfg.Point}
	}
	return n, nil
}

// Start opens all that the node is configured for. Ctx bounds the start only.
// If it fails, nothing is left open, and the node is closed. It is called once.
func (n *Node) Start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state != stateNew {
		return errors.New("muster: a node is started once")
	}
	n.state = stateStarted
	if p := n.cfg.Point; p != nil && p.Listener != nil {
		n.onClose(func() error { return ignoreClosed(p.Listener.Close()) })
	}
	for _, step := range []struct {
		part  Part
		start func(context.Context) error
	}{
		{PartHost, n.startHost},
		{PartRendezvous, n.startPoint},
		{PartRdv, n.startRdv},
		{PartReach, n.startReach},
		{PartDiscv5, n.startFind},
		{PartPubsub, n.startTalk},
		{PartLinks, n.startLinks},
	} {
		err := ctx.Err()
		if err == nil {
			err = step.start(ctx)
		}
		if err != nil {
			return errors.Join(&StartError{step.part, err}, n.closeLocked())
		}
	}
	return nil
}

// ignoreClosed drops the error of closing what is closed already.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// A Part is one of what a node is made of.
type Part string

// The parts.
const (
	PartHost       Part = "host"
	PartRendezvous Part = "rendezvous"
	PartRdv        Part = "rdv"
	PartReach      Part = "reach"
	PartDiscv5     Part = "discv5"
	PartPubsub     Part = "pubsub"
	PartLinks      Part = "links"
)

// A StartError says which part of a node did not start.
type StartError struct {
	Part Part
	Err  error
}

func (e *StartError) Error() string { return fmt.Sprintf("muster: start %s: %v", e.Part, e.Err) }
func (e *StartError) Unwrap() error { return e.Err }

func (n *Node) startHost(context.Context) error {
	if err := n.registerMetrics(); err != nil {
		return err
	}
	if n.cfg.Host != nil {
		n.host = n.cfg.Host
		n.inner = contain(n.host, n.cfg.Logger, &n.panics)
		return nil
	}
	h, err := NewHost(HostConfig{
		Key: n.cfg.Key, Listen: n.cfg.Listen, Announce: n.cfg.Announce, MaxConns: n.cfg.MaxConns, OwnPorts: n.Point != nil,
		ConnsLow: n.cfg.MaxConns * 2 / 3, ConnsHigh: n.cfg.MaxConns * 8 / 9,
	})
	if err != nil {
		return err
	}
	n.host, n.inner = h, contain(h, n.cfg.Logger, &n.panics)
	n.onClose(h.Close)
	return nil
}

// startLinks opens the wing Reach, and lets the points call this node.
func (n *Node) startLinks(ctx context.Context) error {
	cfg := n.cfg.Reach
	if cfg.Link.Registerer == nil {
		cfg.Link.Registerer = n.cfg.Registerer
	}
	r, err := NewReach(n.inner, n.cfg.Key, cfg)
	if err != nil {
		return err
	}
	n.onClose(r.Close)
	n.Reach = r
	if len(cfg.Points) == 0 {
		return nil
	}
	return r.Start(ctx)
}

// registerMetrics registers what is the node's own.
func (n *Node) registerMetrics() error {
	if n.cfg.Registerer == nil {
		return nil
	}
	err := n.cfg.Registerer.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "muster_panics_total", Help: "Handlers of streams that panicked; each cost its stream only.",
	}, func() float64 { return float64(n.panics.Load()) }))
	if err == nil {
		err = n.cfg.Registerer.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "muster_connections", Help: "Connections of the libp2p host.",
		}, n.conns))
	}
	if err != nil {
		return fmt.Errorf("muster: register metrics: %w", err)
	}
	return nil
}

func (n *Node) conns() float64 {
	if h := n.Host(); h != nil {
		return float64(len(h.Network().Conns()))
	}
	return 0
}

// onClose has f called by Close, after what was started later has ended.
func (n *Node) onClose(f func() error) { n.undo = append(n.undo, f) }

// Close ends all that was started, and waits for it. It may be called more
// than once.
func (n *Node) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closeLocked()
}

func (n *Node) closeLocked() error {
	if n.state == stateClosed {
		return n.closed
	}
	n.state = stateClosed
	for _, f := range slices.Backward(n.undo) {
		n.closed = errors.Join(n.closed, f())
	}
	return n.closed
}

// Drain takes no new work: peers that come to the point's relay are told so,
// and pairs under way are waited for until ctx ends, whose cause it then
// returns. Call Close after it.
func (n *Node) Drain(ctx context.Context) error {
	if n.Point == nil {
		return nil
	}
	return n.Point.drain(ctx)
}

// Host returns the libp2p host, nil before Start.
func (n *Node) Host() host.Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.host
}

// ID returns the peer ID.
func (n *Node) ID() peer.ID {
	id, _ := peer.IDFromPrivateKey(n.cfg.Key) // was read as a key
	return id
}

// Addrs returns the addresses that others reach the node by, with /p2p/ID.
func (n *Node) Addrs() []ma.Multiaddr {
	h := n.Host()
	if h == nil {
		return nil
	}
	addrs, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()})
	if err != nil {
		panic(fmt.Sprintf("BUG: a host's ID is not valid: %v", err))
	}
	return addrs
}
