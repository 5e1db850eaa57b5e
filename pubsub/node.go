package pubsub

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
)

// ErrClosed is returned by calls on a PubSub after Close, or after the end of
// the context that it was made with.
var ErrClosed = errors.New("pubsub: closed")

// opQueue is how many calls may wait for the owner goroutine before callers
// block. Nothing is dropped.
const opQueue = 256

// A PubSub speaks floodsub or gossipsub on a host. Its methods may be called
// from any goroutine. It holds no goroutine, stream or subscription after
// [PubSub.Close], which the end of the context given to [NewGossipSub] does too.
type PubSub struct {
	host   host.Host
	self   peer.ID
	cfg    Config
	log    *slog.Logger
	key    crypto.PrivKey // signs; nil if we do not
	author []byte
	ctx    context.Context // the room's own, cancelled by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	closeMu sync.Mutex // guards closed and entering wg from outside
	closed  bool
	gone    chan struct{} // closed when the first Close has ended

	ops       chan op       // to the owner goroutine
	ownerGone chan struct{} // closed when it has ended

	// Owned by the goroutine that runs loop; nothing else touches them.
	mesh       *mesh
	peers      map[peer.ID]*Peer
	joinedList []string

	// Read on the message path.
	topics     atomic.Pointer[map[string]*topicState]
	peerList   atomic.Pointer[[]*Peer]
	joined     atomic.Pointer[[]string]
	observers  []Observer
	hasRecv    bool
	hasSend    bool
	hasValid   bool
	seqno      atomic.Uint64
	firstSeqno uint64 // of this run
	stats      counters
	trace      tracers

	seen       *seenShards
	promised   atomic.Bool // somebody was asked for something
	cacheMu    sync.Mutex  // guards cache
	cache      *messageCache
	scoreMu    sync.Mutex // guards scorer
	scorer     *scorer    // nil without peer scoring
	promiseMu  sync.Mutex // guards promises
	promises   *promises
	blackMu    sync.Mutex // guards calls of cfg.Blacklist
	bulkWrites chan struct{}
	verifyTurn chan struct{} // nil without a bound
	throttle   chan struct{}
	dials      *dialer
	defaults   []*validator
	valMu      sync.Mutex // guards validators
	validators map[string][]*validator

	// topicMu guards the topic handles, which calls from outside make and close.
	topicMu sync.Mutex
	handles map[string]*Topic

	disc      *discoverer
	directs   sync.Map         // of peer.ID
	blackUsed atomic.Bool      // the blacklist may hold somebody
	idFn      MsgIdFunction    // nil for the default one
	lastDecay time.Time        // of scores; owned by the loop
	gateMu    sync.Mutex       // guards gater
	gater     *gater           // nil without peer gater
	unlink    func() bool      // from the context of the constructor; nil without one
	nowHook   func() time.Time // tests only
}

// An op is a function for the owner goroutine to run.
type op struct {
	run  func(now time.Time)
	done chan<- struct{} // told when it has run and its actions are done; nil if nobody waits
}

// New makes a PubSub on a host and starts it. The host stays the caller's,
// and has to outlive it.
func New(h host.Host, cfg Config) (*PubSub, error) {
	custom, blacklist := cfg.MessageID, cfg.Blacklist != nil
	cfg = cfg.withDefaults()
	if custom == nil && (cfg.NoAuthor || cfg.UnsignedAuthors || !cfg.Signatures.mustVerify()) {
		custom = cfg.MessageID
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ps := &PubSub{
		host:       h,
		self:       h.ID(),
		cfg:        cfg,
		log:        cfg.Logger,
		ops:        make(chan op, opQueue),
		ownerGone:  make(chan struct{}),
		gone:       make(chan struct{}),
		peers:      make(map[peer.ID]*Peer),
		observers:  cfg.Observers,
		cache:      newMessageCache(cfg.Params.HistoryGossip, cfg.Params.HistoryLength, cfg.CacheBytes),
		promises:   newPromises(cfg.Params.IWantFollowupTime, maphash.MakeSeed()),
		bulkWrites: make(chan struct{}, cfg.BulkWrites),
		throttle:   make(chan struct{}, cfg.ValidateThrottle),
		validators: make(map[string][]*validator),
		handles:    make(map[string]*Topic),
		idFn:       custom,
	}
	ps.blackUsed.Store(blacklist)
	if err := ps.prepare(); err != nil {
		return nil, err
	}
	ps.ctx, ps.cancel = context.WithCancel(context.Background())
	ps.dials = newDialer(ps)
	ps.start()
	return ps, nil
}

// prepare sets up what can fail and starts nothing.
func (ps *PubSub) prepare() error {
	cfg := &ps.cfg
	if err := ps.prepareAuthor(); err != nil {
		return err
	}
	ps.topics.Store(&map[string]*topicState{})
	ps.peerList.Store(&[]*Peer{})
	ps.joined.Store(&[]string{})
	for i := range cfg.Observers {
		ps.hasRecv = ps.hasRecv || cfg.Observers[i].OnRecv != nil
		ps.hasSend = ps.hasSend || cfg.Observers[i].OnSend != nil
		ps.hasValid = ps.hasValid || cfg.Observers[i].OnValidated != nil
	}
	ps.seen = newSeenShards(cfg.SeenTTL, cfg.SeenIDs, cfg.SeenLast)
	// Sequence numbers have to grow over restarts.
	ps.firstSeqno = uint64(time.Now().UnixNano())
	ps.seqno.Store(ps.firstSeqno)
	if cfg.Score != nil {
		ps.scorer = newScorer(cfg.Score)
	}
	if cfg.ValidateWorkers > 0 {
		ps.verifyTurn = make(chan struct{}, cfg.ValidateWorkers)
	}
	for _, d := range cfg.Validators {
		v, err := newValidator("", d.Validate, d.Options)
		if err != nil {
			return err
		}
		ps.defaults = append(ps.defaults, v)
	}
	ps.mesh = newMesh(ps.meshConfig(), newRand())
	for _, d := range cfg.DirectPeers {
		ps.mesh.direct[d.ID] = struct{}{}
	}
	if cfg.Gater != nil {
		ps.gater = newGater(cfg.Gater, newRand())
	}
	ps.trace.init(ps)
	if cfg.Registerer != nil {
		return cfg.Registerer.Register(collector{ps})
	}
	return nil
}

func newRand() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }

func (ps *PubSub) prepareAuthor() error {
	cfg := &ps.cfg
	if cfg.NoAuthor {
		return nil
	}
	if cfg.Author == "" {
		cfg.Author = ps.self
	}
	ps.author = []byte(cfg.Author)
	if !cfg.Signatures.mustSign() {
		return nil
	}
	ps.key = cfg.SignKey
	if ps.key == nil {
		ps.key = ps.host.Peerstore().PrivKey(cfg.Author)
	}
	if ps.key == nil {
		return fmt.Errorf("pubsub: no private key for author %s", cfg.Author)
	}
	if !cfg.Author.MatchesPrivateKey(ps.key) {
		return fmt.Errorf("pubsub: the key is not that of author %s", cfg.Author)
	}
	return nil
}

// meshConfig ties the router to what it may not know.
func (ps *PubSub) meshConfig() meshConfig {
	c := meshConfig{
		params:        *ps.cfg.Params,
		px:            ps.cfg.PeerExchange,
		flood:         ps.cfg.FloodSub,
		floodOwn:      ps.cfg.FloodPublish,
		maxTopics:     ps.cfg.MaxPeerTopics,
		maxTopicBytes: ps.cfg.MaxPeerTopicBytes,
		maxIWantBytes: 16 * ps.cfg.MaxMessageSize,
		score:         ps.scoreOf,
		filter:        ps.cfg.PeerFilter,
		seen:          func(now time.Time, id []byte) bool { return ps.seen.knows(now, ps.seen.hash.keyBytes(id)) },
		ids:           ps.gossipIDs,
		fetch:         ps.fetch,
		penalize:      ps.penalize,
		promise:       ps.promise,
		meshed:        ps.meshed,
		refused:       func(r refusal) { ps.stats.refused[r].Add(1) },
	}
	if ps.cfg.Thresholds != nil {
		c.scoring, c.thresholds = true, *ps.cfg.Thresholds
	}
	return c
}

// start registers with the host and starts the goroutines.
func (ps *PubSub) start() {
	sub, err := ps.host.EventBus().Subscribe([]any{new(event.EvtPeerProtocolsUpdated), new(event.EvtPeerIdentificationCompleted)})
	if err != nil {
		ps.log.Warn("no identify events", "err", err)
		sub = nil
	}
	ps.wg.Go(ps.loop)
	if sub != nil {
		ps.wg.Go(func() { ps.watchProtocols(sub) })
	}
	for _, id := range ps.cfg.Protocols {
		if ps.cfg.ProtocolMatch != nil {
			ps.host.SetStreamHandlerMatch(id, ps.cfg.ProtocolMatch(id), ps.handleStream)
		} else {
			ps.host.SetStreamHandler(id, ps.handleStream)
		}
	}
	ps.host.Network().Notify((*notifiee)(ps))
	for _, id := range ps.host.Network().Peers() {
		ps.connected(id)
	}
	ps.startDirect()
	if ps.cfg.Discovery != nil {
		ps.disc = newDiscoverer(ps, ps.cfg.Discovery)
	}
	ps.startInspect()
}

// Close leaves all topics, closes every stream and subscription, and waits
// for all goroutines. It may be called more than once, and at once: each call
// returns when all of it is done.
func (ps *PubSub) Close() error {
	ps.closeMu.Lock()
	if ps.closed {
		ps.closeMu.Unlock()
		<-ps.gone
		return nil
	}
	ps.closed = true
	defer close(ps.gone)
	if ps.unlink != nil {
		ps.unlink()
	}
	ps.closeMu.Unlock()
	for _, id := range ps.cfg.Protocols {
		ps.host.RemoveStreamHandler(id)
	}
	ps.host.Network().StopNotify((*notifiee)(ps))
	ps.cancel()
	for _, p := range *ps.peerList.Load() {
		p.close()
	}
	ps.wg.Wait()
	ps.closeTopics()
	if ps.cfg.Registerer != nil {
		ps.cfg.Registerer.Unregister(collector{ps})
	}
	return nil
}

// Shutdown sends what waits for the peers, closes the streams to them when
// they have read it, and then is [PubSub.Close]. When ctx is done it does not
// wait any longer; its error then says so.
func (ps *PubSub) Shutdown(ctx context.Context) error {
	peers := *ps.peerList.Load()
	for _, p := range peers {
		p.draining.Store(true)
		p.wakeWriter()
		p.mayRetry()
	}
	for _, p := range peers {
		if !p.opened() {
			continue
		}
		select {
		case <-p.ended:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), ps.Close())
		}
	}
	return ps.Close()
}

// enter counts a goroutine that is not ours in, unless the room is closed.
func (ps *PubSub) enter() bool {
	ps.closeMu.Lock()
	defer ps.closeMu.Unlock()
	if ps.closed {
		return false
	}
	ps.wg.Add(1)
	return true
}

func (ps *PubSub) now() time.Time {
	if ps.nowHook != nil {
		return ps.nowHook()
	}
	return time.Now()
}

// do has the owner run f and waits until it and what follows from it is done.
func (ps *PubSub) do(f func(now time.Time)) error {
	done := make(chan struct{}, 1)
	return ps.doWith(done, f)
}

func (ps *PubSub) doWith(done chan struct{}, f func(now time.Time)) error {
	select {
	case ps.ops <- op{f, done}:
	case <-ps.ctx.Done():
		return ErrClosed
	}
	// The end of the context is not enough: the owner may be running f still,
	// which reads from a frame that the caller is about to give back.
	select {
	case <-done:
		return nil
	case <-ps.ownerGone:
		return ErrClosed
	}
}

// post has the owner run f later.
func (ps *PubSub) post(f func(now time.Time)) {
	select {
	case ps.ops <- op{run: f}:
	case <-ps.ctx.Done():
	}
}

// loop is the owner of the router's state: the mesh, the table of peers and
// the heartbeat. Everyone else sends it functions to run. It never waits for
// a stream, a validator or a subscriber.
func (ps *PubSub) loop() {
	defer close(ps.ownerGone)
	interval := ps.cfg.Params.HeartbeatInterval
	beat := time.NewTimer(ps.cfg.Params.HeartbeatInitialDelay)
	defer beat.Stop()
	for {
		select {
		case o := <-ps.ops:
			now := ps.now()
			o.run(now)
			ps.act(now)
			if o.done != nil {
				o.done <- struct{}{}
			}
		case <-beat.C:
			beat.Reset(interval)
			ps.heartbeat()
		case <-ps.ctx.Done():
			for _, p := range ps.peers {
				p.close()
			}
			return
		}
	}
}

func (ps *PubSub) heartbeat() {
	now := ps.now()
	ps.stats.heartbeats.Add(1)
	ps.refreshScores(now)
	ps.breakPromises(now)
	ps.mesh.heartbeat(now)
	ps.act(now)
	ps.cacheMu.Lock()
	ps.cache.shift()
	ps.cacheMu.Unlock()
	for _, p := range ps.peers {
		p.tick(now)
	}
	if took := ps.now().Sub(now); ps.slowHeartbeat(took) {
		ps.log.Warn("slow heartbeat", "took", took)
	}
}

func (ps *PubSub) slowHeartbeat(took time.Duration) bool {
	p := ps.cfg.Params
	return p.SlowHeartbeatWarning > 0 && float64(took) > p.SlowHeartbeatWarning*float64(p.HeartbeatInterval)
}
