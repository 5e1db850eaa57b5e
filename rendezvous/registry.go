package rendezvous

import (
	"cmp"
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
	rust       bool // the record is signed as rust-libp2p does
}

type namespace struct {
	name    string
	realm   *realmState
	tag     nsTag
	order   order
	pending int // reservations
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
	sole       bool   // nobody else writes: nothing can be known of what is past head
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

// entry returns the live entry under k, or nil.
func (r *registry) entry(k Key) *entry {
	realm := r.realms[k.Realm]
	ns, p := realm.namespaces[k.NS], realm.peers[k.Peer]
	if ns == nil || p == nil {
		return nil
	}
	return p.get(ns)
}

// known returns a registration of the peer with the same record bytes, or nil:
// they need not be verified again, nor kept twice.
func (r *registry) known(realm Realm, id peer.ID, record []byte) *entry {
	p := r.realms[realm].peers[id]
	if p == nil {
		return nil
	}
	return p.known(record)
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
		p := realm.peers[c.Peer]
		var old *entry
		if ns := realm.namespaces[c.NS]; p != nil && ns != nil {
			old = p.get(ns)
		}
		switch {
		case !c.Removed && left > 0:
			r.set(realm, p, old, c, r.since(now)+int64(left))
		case old != nil:
			r.remove(old)
		}
	}
}

// set adds the registration of c, of peer p if that is not nil, or puts it in
// the place of old.
func (r *registry) set(realm *realmState, p *peerState, old *entry, c *Change, deadline int64) {
	if p == nil {
		p = &peerState{id: c.Peer}
		realm.peers[c.Peer] = p
	}
	r.setSource(p, c.Source)
	record, rust := c.Record, false
	if same := p.known(record); same != nil {
		record, rust = same.record, same.rust
	} else {
		rust = c.Form == FormSigned && isRustRecord(record)
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
	e.record, e.form, e.rust, e.seq, e.pos, e.deadline = record, c.Form, rust, c.Seq, c.Pos, deadline
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

// registryStats counts what is there, expired and not collected included.
type registryStats struct {
	registrations, namespaces, peers int
	bytes                            int64 // of both realms
}

func (r *registry) stats(realm Realm) registryStats {
	s := r.realms[realm]
	return registryStats{registrations: s.live, namespaces: len(s.namespaces), peers: len(s.peers), bytes: r.bytes}
}

// isRust reports whether the peer is registered with a record as rust-libp2p
// signs it.
func (r *registry) isRust(realm Realm, id peer.ID) bool {
	if p := r.realms[realm].peers[id]; p != nil {
		for e := range p.entries {
			return e.rust // they are alike
		}
	}
	return false
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
