package rendezvous

import (
	"context"
	"crypto/hkdf"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// The protocols' IDs.
const (
	// ProtocolID is libp2p's rendezvous.
	// Spec: https://github.com/libp2p/specs/blob/master/rendezvous/README.md
	ProtocolID protocol.ID = "/rendezvous/1.0.0"

	// WakuProtocolID is Waku's.
	// Spec: https://github.com/waku-org/go-waku-rendezvous
	WakuProtocolID protocol.ID = "/vac/waku/rendezvous/0.0.1"
)

// Lifetimes of registrations.
const (
	// DefaultTTL and MaxTTL are the spec's 2 and 72 hours.
	DefaultTTL = 2 * time.Hour
	MaxTTL     = 72 * time.Hour

	// DefaultMinTTL is what peers in the wild ask for at the least; the spec
	// recommends 2 hours, see [SpecConfig].
	DefaultMinTTL = time.Minute

	// WakuTTL is both default and maximum of the Waku protocol. A registration
	// lives WakuGrace longer, for the refresh that is on its way.
	WakuTTL   = 20 * time.Second
	WakuGrace = 500 * time.Millisecond
)

// Config configures a [Point]. The zero Config is a point for
// /rendezvous/1.0.0 that keeps registrations in memory.
type Config struct {
	// Store remembers the registrations of /rendezvous/1.0.0. The point closes
	// it. If nil, a new [Memory] is used.
	Store Store

	// Waku serves WakuProtocolID as well. Its registrations live for seconds
	// and are kept in memory only, apart from the others.
	Waku bool

	// LegacyPeerInfo lets peers of before 2020 register with an unsigned
	// PeerInfo. Such registrations are shown only to peers that have one
	// themselves, and those see signed records as PeerInfo. Addresses in them
	// are anyone's claim, so it is off by default.
	LegacyPeerInfo bool

	// MinTTL, MaxTTL and DefaultTTL bound the lifetimes of /rendezvous/1.0.0,
	// in whole seconds. What is outside is refused, never cut. Zero means
	// DefaultMinTTL, MaxTTL and DefaultTTL; DefaultTTL is raised or lowered to
	// the bounds.
	MinTTL, MaxTTL, DefaultTTL time.Duration

	// Limits bound what is kept, Rates how often the point is asked.
	Limits Limits
	Rates  Rates

	// DiscoverAll lets peers list all namespaces, by asking for none. If
	// false, they are told E_NOT_AUTHORIZED. Access is asked as well.
	DiscoverAll bool

	// Access, if not nil, is asked before anything is registered or listed,
	// by several goroutines at once. An error refuses the request with
	// E_NOT_AUTHORIZED; the peer is not told its text.
	Access func(context.Context, Request) error

	// StrictCookies refuses a cookie of another namespace or of a store that
	// was lost. Otherwise it starts the listing again: several clients keep
	// one cookie for all namespaces, or keep a refused one for ever.
	StrictCookies bool

	// AcceptStale lets a record replace a newer one, as servers do that ignore
	// sequence numbers.
	AcceptStale bool

	// MaxStreams and MaxPeerStreams bound the open streams in all and per
	// peer. Zero means DefaultMaxStreams and DefaultMaxPeerStreams, negative
	// no limit.
	MaxStreams, MaxPeerStreams int

	// Logger gets the point's reports. If nil, they are dropped.
	Logger *slog.Logger

	// Registerer gets the point's metrics, muster_rendezvous_* and nim-libp2p's
	// names for four of them. If nil, there are none.
	Registerer prometheus.Registerer
}

// Bounds of streams and requests.
const (
	// DefaultMaxStreams allows each of a host's usual 4000 connections two.
	DefaultMaxStreams = 8192

	// DefaultMaxPeerStreams allows for clients that open one per request.
	DefaultMaxPeerStreams = 64

	// MaxRequestSize bounds a request; most are below 1 KiB.
	MaxRequestSize = 64 << 10

	// FirstDeadline is how long a stream's first request may take, and any
	// one from its first byte to its last; IdleDeadline is how long a stream
	// may stay open without one. WriteDeadline is for an answer.
	FirstDeadline = 10 * time.Second
	IdleDeadline  = time.Minute
	WriteDeadline = 30 * time.Second

	// MaxRecords bounds a page, as the spec recommends.
	MaxRecords = 1000

	// MaxAnswer is what rust-libp2p reads, less its framing. NimMaxAnswer is
	// what nim-libp2p reads before v1.10.
	MaxAnswer    = 1<<20 - 1<<10
	NimMaxAnswer = 60 << 10

	// commitTimeout bounds how long a request waits for the store.
	commitTimeout = 5 * time.Second
)

// SpecConfig returns a Config with the spec's recommendations to the letter:
// registrations live 2 hours at least.
func SpecConfig() Config { return Config{MinTTL: DefaultTTL} }

// A Request is what [Config.Access] decides on.
type Request struct {
	Op     Op
	Realm  Realm
	Peer   peer.ID
	Remote ma.Multiaddr // where the peer's connection comes from
	NS     string       // empty for DISCOVER of all namespaces
}

// An Op is a kind of request.
type Op uint8

// The ops that access is asked for. Leaving is free.
const (
	OpRegister Op = iota + 1
	OpDiscover
)

func (o Op) String() string {
	if o == OpRegister {
		return "register"
	}
	return "discover"
}

func (c Config) withDefaults() Config {
	if c.Store == nil {
		c.Store = NewMemory()
	}
	if c.MinTTL == 0 {
		c.MinTTL = DefaultMinTTL
	}
	if c.MaxTTL == 0 {
		c.MaxTTL = MaxTTL
	}
	if c.DefaultTTL == 0 {
		c.DefaultTTL = DefaultTTL
	}
	c.DefaultTTL = min(max(c.DefaultTTL, c.MinTTL), c.MaxTTL)
	unlimited := func(v *int, def int) {
		if *v == 0 {
			*v = def
		} else if *v < 0 {
			*v = int(^uint(0) >> 1)
		}
	}
	unlimited(&c.MaxStreams, DefaultMaxStreams)
	unlimited(&c.MaxPeerStreams, DefaultMaxPeerStreams)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	for _, d := range []time.Duration{c.MinTTL, c.MaxTTL, c.DefaultTTL} {
		if d < time.Second || d%time.Second != 0 {
			return errors.New("rendezvous: a TTL is not a whole number of seconds")
		}
	}
	if c.MinTTL > c.MaxTTL {
		return errors.New("rendezvous: MinTTL is above MaxTTL")
	}
	return nil
}

// A Point serves rendezvous on a host. Its methods may be called at once.
type Point struct {
	cfg     Config
	host    host.Host
	stores  map[Realm]Store
	cookies cookies
	metrics metrics
	verify  chan struct{} // a place per signature being verified
	pages   sync.Pool     // of *wire.Page
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	metric  *collector // nil if not registered

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

// NewPoint opens the store and serves rendezvous on h until Close. The caller
// keeps h. On an error cfg.Store is closed.
func NewPoint(h host.Host, cfg Config) (*Point, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, errors.Join(err, cfg.Store.Close())
	}
	base := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	p := &Point{
		cfg:     cfg,
		host:    h,
		stores:  map[Realm]Store{RealmLibp2p: cfg.Store},
		verify:  make(chan struct{}, max(2, runtime.GOMAXPROCS(0))),
		pages:   sync.Pool{New: func() any { return new(wire.Page) }},
		ctx:     ctx,
		cancel:  cancel,
		reg:     newRegistry(registryConfig{limits: cfg.Limits, all: cfg.DiscoverAll, stale: cfg.AcceptStale, base: base}),
		rates:   newRateLimiter(cfg.Rates, base),
		streams: map[network.Stream]bool{},
		perPeer: map[peer.ID]int{},
	}
	if cfg.Waku {
		p.stores[RealmWaku] = NewMemory()
	}
	if err := p.open(); err != nil {
		cancel()
		return nil, errors.Join(err, p.closeStores())
	}
	if err := p.start(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// open loads the stores.
func (p *Point) open() error {
	own, err := p.ownSecret()
	if err != nil {
		return err
	}
	var epoch [8]byte
	_, _ = crand.Read(epoch[:]) // never fails
	proposal := Meta{Epoch: binary.BigEndian.Uint64(epoch[:]), Secret: own}
	for realm, store := range p.stores {
		meta, err := store.Open(p.ctx, proposal, p.apply)
		if err != nil {
			return fmt.Errorf("rendezvous: open store: %w", err)
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
		return nil
	}
	p.metrics.refused[reasonStore].Add(1)
	p.cfg.Logger.Warn("store does not take changes", "err", err)
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
