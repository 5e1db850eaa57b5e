package rendezvous

import (
	"context"
	"crypto/hkdf"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// A Point serves rendezvous on a host. Its methods may be called at once.
type Point struct {
	cfg     Config
	host    host.Host
	stores  map[Realm]Store
	cookies cookies
	metrics metrics
	verify  chan struct{}   // a place per signature being verified
	pages   sync.Pool       // of *wire.Page
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	metric  *collector // nil if not registered

	storeAway atomic.Bool // the last change was not taken

	mu  sync.RWMutex // guards reg
	reg *registry

	rateMu sync.Mutex // guards rates
	rates  *rateLimiter

	streamMu sync.Mutex // guards what follows
	closed   bool
	streams  map[network.Stream]bool
	perPeer  map[peer.ID]int
	wg       sync.WaitGroup // loops and streams
}

// NewPoint is OpenPoint with a context that does not end.
func NewPoint(h host.Host, cfg Config) (*Point, error) {
	return OpenPoint(context.Background(), h, cfg)
}

// OpenPoint opens the store and serves rendezvous on h until Close. The caller
// keeps h. Ctx bounds the opening only, which reads all that the store has. On
// an error cfg.Store is closed.
func OpenPoint(ctx context.Context, h host.Host, cfg Config) (*Point, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, errors.Join(err, cfg.Store.Close())
	}
	base := time.Now()
	running, cancel := context.WithCancel(context.Background())
	p := &Point{
		cfg:     cfg,
		host:    h,
		stores:  map[Realm]Store{RealmLibp2p: cfg.Store},
		verify:  make(chan struct{}, max(2, runtime.GOMAXPROCS(0))),
		pages:   sync.Pool{New: func() any { return new(wire.Page) }},
		ctx:     running,
		cancel:  cancel,
		reg:     newRegistry(registryConfig{limits: cfg.Limits, all: cfg.DiscoverAll, stale: cfg.AcceptStale, base: base}),
		rates:   newRateLimiter(cfg.Rates, base),
		streams: map[network.Stream]bool{},
		perPeer: map[peer.ID]int{},
	}
	if cfg.Waku {
		p.stores[RealmWaku] = NewMemory()
	}
	if err := p.open(ctx); err != nil {
		cancel()
		return nil, errors.Join(err, p.closeStores())
	}
	if err := p.start(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// SetLimits changes the limits of a point that runs, for what is registered
// from now on: nobody loses a registration by it.
func (p *Point) SetLimits(l Limits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reg.limits = l.withDefaults()
}

// Remove ends all registrations of a peer, in both protocols, and returns how
// many there were. Over a store that points share they end at all points. It
// does not keep the peer from registering again: that is for Config.Access.
func (p *Point) Remove(id peer.ID) (n int, err error) {
	for realm := range p.stores {
		p.mu.RLock()
		changes := p.reg.removals(realm, id, "")
		p.mu.RUnlock()
		if len(changes) == 0 {
			continue
		}
		if err := p.commit(realm, changes); err != nil {
			return n, err
		}
		n += len(changes)
	}
	return n, nil
}

// open loads the stores.
func (p *Point) open(ctx context.Context) error {
	own, err := p.ownSecret()
	if err != nil {
		return err
	}
	var epoch [8]byte
	_, _ = crand.Read(epoch[:]) // never fails
	proposal := Meta{Epoch: binary.BigEndian.Uint64(epoch[:]), Secret: own}
	for realm, store := range p.stores {
		meta, err := store.Open(ctx, proposal, p.apply)
		if err != nil {
			return fmt.Errorf("rendezvous: open store: %w", err)
		}
		if meta.Sole {
			p.reg.alone(realm, meta.Head)
		}
		if realm == RealmLibp2p {
			p.cookies = cookies{epoch: meta.Epoch, secrets: [][32]byte{meta.Secret}}
			if meta.Secret != own {
				p.cookies.secrets = append(p.cookies.secrets, own)
			}
		}
	}
	return nil
}

// ownSecret derives a secret for cookies from the host's identity, so that
// cookies are known as such even after the store was lost.
func (p *Point) ownSecret() (secret [32]byte, err error) {
	key := p.host.Peerstore().PrivKey(p.host.ID())
	if key == nil {
		_, _ = crand.Read(secret[:]) // never fails
		return secret, nil
	}
	raw, err := key.Raw()
	if err != nil {
		return secret, fmt.Errorf("rendezvous: host key: %w", err)
	}
	b, err := hkdf.Key(sha256.New, raw, nil, "muster rendezvous cookies", len(secret))
	copy(secret[:], b)
	return secret, err
}

func (p *Point) start() error {
	if r := p.cfg.Registerer; r != nil {
		c := newCollector(p)
		if err := r.Register(c); err != nil {
			return fmt.Errorf("rendezvous: metrics: %w", err)
		}
		p.metric = c
	}
	p.wg.Go(p.expireLoop)
	p.wg.Go(p.storeLoop)
	p.host.SetStreamHandler(ProtocolID, func(s network.Stream) { p.handle(s, wire.Libp2p) })
	if p.cfg.Waku {
		p.host.SetStreamHandler(WakuProtocolID, func(s network.Stream) { p.handle(s, wire.Waku) })
	}
	return nil
}

// apply is what the stores call with committed changes.
func (p *Point) apply(changes []Change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reg.apply(time.Now(), changes)
}

// expireLoop removes registrations that ran out. Answers do not depend on it.
func (p *Point) expireLoop() {
	// 2000 take a millisecond or two, which others wait for.
	const most = 2000
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-timer.C:
		}
		p.mu.Lock()
		now := time.Now()
		n, next := p.reg.expire(now, most)
		p.mu.Unlock()
		p.metrics.expired.Add(uint64(n))
		timer.Reset(next.Sub(now))
	}
}

// storeLoop lets the stores drop what ran out.
func (p *Point) storeLoop() {
	const pause, most = time.Minute, 1000 // a call that drops many is followed by another soon
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-timer.C:
		}
		n := p.expireStore()
		timer.Reset(pause)
		if n >= most {
			timer.Reset(time.Second)
		}
	}
}

func (p *Point) expireStore() int {
	ctx, cancel := context.WithTimeout(p.ctx, commitTimeout)
	defer cancel()
	n, err := p.cfg.Store.Expire(ctx, time.Now())
	if err != nil {
		p.cfg.Logger.Warn("store does not drop expired registrations", "err", err)
	}
	return n
}

// commit hands changes to the store and waits until they are applied.
func (p *Point) commit(realm Realm, changes []Change) error {
	ctx, cancel := context.WithTimeout(p.ctx, commitTimeout)
	defer cancel()
	start := time.Now()
	err := p.stores[realm].Commit(ctx, changes)
	p.metrics.committed(time.Since(start))
	if err == nil {
		if p.storeAway.CompareAndSwap(true, false) {
			p.cfg.Logger.Info("store takes changes again")
		}
		return nil
	}
	p.metrics.refused[reasonStore].Add(1)
	if p.storeAway.CompareAndSwap(false, true) { // once: there may be thousands a second
		p.cfg.Logger.Warn("store does not take changes", "err", err)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrClosed) || p.ctx.Err() != nil {
		return errors.Join(ErrUnavailable, err)
	}
	return err
}

// Close stops serving, resets open streams, and closes the store. It may be
// called more than once.
func (p *Point) Close() error {
	p.streamMu.Lock()
	if p.closed {
		p.streamMu.Unlock()
		p.wg.Wait()
		return nil
	}
	p.closed = true
	p.cancel()
	open := make([]network.Stream, 0, len(p.streams))
	for s := range p.streams {
		open = append(open, s)
	}
	p.streamMu.Unlock()
	p.host.RemoveStreamHandler(ProtocolID)
	if p.cfg.Waku {
		p.host.RemoveStreamHandler(WakuProtocolID)
	}
	for _, s := range open {
		_ = s.Reset()
	}
	p.wg.Wait()
	if p.metric != nil {
		p.cfg.Registerer.Unregister(p.metric)
	}
	return p.closeStores()
}

func (p *Point) closeStores() error {
	var errs []error
	for _, s := range p.stores {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

func (p *Point) registryStats() (libp2p, waku registryStats) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.reg.stats(RealmLibp2p), p.reg.stats(RealmWaku)
}

// Stats returns the point's state and counters.
func (p *Point) Stats() Stats {
	lib, waku := p.registryStats()
	m := &p.metrics
	s := Stats{
		Registrations: lib.registrations, Namespaces: lib.namespaces, Peers: lib.peers,
		Waku: waku.registrations, WakuNames: waku.namespaces, Bytes: lib.bytes, Streams: int(m.streams.Load()),
		Registers: m.op(wire.Register), Unregisters: m.op(wire.Unregister), Discovers: m.op(wire.Discover),
		Records: m.records.Load(), AnswerBytes: m.bytes.Load(), Expired: m.expired.Load(),
		Refused: map[string]uint64{},
	}
	for i := range m.refused {
		if n := m.refused[i].Load(); n > 0 {
			s.Refused[reasonNames[i]] = n
		}
	}
	return s
}
