package muster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"github.com/muster-p2p/muster/link"
	"github.com/muster-p2p/muster/reach"
	"github.com/muster-p2p/muster/reach/wire"
	"github.com/muster-p2p/muster/rendezvous"
)

// ReachConfig configures a [Reach]. The zero ReachConfig is good for meetings
// that are agreed on otherwise; for the rest it takes Points.
type ReachConfig struct {
	// Points are where this peer waits to be called, and who is asked to call
	// others.
	Points []peer.AddrInfo

	// AccessToken is for points that are not open to everyone.
	AccessToken string

	// Finder finds the peers of a name. If nil, the points are asked by
	// rendezvous.
	Finder discovery.Discoverer

	// Link configures the links. Key is set; Logger and Registerer are set
	// where they are nil.
	Link link.Config

	// Changed, if not nil, is told when a point can and cannot call this peer,
	// one event at a time for each point.
	Changed func(reach.Event)

	// Logger gets reports. If nil, they are dropped.
	Logger *slog.Logger
}

// Bounds of a [Reach].
const (
	// maxAwaited bounds the callers that have been let in and have not come:
	// what a lying point can make this peer wait for. maxAwaitedOfOne bounds
	// those of one caller, so that it does not keep the others out.
	maxAwaited      = 64
	maxAwaitedOfOne = 8

	// callerWait is how long a caller may take to come to the meeting, of which
	// only staleWait is certain when all places are taken; helloWait is how long
	// it may take to say what it wants when it is there.
	callerWait = 20 * time.Second
	staleWait  = 5 * time.Second
	helloWait  = 10 * time.Second

	// maxBacklog bounds the links of a service that nobody has accepted yet;
	// of one too many the caller is told that this peer is busy.
	maxBacklog = 32
)

// ErrReachClosed is returned by a [Reach] and its listeners after Close.
var ErrReachClosed = errors.New("muster: reach is closed")

// A Reach calls peers by name and is called: it joins points, which know where
// the peers are (package reach), with secured links (package link). Its methods
// may be called at once.
type Reach struct {
	cfg      ReachConfig
	client   *reach.Client
	endpoint *link.Endpoint
	names    *rendezvous.Client // nil if there are no points
	ctx      context.Context    // ends with Close
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	undo     []func() error

	ready     chan struct{} // closed when a point can call this peer
	readyOnce sync.Once

	mu       sync.Mutex // guards what follows
	closed   bool
	started  bool
	services map[string]*Listener
	awaited  map[callID]*awaited
	callers  map[peer.ID]int // accepts under way, by caller
	waiting  int             // accepts under way
}

// NewReach returns a Reach on h, whose identity is key; without points h may be
// nil. The caller keeps h and calls Close. Nobody can call this peer before
// Start.
func NewReach(h host.Host, key crypto.PrivKey, cfg ReachConfig) (*Reach, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Link.Key = key
	if cfg.Link.Logger == nil {
		cfg.Link.Logger = cfg.Logger
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Reach{
		cfg: cfg, ctx: ctx, cancel: cancel, ready: make(chan struct{}),
		services: map[string]*Listener{}, awaited: map[callID]*awaited{}, callers: map[peer.ID]int{},
	}
	client, err := reach.NewClient(h, reach.ClientConfig{
		AccessToken: cfg.AccessToken, Invited: r.invited, Changed: r.changed, Logger: cfg.Logger,
	})
	if err != nil {
		cancel()
		return nil, err
	}
	endpoint, err := link.New(cfg.Link)
	if err != nil {
		cancel()
		return nil, err
	}
	r.client, r.endpoint = client, endpoint
	r.undo = append(r.undo, endpoint.Close)
	if len(cfg.Points) > 0 {
		r.names = rendezvous.NewClient(h, rendezvous.ClientConfig{Logger: cfg.Logger})
		r.undo = append(r.undo, r.names.Close)
		for _, p := range cfg.Points {
			h.Peerstore().AddAddrs(p.ID, p.Addrs, peerstore.PermanentAddrTTL)
		}
	}
	return r, nil
}

// Start lets the points call this peer, until Close, and may be called again. It
// returns at once: [Reach.Ready] waits for a point, [ReachConfig.Changed] tells of
// all.
func (r *Reach) Start(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrReachClosed
	}
	if len(r.cfg.Points) == 0 {
		return reach.ErrNoPoints
	}
	if !r.started {
		r.started = true
		r.wg.Go(func() { _ = r.client.Listen(r.ctx, r.cfg.Points...) }) // until ctx ends
	}
	return nil
}

// changed passes on what happens to the streams to the points.
func (r *Reach) changed(e reach.Event) {
	if e.Parked {
		r.readyOnce.Do(func() { close(r.ready) })
	}
	if r.cfg.Changed != nil {
		r.cfg.Changed(e)
	}
}

// Ready waits until a point can call this peer for the first time since Start.
func (r *Reach) Ready(ctx context.Context) error {
	select {
	case <-r.ready:
		return nil
	case <-r.ctx.Done():
		return ErrReachClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close closes the listeners, breaks off the links that are left, and waits for
// what is under way. It may be called more than once.
func (r *Reach) Close() error {
	r.mu.Lock()
	first := !r.closed
	r.closed = true
	listeners := make([]*Listener, 0, len(r.services))
	for _, l := range r.services {
		listeners = append(listeners, l)
	}
	r.mu.Unlock()
	r.cancel()
	for _, l := range listeners {
		_ = l.Close()
	}
	var errs []error
	if first {
		for i := len(r.undo) - 1; i >= 0; i-- {
			errs = append(errs, r.undo[i]())
		}
	}
	r.wg.Wait()
	return errors.Join(errs...)
}

// Endpoint returns what makes the links, for meetings that are agreed on
// without a point: by a ticket. It ends with Close.
func (r *Reach) Endpoint() *link.Endpoint { return r.endpoint }

// Resolve returns the peer that has a name: it asks all points at once. The
// error wraps ErrNotFound, ErrAmbiguous, or what the points failed with.
func (r *Reach) Resolve(ctx context.Context, n Name) (peer.ID, error) {
	if err := n.Validate(); err != nil {
		return "", err
	}
	switch {
	case r.cfg.Finder != nil:
		return askFinder(ctx, r.cfg.Finder, n)
	case r.names == nil:
		return "", reach.ErrNoPoints
	default:
		return r.askPoints(ctx, n)
	}
}

// DialName is Dial to the peer that has a name, written NS/NAME.
func (r *Reach) DialName(ctx context.Context, name, service string) (*link.Conn, error) {
	n, err := ParseName(name)
	if err != nil {
		return nil, err
	}
	id, err := r.Resolve(ctx, n)
	if err != nil {
		return nil, err
	}
	return r.Dial(ctx, id, service)
}

// Dial has the points call remote for one of its services, and connects. It
// returns when there is a path on which remote has proved its identity; the
// service is the one that remote listens for, as both ends know.
//
// The error wraps a [*reach.StatusError] if a point or remote says no,
// reach.ErrUnreachable if there is no point, link.ErrIdentity if somebody else
// than remote came.
func (r *Reach) Dial(ctx context.Context, remote peer.ID, service string) (*link.Conn, error) {
	inv, err := r.client.Invite(ctx, remote, service, r.cfg.Points...)
	if err != nil {
		return nil, err
	}
	return r.DialAt(ctx, remote, service, meeting(inv))
}

// DialAt is Dial at a meeting that is agreed on already. Remote has to expect
// it, by [Reach.AcceptAt].
func (r *Reach) DialAt(ctx context.Context, remote peer.ID, service string, m link.Meeting) (*link.Conn, error) {
	if !wire.ValidService(service) {
		return nil, fmt.Errorf("muster: %q is not the name of a service", service)
	}
	conn, err := r.endpoint.Dial(ctx, remote, m)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(wire.AppendHello(nil, service)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// Reserve gets a meeting for a ticket from the points: whoever holds it may
// DialAt it while somebody does AcceptAt.
func (r *Reach) Reserve(ctx context.Context) (link.Meeting, error) {
	inv, err := r.client.Reserve(ctx, r.cfg.Points...)
	if err != nil {
		return link.Meeting{}, err
	}
	return meeting(inv), nil
}

// meeting is where an invitation says to meet.
func meeting(inv reach.Invitation) link.Meeting {
	return link.Meeting{Servers: inv.Servers, Token: inv.Token, Header: http.Header{"Authorization": {"Bearer " + inv.Bearer}}}
}
