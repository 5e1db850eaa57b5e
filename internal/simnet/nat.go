package simnet

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Behavior says how much of the far end a NAT takes into account, in the
// words of RFC 4787, sections 4.1 (mapping) and 5 (filtering).
type Behavior int

// How much of the far end counts.
const (
	EndpointIndependent     Behavior = iota // nothing
	AddressDependent                        // its address
	AddressAndPortDependent                 // its address and port
)

func (b Behavior) String() string {
	switch b {
	case EndpointIndependent:
		return "endpoint-independent"
	case AddressDependent:
		return "address-dependent"
	case AddressAndPortDependent:
		return "address-and-port-dependent"
	default:
		return "unknown"
	}
}

// DefaultMappingTimeout is the shortest time without outbound traffic after
// which RFC 4787, section 4.3, REQ-5 lets a mapping expire.
const DefaultMappingTimeout = 2 * time.Minute

// NATConfig of a [NAT]. The zero value is endpoint-independent in both
// respects: what is called a full cone.
type NATConfig struct {
	Mapping   Behavior
	Filtering Behavior
	// Timeout is how long a mapping and a permission live after the last
	// outbound datagram; 0 means DefaultMappingTimeout.
	Timeout time.Duration
	// RandomPorts gives out external ports in a scrambled order instead of
	// keeping the internal port where it is free.
	RandomPorts bool
	// Hairpin lets inner hosts reach each other by the external address.
	Hairpin bool
	// Transparent makes it a stateful firewall: addresses are not translated,
	// Mapping is ignored, Filtering and Timeout hold.
	Transparent bool
}

// Presets by the names people use (RFC 3489, section 5).
var (
	FullCone       = NATConfig{}
	RestrictedCone = NATConfig{Filtering: AddressDependent}
	PortRestricted = NATConfig{Filtering: AddressAndPortDependent}
	Symmetric      = NATConfig{Mapping: AddressAndPortDependent, Filtering: AddressAndPortDependent, RandomPorts: true}
	Firewall       = NATConfig{Filtering: AddressAndPortDependent, Transparent: true}
)

// NAT is a router between a segment of its own and the public network, or
// the inner side of another NAT.
type NAT struct {
	net    *Net
	cfg    NATConfig
	outer  *NAT // nil: the public network
	addrs  []netip.Addr
	inside segment

	mu     sync.Mutex
	byIn   map[mappingKey]*mapping
	byPort map[netip.AddrPort]*mapping // by external address and port
	dice   dice
}

// mappingKey names a mapping: who sends, and as much of the far end as the
// mapping behaviour looks at.
type mappingKey struct {
	in  netip.AddrPort
	far netip.AddrPort
}

type mapping struct {
	key      mappingKey
	in, out  netip.AddrPort
	expires  time.Time
	permits  map[netip.AddrPort]time.Time // far end, as much as filtering looks at; until
	lastTidy time.Time
}

// NAT puts a NAT with the given external addresses on the public network. A
// transparent one needs none.
func (n *Net) NAT(cfg NATConfig, external ...netip.Addr) *NAT {
	return newNAT(n, nil, cfg, external)
}

// NAT puts a second NAT behind this one, as carriers do.
func (t *NAT) NAT(cfg NATConfig, external ...netip.Addr) *NAT {
	return newNAT(t.net, t, cfg, external)
}

func newNAT(n *Net, outer *NAT, cfg NATConfig, external []netip.Addr) *NAT {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultMappingTimeout
	}
	if cfg.Transparent {
		cfg.Mapping = EndpointIndependent // one inner endpoint, one outer: itself
	}
	t := &NAT{
		net: n, cfg: cfg, outer: outer, addrs: unmapAll(external),
		byIn: map[mappingKey]*mapping{}, byPort: map[netip.AddrPort]*mapping{},
	}
	t.dice = newDice(n.cfg.Seed, streamOf(t.addrs, 0), 0)
	t.outerSegment().attach(t, t.addrs)
	return t
}

// Host puts a host on the inner side. Behind a transparent NAT its addresses
// are reachable from outside as far as the filter lets them be.
func (t *NAT) Host(addrs ...netip.Addr) *Host {
	h := &Host{net: t.net, nat: t, addrs: unmapAll(addrs)}
	t.inside.attach(h, h.addrs)
	if t.cfg.Transparent {
		t.outerSegment().attach(t, h.addrs)
	}
	return h
}

// Forget drops all mappings and permissions, as a reboot does.
func (t *NAT) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.byIn)
	clear(t.byPort)
}

func (t *NAT) outerSegment() *segment {
	if t.outer != nil {
		return &t.outer.inside
	}
	return &t.net.public
}

// outbound carries a datagram from the inner side out.
func (t *NAT) outbound(d Datagram, stream, seq uint64) {
	if dev, ok := t.inside.owner(d.To.Addr()); ok {
		d.Payload = slices.Clone(d.Payload)
		dev.receive(d) // the same segment: not the router's business
		return
	}
	hairpin := slices.Contains(t.addrs, d.To.Addr())
	if hairpin && !t.cfg.Hairpin {
		t.net.stats.filtered.Add(1)
		return
	}
	out, ok := t.translate(d.From, d.To)
	if !ok {
		t.net.stats.unroutable.Add(1)
		return
	}
	d.From = out
	switch {
	case hairpin:
		d.Payload = slices.Clone(d.Payload)
		t.receive(d)
	case t.outer != nil:
		t.outer.outbound(d, stream, seq)
	default:
		t.net.transmit(d, stream, seq)
	}
}

// receive carries a datagram from the outer side in, if the filter lets it.
func (t *NAT) receive(d Datagram) {
	in, ok := t.admit(d.From, d.To)
	if !ok {
		t.net.stats.filtered.Add(1)
		return
	}
	dev, ok := t.inside.owner(in.Addr())
	if !ok {
		t.net.stats.unroutable.Add(1)
		return
	}
	d.To = in
	dev.receive(d)
}

// translate finds or makes the mapping for a datagram from in to far, renews
// it and the permission, and returns the external source.
func (t *NAT) translate(in, far netip.AddrPort) (netip.AddrPort, bool) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	key := mappingKey{in: in, far: part(t.cfg.Mapping, far)}
	m := t.byIn[key]
	if m != nil && !now.Before(m.expires) {
		t.dropLocked(m)
		m = nil
	}
	if m == nil {
		out, ok := t.externalLocked(in)
		if !ok {
			return netip.AddrPort{}, false
		}
		m = &mapping{key: key, in: in, out: out, permits: map[netip.AddrPort]time.Time{}, lastTidy: now}
		t.byIn[key], t.byPort[out] = m, m
	}
	m.expires = now.Add(t.cfg.Timeout)
	m.permits[part(t.cfg.Filtering, far)] = m.expires
	if now.Sub(m.lastTidy) > t.cfg.Timeout {
		m.tidy(now)
	}
	return m.out, true
}

// admit tells for which inner endpoint a datagram from far is, if any.
func (t *NAT) admit(far, to netip.AddrPort) (netip.AddrPort, bool) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.byPort[to]
	if m == nil || !now.Before(m.expires) {
		return netip.AddrPort{}, false
	}
	until, ok := m.permits[part(t.cfg.Filtering, far)]
	return m.in, ok && now.Before(until)
}

// part is as much of the far end as behaviour b looks at.
func part(b Behavior, far netip.AddrPort) netip.AddrPort {
	switch b {
	case EndpointIndependent:
		return netip.AddrPort{}
	case AddressDependent:
		return netip.AddrPortFrom(far.Addr(), 0)
	default:
		return far
	}
}

// externalLocked picks the external endpoint of a new mapping.
func (t *NAT) externalLocked(in netip.AddrPort) (netip.AddrPort, bool) {
	if t.cfg.Transparent {
		return in, true
	}
	i := slices.IndexFunc(t.addrs, func(a netip.Addr) bool { return a.Is4() == in.Addr().Is4() })
	if i < 0 {
		return netip.AddrPort{}, false
	}
	port := in.Port()
	if t.cfg.RandomPorts {
		port = uint16(t.dice.next())
	}
	const lowest = 1024 // RFC 6335, section 6: below are system ports
	for range 1 << 16 {
		out := netip.AddrPortFrom(t.addrs[i], port)
		if old := t.byPort[out]; port >= lowest && (old == nil || !time.Now().Before(old.expires)) {
			if old != nil {
				t.dropLocked(old)
			}
			return out, true
		}
		port++
	}
	return netip.AddrPort{}, false
}

func (t *NAT) dropLocked(m *mapping) {
	delete(t.byIn, m.key)
	delete(t.byPort, m.out)
}

// tidy forgets permissions that have run out.
func (m *mapping) tidy(now time.Time) {
	m.lastTidy = now
	for far, until := range m.permits {
		if !now.Before(until) {
			delete(m.permits, far)
		}
	}
}
