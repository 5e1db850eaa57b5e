package rendezvous

import (
	"bytes"
	"cmp"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// An entry is a live registration in memory. At a million of them each byte
// here is a megabyte.
type entry struct {
	ns         *namespace
	peer       *peerState
	record     []byte
	prev, next *entry // wheel
	second     int64  // wheel
	pos        uint64
	deadline   int64 // nanoseconds since registry.base
	seq        uint64
	form       Form
}

type namespace struct {
	name    string
	realm   *realmState
	tag     nsTag
	order   order
	pending int // reservations
}

// A peerState is a peer with registrations, or reservations, in a realm.
type peerState struct {
	id      peer.ID
	source  *source
	maxSeq  uint64 // of the registrations
	atMax   int32  // how many have it
	pending int32
	n       int32
	one     *entry                // if n is 1
	many    map[*namespace]*entry // if n was ever more
}

// A source is an address that peers come from.
type source struct {
	addr  netip.Addr
	peers int
}

type realmState struct {
	namespaces map[string]*namespace
	peers      map[peer.ID]*peerState
	all        *order // nil unless listing all namespaces is allowed
	head       uint64 // the position of the last change
	live       int
}

// registryConfig configures a registry.
type registryConfig struct {
	limits Limits
	all    bool      // keep the order of all namespaces together
	stale  bool      // let a record replace a newer one
	base   time.Time // any time before the first call, with a monotonic clock reading
}

// A registry holds the live registrations of both realms. It applies changes
// in the order of the store, answers questions, and bounds what is let in.
//
// It is plain memory: calls that change it need it alone; has, list, sample,
// find and stats may run beside each other.
type registry struct {
	registryConfig
	realms  map[Realm]*realmState
	wheel   wheel
	sources map[netip.Addr]*source
	nets    map[netip.Prefix]int // sources' networks to peers
	live    int
	pending int
	bytes   int64 // live and reserved
}

func newRegistry(cfg registryConfig) *registry {
	cfg.limits = cfg.limits.withDefaults()
	r := &registry{
		registryConfig: cfg,
		realms:         map[Realm]*realmState{},
		wheel:          wheel{seconds: map[int64]*entry{}},
		sources:        map[netip.Addr]*source{},
		nets:           map[netip.Prefix]int{},
	}
	for _, realm := range []Realm{RealmLibp2p, RealmWaku} {
		s := &realmState{namespaces: map[string]*namespace{}, peers: map[peer.ID]*peerState{}}
		if cfg.all {
			s.all = &order{}
		}
		r.realms[realm] = s
	}
	return r
}

func (r *registry) since(t time.Time) int64 { return int64(t.Sub(r.base)) }

func (p *peerState) get(ns *namespace) *entry {
	if p.many != nil {
		return p.many[ns]
	}
	if p.one != nil && p.one.ns == ns {
		return p.one
	}
	return nil
}

func (p *peerState) put(e *entry) {
	p.n++
	switch {
	case p.many != nil:
		p.many[e.ns] = e
	case p.one == nil:
		p.one = e
	default:
		p.many = map[*namespace]*entry{p.one.ns: p.one, e.ns: e}
		p.one = nil
	}
}

func (p *peerState) drop(e *entry) {
	p.n--
	if p.many != nil {
		delete(p.many, e.ns)
	} else {
		p.one = nil
	}
	p.retire(e.seq)
}

// join and retire keep maxSeq, as a registration with seq comes and is gone.
func (p *peerState) join(seq uint64) {
	switch {
	case seq > p.maxSeq || p.atMax == 0:
		p.maxSeq, p.atMax = seq, 1
	case seq == p.maxSeq:
		p.atMax++
	}
}

func (p *peerState) retire(seq uint64) {
	if seq != p.maxSeq {
		return
	}
	if p.atMax--; p.atMax > 0 {
		return
	}
	p.maxSeq = 0
	for e := range p.entries {
		p.join(e.seq)
	}
}

// entries yields the peer's registrations in no order.
func (p *peerState) entries(yield func(*entry) bool) {
	if p.one != nil {
		yield(p.one)
		return
	}
	for _, e := range p.many {
		if !yield(e) {
			return
		}
	}
}

// entry returns the live entry under k, or nil.
func (r *registry) entry(k Key) *entry {
	realm := r.realms[k.Realm]
	ns, p := realm.namespaces[k.NS], realm.peers[k.Peer]
	if ns == nil || p == nil {
		return nil
	}
	return p.get(ns)
}

// known returns the record bytes of a live registration of the peer that are
// equal to record, and their sequence number: they need not be verified again,
// nor kept twice.
func (r *registry) known(realm Realm, id peer.ID, record []byte) (same []byte, seq uint64, ok bool) {
	p := r.realms[realm].peers[id]
	if p == nil {
		return nil, 0, false
	}
	tried := 0
	for e := range p.entries {
		if bytes.Equal(e.record, record) {
			return e.record, e.seq, true
		}
		// A peer has one record as a rule, and the old one until it has
		// registered the new one everywhere.
		if tried++; tried == 4 {
			break
		}
	}
	return nil, 0, false
}

// A ticket reserves room for a registration that is on its way through the
// store. It must be given back with release, whatever became of it.
type ticket struct {
	realm *realmState
	peer  *peerState
	ns    *namespace
	bytes int64
	fresh bool // not a replacement
}

// entryOverhead is what a registration takes beside its name and record.
const entryOverhead = 320

func cost(ns string, record []byte) int64 {
	return int64(len(ns)) + int64(len(record)) + entryOverhead
}

// admit decides whether reg may be registered and reserves room for it. Errors
// are those of limits.go.
func (r *registry) admit(now time.Time, reg *Registration) (ticket, error) {
	err := r.check(now, reg)
	if isLimit(err) && r.collect(now, reg) {
		err = r.check(now, reg)
	}
	if err != nil {
		return ticket{}, err
	}
	realm := r.realms[reg.Realm]
	t := ticket{realm: realm, fresh: r.entry(reg.Key) == nil}
	if !t.fresh {
		return t, nil
	}
	t.ns, t.peer, t.bytes = r.namespace(realm, reg), r.peer(realm, reg), cost(reg.NS, reg.Record)
	t.ns.pending++
	t.peer.pending++
	r.pending++
	r.bytes += t.bytes
	return t, nil
}

func isLimit(err error) bool {
	return err != nil && err != errStaleRecord //nolint:errorlint // our own, never wrapped
}

// collect removes what has expired and may stand in reg's way.
func (r *registry) collect(now time.Time, reg *Registration) bool {
	const most = 256 // the limits' worst case stays short
	n, _ := r.expire(now, most)
	// And of this second, which the wheel has not done yet.
	dead := r.wheel.dueNow(r.since(now), most)
	for _, e := range dead {
		r.remove(e)
	}
	n += len(dead)
	if p := r.realms[reg.Realm].peers[reg.Peer]; p != nil {
		dead = dead[:0]
		for e := range p.entries {
			if e.deadline <= r.since(now) {
				dead = append(dead, e)
			}
		}
		for _, e := range dead {
			r.remove(e)
		}
		n += len(dead)
	}
	return n > 0
}

// check is admit without the reservation.
func (r *registry) check(now time.Time, reg *Registration) error {
	realm, lim := r.realms[reg.Realm], &r.limits
	p, ns := realm.peers[reg.Peer], realm.namespaces[reg.NS]
	if p != nil && !r.stale && reg.Seq < p.maxSeq && p.liveSeq(r.since(now)) > reg.Seq {
		return errStaleRecord
	}
	if p != nil && ns != nil {
		if e := p.get(ns); e != nil && e.deadline > r.since(now) {
			return nil // a refresh
		}
	}
	switch {
	case p != nil && int(p.n+p.pending) >= lim.PerPeer:
		return errPeerFull
	case ns != nil && ns.order.n+ns.pending >= lim.PerNamespace:
		return errNamespaceFull
	case r.live+r.pending >= lim.Total, r.bytes+cost(reg.NS, reg.Record) > lim.Bytes:
		return errFull
	case p == nil && reg.Source.IsValid() && r.sourceFull(reg.Source):
		return errSourceFull
	}
	return nil
}

// liveSeq is maxSeq without what has expired and was not collected yet.
func (p *peerState) liveSeq(now int64) (seq uint64) {
	for e := range p.entries {
		if e.deadline > now {
			seq = max(seq, e.seq)
		}
	}
	return seq
}

func (r *registry) sourceFull(a netip.Addr) bool {
	if s := r.sources[a]; s != nil && s.peers >= r.limits.PerSource {
		return true
	}
	return r.nets[netOf(a)] >= r.limits.PerNet
}

// release gives back what admit reserved.
func (r *registry) release(t ticket) {
	if !t.fresh {
		return
	}
	t.ns.pending--
	t.peer.pending--
	r.pending--
	r.bytes -= t.bytes
	r.tidy(t.realm, t.ns, t.peer)
}

// namespace and peer return the named state, made if need be.
func (r *registry) namespace(realm *realmState, reg *Registration) *namespace {
	ns := realm.namespaces[reg.NS]
	if ns == nil {
		ns = &namespace{name: reg.NS, realm: realm, tag: tagOf(reg.Realm, reg.NS)}
		realm.namespaces[reg.NS] = ns
	}
	return ns
}

func (r *registry) peer(realm *realmState, reg *Registration) *peerState {
	p := realm.peers[reg.Peer]
	if p == nil {
		p = &peerState{id: reg.Peer}
		realm.peers[reg.Peer] = p
	}
	r.setSource(p, reg.Source)
	return p
}

// setSource counts p under the address a, and no longer under its last one.
func (r *registry) setSource(p *peerState, a netip.Addr) {
	if s := p.source; s != nil {
		if s.addr == a {
			return
		}
		if s.peers--; s.peers == 0 {
			delete(r.sources, s.addr)
		}
		net := netOf(s.addr)
		if r.nets[net]--; r.nets[net] == 0 {
			delete(r.nets, net)
		}
		p.source = nil
	}
	if !a.IsValid() {
		return
	}
	s := r.sources[a]
	if s == nil {
		s = &source{addr: a}
		r.sources[a] = s
	}
	s.peers++
	r.nets[netOf(a)]++
	p.source = s
}

// tidy forgets a namespace and a peer that hold nothing.
func (r *registry) tidy(realm *realmState, ns *namespace, p *peerState) {
	if ns.order.n == 0 && ns.pending == 0 {
		delete(realm.namespaces, ns.name)
	}
	if p.n == 0 && p.pending == 0 {
		r.setSource(p, netip.Addr{})
		delete(realm.peers, p.id)
	}
}

// apply takes over committed changes, in the order of their positions.
func (r *registry) apply(now time.Time, changes []Change) {
	for i := range changes {
		c := &changes[i]
		realm := r.realms[c.Realm]
		if realm == nil || c.Pos <= realm.head {
			continue // not ours to understand, or seen
		}
		realm.head = c.Pos
		left := min(c.Expires.Sub(now), c.TTL)
		old := r.entry(c.Key)
		switch {
		case !c.Removed && left > 0:
			r.set(realm, old, c, r.since(now)+int64(left))
		case old != nil:
			r.remove(old)
		}
	}
}

// set adds the registration of c or puts it in the place of old.
func (r *registry) set(realm *realmState, old *entry, c *Change, deadline int64) {
	p := r.peer(realm, &c.Registration)
	record := c.Record
	if same, _, ok := r.known(c.Realm, c.Peer, record); ok {
		record = same
	}
	e := old
	if e == nil {
		e = &entry{ns: r.namespace(realm, &c.Registration), peer: p}
		p.put(e)
		r.live++
		realm.live++
	} else {
		r.unlink(e)
	}
	r.bytes += cost(c.NS, record)
	gone := e.seq
	e.record, e.form, e.seq, e.pos, e.deadline = record, c.Form, c.Seq, c.Pos, deadline
	p.join(c.Seq)
	if old != nil {
		p.retire(gone)
	}
	e.ns.order.push(e)
	if realm.all != nil {
		realm.all.push(e)
	}
	r.wheel.add(e)
}

// unlink takes e out of the lists that its position and deadline order.
func (r *registry) unlink(e *entry) {
	r.bytes -= cost(e.ns.name, e.record)
	e.ns.order.remove(e)
	if all := e.ns.realm.all; all != nil {
		all.remove(e)
	}
	r.wheel.remove(e)
}

func (r *registry) remove(e *entry) {
	r.unlink(e)
	r.live--
	e.ns.realm.live--
	e.peer.drop(e)
	r.tidy(e.ns.realm, e.ns, e.peer)
}

// expire removes up to most registrations that have expired, and returns how
// many it removed and when to call it again: at once if it is now.
func (r *registry) expire(now time.Time, most int) (n int, next time.Time) {
	at := r.since(now)
	for ; n < most; n++ {
		e := r.wheel.due(at)
		if e == nil {
			return n, now.Add(time.Duration(wheelTick - at%wheelTick))
		}
		r.remove(e)
	}
	return n, now
}

// removals returns the changes that unregister a peer from ns, or from all
// namespaces if ns is empty. There are none if it is not registered.
func (r *registry) removals(realm Realm, id peer.ID, ns string) []Change {
	p := r.realms[realm].peers[id]
	if p == nil {
		return nil
	}
	var out []Change
	for e := range p.entries {
		if ns == "" || e.ns.name == ns {
			k := Key{Realm: realm, NS: e.ns.name, Peer: id}
			out = append(out, Change{Registration: Registration{Key: k}, Removed: true})
		}
	}
	slices.SortFunc(out, func(a, b Change) int { return cmp.Compare(a.NS, b.NS) })
	return out
}

// left returns how long e still lives.
func (r *registry) left(now time.Time, e *entry) time.Duration {
	return time.Duration(e.deadline - r.since(now))
}

// noEntries is the order of a namespace that is not there. It is only read.
var noEntries = &order{}

// orderOf returns the order and tag of a namespace, or of all together if ns
// is empty and that is allowed. Unknown ones have an empty order.
func (r *registry) orderOf(realm Realm, ns string) (*order, nsTag) {
	s := r.realms[realm]
	if ns == "" && s.all != nil {
		return s.all, tagOf(realm, "")
	}
	if n := s.namespaces[ns]; n != nil {
		return &n.order, n.tag
	}
	return noEntries, tagOf(realm, ns)
}

// list goes on with a listing: it calls emit with live registrations of o
// until that returns false, which says that this one was not taken. It returns
// where the next page begins.
func (r *registry) list(now time.Time, realm Realm, o *order, l listing, rng *rand.Rand, emit func(*entry) bool) listing {
	at, head := r.since(now), r.realms[realm].head
	if l.phase == phaseNew {
		l = listing{phase: phaseFollow, hi: head}
		if e := o.random(rng); e != nil {
			l = listing{phase: phaseUp, hi: head, start: e.pos - 1, cur: e.pos - 1}
		}
	}
	// read goes through from < pos <= to and returns how far it came.
	read := func(from, to uint64) (uint64, bool) {
		done := o.each(from, to, func(e *entry) bool {
			if e.deadline > at && !emit(e) {
				return false
			}
			from = e.pos
			return true
		})
		return from, done
	}
	var done bool
	if l.phase == phaseUp {
		if l.cur, done = read(l.cur, l.hi); !done {
			return l
		}
		if head < l.hi { // another point that shares the store is ahead
			l.cur = max(l.cur, head)
			return l
		}
		l.phase, l.cur = phaseRound, 0
	}
	if l.phase == phaseRound {
		if l.cur, done = read(l.cur, l.start); !done {
			return l
		}
		if head < l.start {
			l.cur = max(l.cur, head)
			return l
		}
		l.phase, l.cur, l.start = phaseFollow, 0, 0
	}
	if l.hi, done = read(l.hi, math.MaxUint64); done {
		l.hi = max(l.hi, head)
	}
	return l
}

// sample calls emit with up to limit live registrations of o, drawn by lot and
// in no order, until it returns false.
//
// Spec: https://github.com/waku-org/go-waku-rendezvous: a discover returns
// random records.
func (r *registry) sample(now time.Time, o *order, limit int, rng *rand.Rand, emit func(*entry) bool) {
	at := r.since(now)
	var drawn []*entry
	if o.n <= 2*limit {
		o.each(0, math.MaxUint64, func(e *entry) bool {
			drawn = append(drawn, e)
			return true
		})
		rng.Shuffle(len(drawn), func(i, j int) { drawn[i], drawn[j] = drawn[j], drawn[i] })
	} else {
		// Fewer than half are wanted: draw, and draw again what came before.
		seen := make(map[*entry]bool, limit)
		for tries := 4 * limit; len(drawn) < limit && tries > 0; tries-- {
			if e := o.random(rng); !seen[e] {
				seen[e] = true
				drawn = append(drawn, e)
			}
		}
	}
	for _, e := range drawn {
		if limit == 0 {
			return
		}
		if e.deadline <= at {
			continue
		}
		if !emit(e) {
			return
		}
		limit--
	}
}

// registryStats counts what is there, expired and not collected included.
type registryStats struct {
	registrations, namespaces, peers int
	bytes                            int64 // of both realms
}

func (r *registry) stats(realm Realm) registryStats {
	s := r.realms[realm]
	return registryStats{registrations: s.live, namespaces: len(s.namespaces), peers: len(s.peers), bytes: r.bytes}
}

// isLegacy reports whether the peer is registered in the older, unsigned form.
func (r *registry) isLegacy(now time.Time, realm Realm, id peer.ID) bool {
	p := r.realms[realm].peers[id]
	if p == nil {
		return false
	}
	for e := range p.entries {
		if e.form == FormPeerInfo && e.deadline > r.since(now) {
			return true
		}
	}
	return false
}
