package discv5

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
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
	callers *enr.Cache // cacheMu: of records that came in handshakes

	recordMu sync.Mutex // held while the local record is being replaced

	turn readTurn

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

// callerRecords is how many verified records of handshakes are remembered at
// least. They are kept apart from those of lookups: who makes keys by the
// thousand must not flush these, nor hold memory for each.
const callerRecords = 64

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
		r := &socketReader{conn: conn}
		if udp, ok := conn.(*net.UDPConn); ok && len(n.conns) == 1 {
			n.turn.conn, n.turn.reader, n.turn.resume = udp, r, make(chan struct{}, 1)
		}
		n.wg.Go(func() { n.read(r) })
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
		callers:   enr.NewCache(callerRecords),
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
	if n.conn4 == nil && takesBoth(n.conn6) {
		n.conn4, n.fam.v4 = n.conn6, true
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
	for _, f := range [...]struct {
		conn   PacketConn
		v4     bool
		static *bool
	}{{n.conn4, true, &n.static4}, {n.conn6, false, &n.static6}} {
		if f.conn == nil {
			continue
		}
		ap, err := localAddrPort(f.conn)
		if err != nil {
			return content, err
		}
		for _, a := range n.cfg.Advertise {
			if a.Addr().Unmap().Is4() != f.v4 {
				continue
			}
			if a.Port() == 0 {
				a = netip.AddrPortFrom(a.Addr(), ap.Port())
			}
			content.SetUDPEndpoint(a)
			*f.static = true
		}
		if !*f.static && spaceOf(ap.Addr()) != spaceNone {
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
		sessions:   newSessionCache(now, cfg.Sessions, bytes),
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

// parse verifies a record unless the same bytes have been verified before.
func (n *Node) parse(b []byte) (*enr.Record, error) {
	if r := n.known(b); r != nil {
		return r, nil
	}
	r, err := enr.Parse(b)
	if err != nil {
		return nil, err
	}
	n.cacheMu.Lock()
	defer n.cacheMu.Unlock()
	n.cache.Add(r)
	return r, nil
}

// known returns the record of bytes that have been verified before, or nil.
func (n *Node) known(b []byte) *enr.Record {
	n.cacheMu.Lock()
	defer n.cacheMu.Unlock()
	r, ok := n.cache.Get(b)
	if !ok {
		r, _ = n.callers.Get(b)
	}
	return r
}

// learn remembers a record that was verified with a handshake.
func (n *Node) learn(r *enr.Record) {
	n.cacheMu.Lock()
	defer n.cacheMu.Unlock()
	n.callers.Add(r)
}

func (n *Node) outbox() *outbox { return n.outboxes.Get().(*outbox) }

// done flushes an outbox and gives it back.
func (n *Node) done(out *outbox) {
	n.flush(out)
	n.outboxes.Put(out)
}
