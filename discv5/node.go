package discv5

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
	"github.com/muster-p2p/muster/internal/secp"
)

// Defaults of Config.
const (
	DefaultPort             = 9000
	DefaultBucketIPLimit    = 2                // of a /24: discv5-rationale.md, "Sybil and Eclipse Attacks"
	DefaultTableIPLimit     = 10               // the same
	DefaultHandshakeTimeout = 2 * time.Second  // a lost packet costs a lookup little
	DefaultResponseTimeout  = 4 * time.Second  // mobile networks
	DefaultSessions         = 1000             // 300 bytes each
	DefaultChallengesPerIP  = 5                // a second: a NAT's worth of new peers
	DefaultChallengesTotal  = 500              // a second: 0.2 s of curve arithmetic if all are answered
	DefaultRecordCache      = 1000             // some 250 bytes each
	DefaultRefreshInterval  = 5 * time.Minute  // of the lookups that keep the table filled
	DefaultRevalidateMax    = 10 * time.Second // between pings of the table's nodes
	DefaultVoteInterval     = 5 * time.Minute  // of looking at what peers say our endpoint is
)

// Config configures a Node. Key is required; the rest has defaults.
type Config struct {
	// Key is the node's identity.
	Key *enr.PrivateKey

	// Listen lists the UDP addresses to bind, at most one of each family;
	// port 0 lets the system choose. If it and Conns are empty,
	// 0.0.0.0:9000 is bound.
	Listen []netip.AddrPort

	// Conns are open sockets to use instead of Listen, at most one of each
	// family. The node closes them, also when Listen fails.
	Conns []PacketConn

	// Advertise lists the endpoints for the local record, at most one of
	// each family; port 0 means the socket's own. A family that is not
	// listed gets its socket's address, if that is a specific one, and
	// whatever the node's peers agree on later.
	Advertise []netip.AddrPort

	// Entries are further entries of the local record. Its Seq is ignored.
	Entries enr.Content

	// Bootnodes are where the table begins.
	Bootnodes []*enr.Record

	// DataDir is an existing directory that keeps the nodes seen alive and
	// the sequence number of the local record. If empty, nothing is kept.
	DataDir string

	// BucketIPLimit and TableIPLimit bound the nodes of one /24 (of one /48
	// in IPv6) in a bucket and in the whole table. Negative means no limit.
	// Private and loopback addresses are not limited.
	BucketIPLimit, TableIPLimit int

	// HandshakeTimeout is how long a challenge lives, and how long a peer
	// without a session has to begin and to end the handshake.
	HandshakeTimeout time.Duration

	// ResponseTimeout is how long a peer with a session has to answer.
	ResponseTimeout time.Duration

	// Sessions bounds the sessions kept.
	Sessions int

	// ChallengesPerIP and ChallengesTotal bound the WHOAREYOU packets sent
	// in a second, to one IPv4 address or IPv6 /64 and to all. Those that the
	// address answers with a valid handshake do not count for it, up to ten
	// times the number. Peers that we know are counted apart. Negative means
	// no limit.
	ChallengesPerIP, ChallengesTotal int

	// RecordCache is how many verified records are remembered at least, so
	// that they need not be verified again. Up to twice as many are.
	RecordCache int

	// RefreshInterval, RevalidateMax and VoteInterval pace the upkeep of the
	// table and of the local record.
	RefreshInterval, RevalidateMax, VoteInterval time.Duration

	// Logger gets what happens at levels info and debug. If nil, nothing.
	Logger *slog.Logger

	// Registerer, if not nil, gets the node's metrics, until Close.
	Registerer prometheus.Registerer
}

func (c Config) withDefaults() Config {
	setDefault(&c.BucketIPLimit, DefaultBucketIPLimit)
	setDefault(&c.TableIPLimit, DefaultTableIPLimit)
	setDefault(&c.HandshakeTimeout, DefaultHandshakeTimeout)
	setDefault(&c.ResponseTimeout, DefaultResponseTimeout)
	setDefault(&c.Sessions, DefaultSessions)
	setDefault(&c.ChallengesPerIP, DefaultChallengesPerIP)
	setDefault(&c.ChallengesTotal, DefaultChallengesTotal)
	setDefault(&c.RecordCache, DefaultRecordCache)
	setDefault(&c.RefreshInterval, DefaultRefreshInterval)
	setDefault(&c.RevalidateMax, DefaultRevalidateMax)
	setDefault(&c.VoteInterval, DefaultVoteInterval)
	if len(c.Listen) == 0 && len(c.Conns) == 0 {
		c.Listen = []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), DefaultPort)}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (c *Config) validate() error {
	switch {
	case c.Key == nil:
		return errors.New("discv5: Config.Key is required")
	case c.Sessions < 0, c.RecordCache < 0:
		return errors.New("discv5: Config.Sessions and RecordCache cannot be negative")
	case c.HandshakeTimeout < 0, c.ResponseTimeout < 0, c.RefreshInterval < 0, c.RevalidateMax < 0, c.VoteInterval < 0:
		return errors.New("discv5: intervals cannot be negative")
	}
	return nil
}

// A Node takes part in the network: it answers others, keeps a table of live
// nodes and looks for more. All methods may be called by several goroutines.
//
// The state is a core with a lock over it rather than with a goroutine: a
// packet is handled where it is read and a request encoded where it is made,
// which spares two changes of goroutine for each (docs/adr/0032). The lock is
// held for a microsecond or two, never over I/O, curve arithmetic or a
// callback.
type Node struct {
	cfg          Config
	id           enr.ID
	log          *slog.Logger
	fam          families
	conns        []PacketConn
	conn4, conn6 PacketConn
	db           *nodeDB
	static4      bool // the record's IPv4 endpoint is the configured one
	static6      bool

	mu   sync.Mutex
	core *core // mu

	cacheMu sync.Mutex
	cache   *enr.Cache // cacheMu

	recordMu sync.Mutex // held while the local record is being replaced

	outboxes sync.Pool // of *outbox
	requests sync.Pool // of *request

	kick      chan struct{}
	own       chan *job
	foreign   chan *job
	voted     chan netip.AddrPort
	refreshes chan struct{}

	subs subscribers

	packetsOut, bytesOut, unsent, dropped atomic.Uint64
	unrelayable                           atomic.Uint64

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	closed sync.Once
	metric prometheus.Collector
}

// jobQueue bounds the handshakes waiting for the worker: 64 take some 20 ms.
const jobQueue = 64

// Listen starts a node. The caller must Close it.
func Listen(cfg Config) (*Node, error) {
	n, err := newNode(cfg)
	if err != nil {
		for _, c := range cfg.Conns {
			err = errors.Join(err, c.Close())
		}
		return nil, err
	}
	for _, conn := range n.conns {
		n.wg.Go(func() { n.read(conn) })
	}
	n.wg.Go(n.work)
	n.wg.Go(n.maintain)
	n.wg.Go(n.loop)
	return n, nil
}

// newNode makes a node that does nothing yet.
func newNode(cfg Config) (*Node, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, id: cfg.Key.Public().NodeID(), log: cfg.Logger,
		cache:     enr.NewCache(cfg.RecordCache),
		kick:      make(chan struct{}, 1),
		own:       make(chan *job, jobQueue),
		foreign:   make(chan *job, jobQueue),
		voted:     make(chan netip.AddrPort, 1),
		refreshes: make(chan struct{}, 1),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.outboxes.New = func() any { return new(outbox) }
	n.requests.New = func() any { return &request{done: make(chan *request, 1)} }
	err := n.openSockets()
	if err == nil {
		err = n.openState()
	}
	if err != nil {
		n.cancel()
		if len(cfg.Conns) == 0 {
			err = errors.Join(err, n.closeSockets())
		}
		return nil, err
	}
	return n, nil
}

func (n *Node) openSockets() error {
	n.conns = append(n.conns, n.cfg.Conns...)
	if len(n.conns) == 0 {
		for _, addr := range n.cfg.Listen {
			conn, err := listenUDP(addr)
			if err != nil {
				return err
			}
			n.conns = append(n.conns, conn)
		}
	}
	for _, conn := range n.conns {
		ap, err := localAddrPort(conn)
		if err != nil {
			return err
		}
		slot, have := &n.conn4, &n.fam.v4
		if ap.Addr().Is6() {
			slot, have = &n.conn6, &n.fam.v6
		}
		if *have {
			return errors.New("discv5: two sockets of one address family")
		}
		*slot, *have = conn, true
	}
	return nil
}

func (n *Node) closeSockets() (err error) {
	for _, c := range n.conns {
		err = errors.Join(err, c.Close())
	}
	return err
}

// openState reads what an earlier run has left and makes core.
func (n *Node) openState() error {
	var saved savedState
	if n.cfg.DataDir != "" {
		var err error
		if n.db, saved, err = openNodeDB(n.cfg.DataDir); err != nil {
			return err
		}
	}
	content, err := n.firstContent()
	if err != nil {
		return err
	}
	now := time.Now()
	content.Seq = enr.NextSeq(saved.seq, now)
	local, err := content.Sign(n.cfg.Key)
	if err != nil {
		return err
	}
	if err := n.db.saveSeq(local.Seq()); err != nil {
		return err
	}
	n.core = newCore(now, n.cfg, n.fam, local, n.fam.v4 && !n.static4 || n.fam.v6 && !n.static6)
	for _, r := range slices.Concat(saved.nodes, n.cfg.Bootnodes) {
		n.core.table.add(now, r)
	}
	if n.cfg.Registerer != nil {
		n.metric = newCollector(n)
		if err := n.cfg.Registerer.Register(n.metric); err != nil {
			return fmt.Errorf("discv5: register metrics: %w", err)
		}
	}
	return nil
}

// firstContent is what the local record says at the start.
func (n *Node) firstContent() (enr.Content, error) {
	content := n.cfg.Entries.Clone()
	for _, conn := range n.conns {
		ap, err := localAddrPort(conn)
		if err != nil {
			return content, err
		}
		for _, a := range n.cfg.Advertise {
			if a.Addr().Unmap().Is4() != ap.Addr().Is4() {
				continue
			}
			if a.Port() == 0 {
				a = netip.AddrPortFrom(a.Addr(), ap.Port())
			}
			content.SetUDPEndpoint(a)
			if ap.Addr().Is4() {
				n.static4 = true
			} else {
				n.static6 = true
			}
		}
		if static := n.static4 && ap.Addr().Is4() || n.static6 && ap.Addr().Is6(); !static && spaceOf(ap.Addr()) != spaceNone {
			content.SetUDPEndpoint(ap)
		}
	}
	return content, nil
}

// newCore makes the state of a node that begins now.
func newCore(now time.Time, cfg Config, fam families, local *enr.Record, autoUpdate bool) *core {
	var seed [32]byte
	secp.Random(seed[:])
	bytes := rand.NewChaCha8(seed)
	rnd := rand.New(bytes)
	c := &core{
		cfg: coreConfig{
			handshakeTimeout: cfg.HandshakeTimeout, responseTimeout: cfg.ResponseTimeout,
			refreshInterval: cfg.RefreshInterval, revalidateMax: cfg.RevalidateMax,
			voteInterval: cfg.VoteInterval, autoUpdate: autoUpdate,
		},
		self: local.ID(), local: local, fam: fam,
		codec: wire.NewCodec(local.ID()), bytes: bytes, rnd: rnd, out: new(outbox),
		sessions:   newSessionCache(cfg.Sessions, bytes),
		challenges: newChallengeTable(cfg.HandshakeTimeout, cfg.ChallengesPerIP, cfg.ChallengesTotal, bytes),
		contacts:   newContactBook(),
		table:      newTable(local.ID(), fam, cfg.BucketIPLimit, cfg.TableIPLimit, rnd),
		votes:      newIPVote(),
		talks:      talkBook{handlers: make(map[string]TalkHandler)},
		every:      min(firstRefresh, cfg.RefreshInterval),
	}
	c.revalid = now.Add(time.Duration(rnd.Int64N(int64(cfg.RevalidateMax))))
	c.sweep, c.vote, c.refresh = now.Add(sweepEvery), now.Add(cfg.VoteInterval), now.Add(c.every)
	c.table.onMember = func(e *entry, in bool) {
		c.sessions.setMember(endpoint{e.id(), e.addr}, in)
		kind := NodeRemoved
		if in {
			kind = NodeAdded
		}
		c.event(Event{Kind: kind, ID: e.id(), Addr: e.addr, Record: e.record})
	}
	c.table.onLive = func(e *entry) {
		c.event(Event{Kind: NodeAlive, ID: e.id(), Addr: e.addr, Record: e.record})
	}
	return c
}

// Close ends the node: requests under way fail with ErrClosed, the live nodes
// are saved, and all goroutines but handlers of talk protocols that do not
// return have ended when Close returns; those it waits for. It may be called
// twice.
func (n *Node) Close() error {
	var err error
	n.closed.Do(func() {
		n.cancel()
		err = n.closeSockets()
		n.wg.Wait()
		err = errors.Join(err, n.saveNodes())
		n.subs.close()
		if n.metric != nil {
			n.cfg.Registerer.Unregister(n.metric)
		}
	})
	return err
}

// ID returns the node's ID.
func (n *Node) ID() enr.ID { return n.id }

// LocalRecord returns the node's record as it is now.
func (n *Node) LocalRecord() *enr.Record {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.core.local
}

// UpdateRecord changes the local record: f gets a copy of its content to
// edit. The record gets a higher number if f has changed anything, and nodes
// in the table are told of it in the seconds that follow. The error is
// enr.ErrTooLarge if the record would not fit; then it stays as it was.
func (n *Node) UpdateRecord(f func(*enr.Content)) (*enr.Record, error) {
	n.recordMu.Lock()
	defer n.recordMu.Unlock()
	old := n.LocalRecord()
	content := old.Content()
	f(&content)
	before := old.Content()
	if content.SameEntries(&before) {
		return old, nil
	}
	content.Seq = enr.NextSeq(old.Seq(), time.Now())
	local, err := content.Sign(n.cfg.Key)
	if err != nil {
		return nil, err
	}
	if err := n.db.saveSeq(local.Seq()); err != nil {
		return nil, err
	}
	out := n.outbox()
	n.mu.Lock()
	n.core.replaceLocal(time.Now(), local, out)
	n.mu.Unlock()
	n.done(out)
	return local, nil
}

// replaceLocal takes local as the node's own record. All nodes in the table
// are to be pinged, since a PING tells of its number. If the endpoint has
// changed, the next request to each goes with a new handshake: nodes take
// others into their tables when these shake hands, and one that did not know
// its endpoint before, or called from another, has no seat anywhere.
func (c *core) replaceLocal(now time.Time, local *enr.Record, out *outbox) {
	c.out = out
	if !sameEndpoints(c.local, local) {
		c.moved = now.Unix()
	}
	c.local = local
	c.stats.RecordUpdates++
	c.table.all(func(e *entry) { c.table.setDue(e, true) })
	c.checkSoon(now)
	c.event(Event{Kind: RecordUpdated, ID: c.self, Record: local})
}

// AddNode offers a record to the table and reports whether its node is in
// there now. It is not relayed to others before it has answered.
func (n *Node) AddNode(r *enr.Record) bool {
	return n.offer([]*enr.Record{r}) == 1
}

// AddText is AddNode with a record in its text form.
func (n *Node) AddText(text string) error {
	r, err := enr.ParseText(text)
	if err != nil {
		return err
	}
	if !n.AddNode(r) {
		return errors.New("discv5: no place for this node in the table")
	}
	return nil
}

// SeedTable offers the bootnodes to the table and returns how many of them
// are in there. The node does so itself at the start, and when few are left.
func (n *Node) SeedTable() int { return n.offer(n.cfg.Bootnodes) }

// offer puts records into the table, where there is room.
func (n *Node) offer(records []*enr.Record) (in int) {
	if len(records) == 0 {
		return 0
	}
	out := n.outbox()
	now := time.Now()
	n.mu.Lock()
	n.core.out = out
	for _, r := range records {
		if e, _ := n.core.table.add(now, r); e != nil {
			in++
		}
	}
	n.core.checkSoon(now)
	n.mu.Unlock()
	n.done(out)
	return in
}

// A TableEntry describes a node in the table.
type TableEntry struct {
	Record   *enr.Record
	Addr     netip.AddrPort // where it is reached
	Distance int
	Alive    bool      // it has answered there
	Added    time.Time // into the table
	Seen     time.Time // last answer, zero if none
	Checks   int       // answers in all
}

// Table lists the nodes in the table, the nearest buckets first.
func (n *Node) Table() []TableEntry {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]TableEntry, 0, n.core.table.n)
	n.core.table.all(func(e *entry) {
		out = append(out, TableEntry{
			Record: e.record, Addr: e.addr, Distance: enr.LogDistance(n.id, e.id()),
			Alive: e.live, Added: e.added, Seen: e.seen, Checks: int(e.checks),
		})
	})
	return out
}

// Neighbours returns up to k nodes of the table nearest to id, nearest first;
// with seenOnly only those that have answered.
func (n *Node) Neighbours(id enr.ID, k int, seenOnly bool) []*enr.Record {
	n.mu.Lock()
	defer n.mu.Unlock()
	return recordsOf(n.core.table.closest(id, max(k, 0), seenOnly))
}

// NeighboursAtDistances returns up to k nodes of the table at exactly these
// distances from this node; with seenOnly only those that have answered.
func (n *Node) NeighboursAtDistances(distances []int, k int, seenOnly bool) []*enr.Record {
	ds := make([]uint16, 0, len(distances))
	for _, d := range distances {
		if d >= 0 && d <= wire.MaxDistance {
			ds = append(ds, uint16(d))
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return recordsOf(n.core.table.atDistances(nil, ds, max(k, 0), func(e *entry) bool { return e.live || !seenOnly }))
}

// RandomNodes returns up to limit nodes of the table that pred accepts, in
// random order. A nil pred accepts all. pred must not call the node.
func (n *Node) RandomNodes(limit int, pred func(*enr.Record) bool) []*enr.Record {
	n.mu.Lock()
	all := recordsOf(n.core.table.random(n.core.table.n, func(*entry) bool { return true }))
	n.mu.Unlock()
	var out []*enr.Record
	for _, r := range all {
		if len(out) >= limit {
			break
		}
		if pred == nil || pred(r) {
			out = append(out, r)
		}
	}
	return out
}

func recordsOf(l []*entry) []*enr.Record {
	out := make([]*enr.Record, len(l))
	for i, e := range l {
		out[i] = e.record
	}
	return out
}

// Stats returns what the node has counted.
func (n *Node) Stats() Stats {
	n.mu.Lock()
	s := n.core.snapshot()
	n.mu.Unlock()
	s.PacketsOut, s.BytesOut = n.packetsOut.Load(), n.bytesOut.Load()
	s.PacketsUnsent, s.HandshakesDropped = n.unsent.Load(), n.dropped.Load()
	s.NodesRefusedUnrelayable = n.unrelayable.Load()
	s.EventsDropped = n.subs.dropped.Load()
	return s
}

func (c *core) snapshot() Stats {
	s := c.stats
	s.ChallengesRateLimited, s.ChallengesDropped = c.challenges.droppedByRate, c.challenges.dropped
	s.SessionsEvicted, s.NodesRefusedByNetwork = c.sessions.evicted, c.table.limited
	s.Sessions, s.Challenges = len(c.sessions.byPeer), len(c.challenges.byPeer)
	s.TableNodes = c.table.n
	for i := range c.table.buckets {
		b := &c.table.buckets[i]
		s.TableSpares += len(b.spares)
		for _, e := range b.entries {
			if e.live {
				s.TableAlive++
			}
		}
	}
	return s
}

// parse verifies a record unless the same bytes have been verified before.
func (n *Node) parse(b []byte) (*enr.Record, error) {
	n.cacheMu.Lock()
	r, ok := n.cache.Get(b)
	n.cacheMu.Unlock()
	if ok {
		return r, nil
	}
	r, err := enr.Parse(b)
	if err != nil {
		return nil, err
	}
	n.cacheMu.Lock()
	n.cache.Add(r)
	n.cacheMu.Unlock()
	return r, nil
}

func (n *Node) outbox() *outbox { return n.outboxes.Get().(*outbox) }

// done flushes an outbox and gives it back.
func (n *Node) done(out *outbox) {
	n.flush(out)
	n.outboxes.Put(out)
}
