package simnet

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
)

// DefaultQueue is how many datagrams wait in a socket before the next is
// dropped: about what Linux keeps in its default 208 KiB for full packets.
const DefaultQueue = 256

// Config of a [Net]. The zero value is a network without delay or loss.
type Config struct {
	// Seed decides every loss, jitter and duplicate. Zero is a seed like any other.
	Seed uint64
	// Link tells the state of the path between two public addresses at the
	// moment a datagram leaves; nil means no delay and no loss. It is called
	// from many goroutines at once and must not block.
	Link LinkFunc
	// Queue bounds each socket's receive queue in datagrams; 0 means [DefaultQueue].
	Queue int
	// Tap, if set, sees every datagram as it enters the public network (after
	// outbound translation, before loss) and may change its fate. It is called
	// from many goroutines at once, must not block, and must not keep or change
	// the payload.
	Tap func(Datagram) Fate
}

// Datagram is a UDP packet on its way.
type Datagram struct {
	From, To netip.AddrPort
	Payload  []byte
}

// Fate is what a tap decides for a datagram.
type Fate int

// The fates.
const (
	Pass Fate = iota // go on as if nobody had looked
	Drop             // lost
)

// Stats counts what the network did since it was made.
type Stats struct {
	Sent       uint64 // datagrams that sockets and Inject sent
	Bytes      uint64 // their payload bytes
	Delivered  uint64 // put into a receive queue
	Lost       uint64 // by the link's loss or the tap
	Filtered   uint64 // by a NAT or firewall
	Unroutable uint64 // nobody has that address or port
	Overflow   uint64 // the receive queue was full
}

// Net is a network. Its methods may be called from many goroutines.
type Net struct {
	cfg   Config
	sched *scheduler
	link  atomic.Pointer[LinkFunc]

	stats struct {
		sent, bytes, delivered, lost, filtered, unroutable, overflow atomic.Uint64
	}

	public segment

	mu      sync.Mutex
	sockets map[*UDPConn]struct{}
	closed  bool
}

// New makes a network and starts the goroutine that delivers its datagrams.
// Call Close to end it.
func New(cfg Config) *Net {
	if cfg.Queue == 0 {
		cfg.Queue = DefaultQueue
	}
	n := &Net{cfg: cfg, sched: newScheduler(), sockets: map[*UDPConn]struct{}{}}
	n.SetLink(cfg.Link)
	return n
}

// SetLink replaces the link function for datagrams sent from now on; nil
// means no delay and no loss. Partitions and healing are made with it.
func (n *Net) SetLink(f LinkFunc) {
	if f == nil {
		f = Delay(0)
	}
	n.link.Store(&f)
}

// Host puts a host with the given addresses on the public network. It panics
// on an address that is taken or invalid: a test's topology is written down,
// not read from anywhere.
func (n *Net) Host(addrs ...netip.Addr) *Host {
	h := &Host{net: n, addrs: unmapAll(addrs)}
	n.public.attach(h, h.addrs)
	return h
}

// Inject sends a datagram with any source address, as a spoofer does. The
// answer, if there is one, goes to the true owner of that address.
func (n *Net) Inject(from, to netip.AddrPort, payload []byte) {
	n.count(payload)
	n.transmit(Datagram{From: from, To: to, Payload: payload}, injectStream, n.stats.sent.Load())
}

// Stats returns the counters.
func (n *Net) Stats() Stats {
	s := &n.stats
	return Stats{
		Sent: s.sent.Load(), Bytes: s.bytes.Load(), Delivered: s.delivered.Load(), Lost: s.lost.Load(),
		Filtered: s.filtered.Load(), Unroutable: s.unroutable.Load(), Overflow: s.overflow.Load(),
	}
}

// Close closes all sockets, forgets what is on its way and waits for the
// delivering goroutine. It may be called twice.
func (n *Net) Close() {
	n.mu.Lock()
	n.closed = true
	open := make([]*UDPConn, 0, len(n.sockets))
	for c := range n.sockets {
		open = append(open, c)
	}
	n.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // cannot fail on an open socket
	}
	n.sched.close()
}

func (n *Net) count(payload []byte) {
	n.stats.sent.Add(1)
	n.stats.bytes.Add(uint64(len(payload)))
}

// transmit carries d over the public network: tap, link, delivery.
// The pair (stream, seq) names the datagram to the dice.
func (n *Net) transmit(d Datagram, stream, seq uint64) {
	if n.cfg.Tap != nil && n.cfg.Tap(d) == Drop {
		n.stats.lost.Add(1)
		return
	}
	link := (*n.link.Load())(d.From.Addr(), d.To.Addr())
	dice := newDice(n.cfg.Seed, stream, seq)
	if link.Down || dice.below(link.Loss) {
		n.stats.lost.Add(1)
		return
	}
	d.Payload = append([]byte(nil), d.Payload...)
	n.sched.after(link.delay(&dice), n, d)
	if dice.below(link.Duplicate) {
		n.sched.after(link.delay(&dice), n, d)
	}
}

// arrive is called by the scheduler when d has crossed the public network.
func (n *Net) arrive(d Datagram) {
	dev, ok := n.public.owner(d.To.Addr())
	if !ok {
		n.stats.unroutable.Add(1)
		return
	}
	dev.receive(d)
}

// device is what has an address on a segment: a host or a NAT's outer side.
type device interface {
	receive(Datagram)
}

// segment is a set of addresses that reach each other without a router. The
// devices on it come and go rarely and are looked up per datagram.
type segment struct {
	mu      sync.RWMutex
	devices map[netip.Addr]device
}

func (s *segment) attach(d device, addrs []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.devices == nil {
		s.devices = map[netip.Addr]device{}
	}
	for _, a := range addrs {
		if !a.IsValid() || a.IsUnspecified() {
			panic(fmt.Sprintf("simnet: %v cannot be a host's address", a))
		}
		if _, taken := s.devices[a]; taken {
			panic(fmt.Sprintf("simnet: address %v is taken", a))
		}
		s.devices[a] = d
	}
}

func (s *segment) detach(addrs []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range addrs {
		delete(s.devices, a)
	}
}

func (s *segment) owner(a netip.Addr) (device, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	d, ok := s.devices[a]
	return d, ok
}

func unmapAll(addrs []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		out[i] = a.Unmap()
	}
	return out
}
