package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
)

// ErrNoPoints says that there is no point to ask.
var ErrNoPoints = errors.New("rendezvous: no point is known")

// DiscoveryConfig configures a [Discovery]. The zero DiscoveryConfig asks all
// peers that are known to serve the protocol.
type DiscoveryConfig struct {
	// Client configures the requests.
	Client ClientConfig

	// Points to register at and to ask. If empty, these are the connected
	// peers that speak the protocol and, if there are none, known ones.
	Points []peer.AddrInfo

	// Point, if not nil, is this host's own point: what is advertised is
	// registered there as well, and RequestLocally looks there.
	Point *Point

	// Parallel bounds the points that are asked at once. Zero means
	// DefaultParallel.
	Parallel int

	// Interval is the time between two polls of Watch, and the least time
	// between two polls that FindPeers causes while it knows somebody. Zero
	// means DefaultInterval.
	Interval time.Duration

	// UnregisterOnCancel unregisters a name when the context of its Advertise
	// ends. Otherwise it is left to run out.
	UnregisterOnCancel bool

	// Logger gets the reports. If nil, they are dropped.
	Logger *slog.Logger
}

// Defaults of a [Discovery].
const (
	DefaultParallel = 8
	DefaultInterval = 5 * time.Second

	// maxAutoPoints bounds the points that are chosen among known peers.
	maxAutoPoints = 16
)

// A Discovery registers and finds names at many points at once. It implements
// [discovery.Discovery]. Its methods may be called at once.
type Discovery struct {
	cfg    DiscoveryConfig
	host   host.Host
	client *Client
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	slots  chan struct{} // a place per request in flight

	mu      sync.Mutex // guards what follows
	closed  bool
	rng     *rand.Rand
	book    *book
	rounds  map[roundKey]*round
	last    map[string]time.Time // the end of the last round that found somebody
	adverts map[string]*advertiser
}

var _ discovery.Discovery = (*Discovery)(nil)

// NewDiscovery returns a Discovery on h. The caller keeps h and calls Close.
func NewDiscovery(h host.Host, cfg DiscoveryConfig) *Discovery {
	if cfg.Parallel <= 0 {
		cfg.Parallel = DefaultParallel
	}
	if cfg.Interval <= 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &Discovery{
		cfg: cfg, host: h, client: NewClient(h, cfg.Client), ctx: ctx, cancel: cancel,
		slots: make(chan struct{}, cfg.Parallel),
		rng:   rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		book:  newBook(), rounds: map[roundKey]*round{}, last: map[string]time.Time{}, adverts: map[string]*advertiser{},
	}
	for _, p := range cfg.Points {
		h.Peerstore().AddAddrs(p.ID, p.Addrs, peerstore.PermanentAddrTTL)
	}
	return d
}

// Close stops all refreshing and asking. It does not unregister.
func (d *Discovery) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.cancel()
	d.wg.Wait()
	return d.client.Close()
}

// start runs f in a goroutine that Close waits for.
func (d *Discovery) start(f func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.wg.Go(f)
	return true
}

// points returns whom to ask.
func (d *Discovery) points() []peer.ID {
	if len(d.cfg.Points) > 0 {
		ids := make([]peer.ID, len(d.cfg.Points))
		for i, p := range d.cfg.Points {
			ids[i] = p.ID
		}
		return ids
	}
	connected := d.speakers(d.host.Network().Peers(), true)
	if len(connected) > 0 {
		return connected
	}
	return d.speakers(d.host.Peerstore().PeersWithAddrs(), false)
}

// speakers returns those of ids that speak the protocol, or may for all that
// is known yet if unknown is set: identify takes a moment.
func (d *Discovery) speakers(ids []peer.ID, unknown bool) (out []peer.ID) {
	for _, id := range ids {
		if id == d.host.ID() {
			continue
		}
		speaks, err := d.host.Peerstore().SupportsProtocols(id, d.client.proto)
		if err != nil {
			continue
		}
		if len(speaks) == 0 && unknown {
			all, err := d.host.Peerstore().GetProtocols(id)
			if err != nil || len(all) > 0 {
				continue
			}
		} else if len(speaks) == 0 {
			continue
		}
		if out = append(out, id); len(out) == maxAutoPoints {
			break
		}
	}
	return out
}

// each calls f for all points at once, as many as Parallel allows, and returns
// when all calls have returned.
func (d *Discovery) each(ctx context.Context, points []peer.ID, f func(peer.ID)) {
	var wg sync.WaitGroup
	for _, p := range points {
		wg.Go(func() {
			select {
			case d.slots <- struct{}{}:
				defer func() { <-d.slots }()
				f(p)
			case <-ctx.Done():
				f(p) // it fails at once, and says so
			}
		})
	}
	wg.Wait()
}

// bound ends ctx with Close, too.
func (d *Discovery) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(d.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// A Result is what one point said to a registration.
type Result struct {
	Point peer.ID
	TTL   time.Duration // granted
	Err   error
}

// Register registers this host under ns at all points at once, and at its own
// if it has one, one time: see Advertise for staying registered. Zero asks for
// the usual lifetime.
func (d *Discovery) Register(ctx context.Context, ns string, ttl time.Duration) ([]Result, error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	if err := d.client.checkNS(ns); err != nil {
		return nil, err
	}
	points := d.points()
	if d.cfg.Point != nil {
		points = append(points, d.host.ID())
	}
	if len(points) == 0 {
		return nil, ErrNoPoints
	}
	return d.registerAt(ctx, points, ns, ttl), nil
}

func (d *Discovery) registerAt(ctx context.Context, points []peer.ID, ns string, ttl time.Duration) []Result {
	var mu sync.Mutex
	results := make([]Result, 0, len(points))
	d.each(ctx, points, func(p peer.ID) {
		granted, err := d.registerOne(ctx, p, ns, ttl)
		mu.Lock()
		defer mu.Unlock()
		results = append(results, Result{Point: p, TTL: granted, Err: err})
	})
	return results
}

// registerOne registers at one point, which may be this host's own.
func (d *Discovery) registerOne(ctx context.Context, p peer.ID, ns string, ttl time.Duration) (time.Duration, error) {
	if p != d.host.ID() {
		return d.client.Register(ctx, p, ns, ttl)
	}
	rec, err := d.client.ownRecord(ns, specForm)
	if err != nil {
		return 0, err
	}
	granted, err := d.cfg.Point.registerSelf(d.realm(), ns, rec, ttl)
	if errors.Is(err, ErrInvalidTTL) && !d.cfg.Client.StrictTTL {
		return d.cfg.Point.registerSelf(d.realm(), ns, rec, 0)
	}
	return granted, err
}

func (d *Discovery) realm() Realm {
	if d.cfg.Client.Waku {
		return RealmWaku
	}
	return RealmLibp2p
}

// Unsubscribe stops advertising ns and unregisters it at all points and here.
// In Waku it cannot be unregistered: it runs out within seconds.
func (d *Discovery) Unsubscribe(ctx context.Context, ns string) error {
	if err := d.client.checkNS(ns); err != nil {
		return err
	}
	d.UnsubscribeLocally(ns)
	if d.cfg.Client.Waku {
		return nil
	}
	ctx, cancel := d.bound(ctx)
	defer cancel()
	return d.unregister(ctx, ns)
}

// unregister asks all points to forget ns.
func (d *Discovery) unregister(ctx context.Context, ns string) error {
	var mu sync.Mutex
	var errs []error
	d.each(ctx, d.points(), func(p peer.ID) {
		if err := d.client.Unregister(ctx, p, ns); err != nil {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, fmt.Errorf("point %s: %w", p, err))
		}
	})
	return errors.Join(errs...)
}

// UnsubscribeLocally stops advertising ns and takes this host off its own
// point. Other points keep it until it runs out.
func (d *Discovery) UnsubscribeLocally(ns string) {
	d.mu.Lock()
	a := d.adverts[ns]
	delete(d.adverts, ns)
	d.book.forget(ns, d.host.ID())
	d.mu.Unlock()
	if a != nil {
		a.stop()
	}
	if d.cfg.Point != nil {
		d.cfg.Point.unregisterSelf(d.realm(), ns)
	}
}
