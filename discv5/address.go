package discv5

import (
	"net/netip"

	"github.com/muster-p2p/muster/enr"
)

// An endpoint names a peer of the protocol. "To prevent IP spoofing attacks,
// implementations must ensure that session secrets and the handshake are tied
// to a specific UDP endpoint. This is simple to implement by using the node
// ID and IP/port as the 'key' into the in-memory session cache."
// https://github.com/ethereum/devp2p/blob/master/discv5/discv5-theory.md#session-cache
type endpoint struct {
	id   enr.ID
	addr netip.AddrPort // never IPv4 in IPv6 form
}

// A space is the part of the network that an address belongs to.
type space uint8

const (
	spaceNone     space = iota // not an address of a host
	spaceLoopback              // this machine
	spaceLocal                 // private and link-local networks
	spacePublic
)

var (
	// 100.64.0.0/10 is shared by customers behind one provider's NAT: RFC 6598.
	carrierNAT = netip.MustParsePrefix("100.64.0.0/10")
	thisNet    = netip.MustParsePrefix("0.0.0.0/8")
	reserved   = netip.MustParsePrefix("240.0.0.0/4")
)

func spaceOf(a netip.Addr) space {
	a = a.Unmap()
	switch {
	case !a.IsValid(), a.IsUnspecified(), a.IsMulticast(), a.Zone() != "":
		return spaceNone
	case thisNet.Contains(a), reserved.Contains(a):
		return spaceNone
	case a.IsLoopback():
		return spaceLoopback
	case a.IsPrivate(), a.IsLinkLocalUnicast(), carrierNAT.Contains(a):
		return spaceLocal
	default:
		return spacePublic
	}
}

// relayable reports whether a node at sender may tell us of, or be told of, a
// node at addr: "check that Internet hosts do not attempt to share records
// containing LAN IP addresses". Loopback is for this machine only.
// https://github.com/ethereum/devp2p/blob/master/discv5/discv5-rationale.md#node-records-and-their-properties
func relayable(sender, addr netip.Addr) bool {
	from := spaceOf(sender)
	switch spaceOf(addr) {
	case spaceLoopback:
		return from == spaceLoopback
	case spaceLocal:
		return from == spaceLoopback || from == spaceLocal
	case spacePublic:
		return true
	case spaceNone:
		return false
	default:
		return false
	}
}

// Prefix lengths of what counts as one network: a /24 is what one customer
// easily gets in IPv4, a /48 in IPv6.
const (
	subnetBits4 = 24
	subnetBits6 = 48
)

// subnetOf returns the first address of a's network.
func subnetOf(a netip.Addr) netip.Addr {
	a = a.Unmap()
	bits := subnetBits6
	if a.Is4() {
		bits = subnetBits4
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return a
	}
	return p.Addr()
}

// families says which address families we have a socket for.
type families struct{ v4, v6 bool }

// endpointOf returns where to reach the node that r describes. IPv4 goes
// first: it is what a node's peers have in common most often.
func (f families) endpointOf(r *enr.Record) (netip.AddrPort, bool) {
	if f.v4 {
		if ap, ok := r.UDPEndpoint4(); ok && spaceOf(ap.Addr()) != spaceNone {
			return ap, true
		}
	}
	if f.v6 {
		if ap, ok := r.UDPEndpoint6(); ok && spaceOf(ap.Addr()) != spaceNone {
			return ap, true
		}
	}
	return netip.AddrPort{}, false
}

// declares reports whether r names addr as one of its endpoints.
func declares(r *enr.Record, addr netip.AddrPort) bool {
	if ap, ok := r.UDPEndpoint4(); ok && ap == addr {
		return true
	}
	ap, ok := r.UDPEndpoint6()
	return ok && ap == addr
}

// sameEndpoints reports whether two records name the same UDP endpoints.
func sameEndpoints(a, b *enr.Record) bool {
	a4, _ := a.UDPEndpoint4()
	b4, _ := b.UDPEndpoint4()
	a6, _ := a.UDPEndpoint6()
	b6, _ := b.UDPEndpoint6()
	return a4 == b4 && a6 == b6
}
