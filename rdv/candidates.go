package rdv

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/muster-p2p/muster/rdv/wire"
)

// minPort is the lowest port that a client dials at a peer's word: below it
// are the services of others.
const minPort = 1024

// network is what a client knows of the network that it is in.
type network struct {
	addrs     []netip.Prefix // addresses of the interfaces, with their prefix lengths, unmapped
	preferred []netip.Addr   // source addresses of the routes to the server and to the internet, best first
}

// selfAddrs returns the addresses to tell the peer, best first: those that
// routes lead out from, then one and a second of every other interface prefix.
func (n network) selfAddrs(spaces AddrSpace, port uint16) []netip.AddrPort {
	var out []netip.AddrPort
	add := func(ip netip.Addr) {
		ap := netip.AddrPortFrom(ip.WithZone(""), port)
		if len(out) < wire.MaxSelfAddrs && offered(spaces, ip) && !slices.Contains(out, ap) {
			out = append(out, ap)
		}
	}
	for _, ip := range n.preferred {
		add(ip)
	}
	rest := slices.Clone(n.addrs)
	slices.SortStableFunc(rest, func(a, b netip.Prefix) int {
		return cmp.Compare(selfRank(a.Addr()), selfRank(b.Addr()))
	})
	perPrefix := map[netip.Prefix]int{}
	for _, p := range rest {
		// Temporary IPv6 addresses come by the dozen; two of a prefix do.
		if perPrefix[p.Masked()]++; perPrefix[p.Masked()] <= 2 {
			add(p.Addr())
		}
	}
	return out
}

// offered reports whether ip is worth telling the peer.
func offered(spaces AddrSpace, ip netip.Addr) bool {
	return spaces.IncludesAddr(ip) && !ip.IsLinkLocalUnicast() && !forbidden(ip)
}

func selfRank(ip netip.Addr) int {
	switch AddrSpaceFrom(ip) {
	case SpacePublic6, SpacePublic4:
		return 0
	case SpacePrivate4, SpacePrivate6:
		return 1
	default:
		return 2
	}
}

// A policy says which of the addresses that a peer names a client may dial.
// The peer may be lying: each rule keeps it from making the client connect to
// something that the peer could not reach itself.
type policy struct {
	spaces   AddrSpace
	net      network
	observed netip.Addr // of this client; zero if the server did not say
	port     uint16     // of this client's socket
	shared   bool       // the peer was observed at the same address
}

func newPolicy(spaces AddrSpace, n network, port uint16, observed *netip.AddrPort, peer []netip.AddrPort) policy {
	p := policy{spaces: spaces, net: n, port: port}
	if observed != nil {
		p.observed = observed.Addr().Unmap()
		p.shared = slices.ContainsFunc(peer, func(a netip.AddrPort) bool { return a.Addr().Unmap() == p.observed })
	}
	return p
}

// candidates returns the addresses to dial, at most wire.MaxPeerAddrs, nearest
// first.
func (p policy) candidates(peer []netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range peer {
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if a.Port() < minPort || !p.allows(a.Addr()) || p.own(a) || slices.Contains(out, a) {
			continue
		}
		if out = append(out, a); len(out) == wire.MaxPeerAddrs {
			break
		}
	}
	slices.SortStableFunc(out, func(a, b netip.AddrPort) int {
		return cmp.Compare(nearness(a.Addr()), nearness(b.Addr()))
	})
	return out
}

// A lane is a candidate with what may be tried on the way to it.
type lane struct {
	addr netip.AddrPort

	// punch says that primes may help: there may be a firewall on the way.
	punch bool

	// head says that the first SYN is a prime, because there is a NAT on
	// either side. Where there is none here, a prime gets one hop farther;
	// where there is none there, nothing is lost by a SYN that comes too
	// early but the SYN.
	head bool
}

// lanes returns the candidates with what may be tried on the way to each. A
// peer behind a NAT is known by the private address that it names.
// Primes says whether primes can be made, and the peer ignores them.
func (p policy) lanes(peer []netip.AddrPort, primes bool) []lane {
	var out []lane
	natted := slices.ContainsFunc(peer, func(a netip.AddrPort) bool {
		ip := a.Addr().Unmap()
		return ip.Is4() && (ip.IsPrivate() || sharedSpace.Contains(ip))
	})
	for _, a := range p.candidates(peer) {
		// Behind one NAT with the peer, nothing is far enough for a prime to
		// end on the way.
		punch := primes && a.Addr() != p.observed && PublicSpaces.IncludesAddr(a.Addr())
		out = append(out, lane{addr: a, punch: punch, head: punch && natted && p.translated(a.Addr())})
	}
	return out
}

// translated reports whether a NAT changes the source of what this host sends
// to ip, as far as it can tell.
func (p policy) translated(ip netip.Addr) bool {
	return ip.Is4() && !slices.ContainsFunc(p.net.addrs, func(n netip.Prefix) bool {
		return n.Addr().Is4() && (n.Addr() == p.observed || p.observed.Is6() && SpacePublic4.MatchesAddr(n.Addr()))
	})
}

// nearness orders candidates: the nearer the peer, the cheaper the path; and
// IPv6 has no NAT to wait for.
func nearness(ip netip.Addr) int {
	switch AddrSpaceFrom(ip) {
	case SpaceLoopback4, SpaceLoopback6:
		return 0
	case SpacePrivate4, SpacePrivate6:
		return 1
	case SpacePublic6:
		return 2
	default:
		return 3
	}
}

// allows reports whether a connection to or from ip may be had at all.
func (p policy) allows(ip netip.Addr) bool {
	ip = ip.Unmap()
	if ip.IsLoopback() {
		// Both on one machine: asked for, or seen by the server.
		return p.spaces&NoSpaces == 0 &&
			(p.spaces.IncludesAddr(ip) || p.observed.IsValid() && p.observed.IsLoopback())
	}
	if !p.spaces.IncludesAddr(ip) || ip.IsLinkLocalUnicast() || forbidden(ip) {
		return false
	}
	if ip.IsPrivate() || sharedSpace.Contains(ip) {
		// A private address means another host in every network.
		return p.shared || p.local(ip)
	}
	return true
}

// admits reports whether a connection from a may be the peer's. Who it is, the
// hello tells; a NAT on the way may have given it any address of the spaces.
func (p policy) admits(a netip.AddrPort) bool {
	ip := a.Addr().Unmap()
	if ip.IsLoopback() {
		return p.allows(ip)
	}
	return p.spaces.IncludesAddr(ip)
}

// local reports whether ip is in a prefix of one of the interfaces.
func (p policy) local(ip netip.Addr) bool {
	return slices.ContainsFunc(p.net.addrs, func(n netip.Prefix) bool { return n.Masked().Contains(ip) })
}

// own reports whether a leads back to this machine and not to a peer on it.
func (p policy) own(a netip.AddrPort) bool {
	mine := slices.ContainsFunc(p.net.addrs, func(n netip.Prefix) bool { return n.Addr() == a.Addr() })
	return mine && (a.Port() == p.port || !p.shared && !a.Addr().IsLoopback())
}

// Address blocks that are no unicast address of a peer, whoever names them.
// https://www.iana.org/assignments/iana-ipv4-special-registry and
// https://www.iana.org/assignments/iana-ipv6-special-registry.
var (
	sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598, behind a carrier's NAT

	forbiddenPrefixes = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),
		netip.MustParsePrefix("192.0.0.0/24"),
		netip.MustParsePrefix("198.18.0.0/15"),
		netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("168.63.129.16/32"),   // metadata service of a cloud
		netip.MustParsePrefix("100.100.100.200/32"), // metadata service of a cloud
		netip.MustParsePrefix("fd00:ec2::/32"),      // metadata service of a cloud
		netip.MustParsePrefix("::/96"),              // IPv4-compatible, deprecated
		netip.MustParsePrefix("64:ff9b:1::/48"),     // RFC 8215, local translation
		netip.MustParsePrefix("2001::/32"),          // Teredo
		netip.MustParsePrefix("fec0::/10"),          // site-local, deprecated
		netip.MustParsePrefix("5f00::/16"),          // SRv6 SIDs
		netip.MustParsePrefix("100::/64"),           // discard
	}
	nat64  = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	sixTo4 = netip.MustParsePrefix("2002::/16")    // RFC 3056
)

// forbidden reports whether ip is an address that no policy allows.
func forbidden(ip netip.Addr) bool {
	if AddrSpaceFrom(ip) == SpaceInvalid {
		return true
	}
	if ip4, ok := wrapped(ip); ok {
		// Through a translator, only what is public may be reached.
		return !SpacePublic4.MatchesAddr(ip4) || sharedSpace.Contains(ip4) || forbidden(ip4)
	}
	return !ip.IsLoopback() &&
		slices.ContainsFunc(forbiddenPrefixes, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// wrapped returns the IPv4 address that an IPv6 address leads to.
func wrapped(ip netip.Addr) (netip.Addr, bool) {
	b := ip.As16()
	switch {
	case nat64.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case sixTo4.Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	default:
		return netip.Addr{}, false
	}
}
