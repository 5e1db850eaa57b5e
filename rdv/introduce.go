package rdv

import (
	"net/netip"
	"slices"

	"github.com/muster-p2p/muster/rdv/wire"
)

// maxForeign is how many public addresses of a family a client may name that
// the server does not see it at. A host with two uplinks has one; more is a
// way to have the peer knock at somebody else's door.
const maxForeign = 1

// peerAddrs returns what a peer is told about a client: the addresses that it
// named, as far as they can be its own, and last the one that the server
// observed. Observed may be invalid or have no port; then it is left out.
func peerAddrs(self []netip.AddrPort, observed netip.AddrPort) []netip.AddrPort {
	addrs := make([]netip.AddrPort, 0, min(len(self), wire.MaxSelfAddrs)+1)
	foreign := map[AddrSpace]int{}
	for _, a := range self {
		if len(addrs) == wire.MaxSelfAddrs {
			break
		}
		if !plausible(a, observed.Addr()) || a == observed || slices.Contains(addrs, a) {
			continue
		}
		space := AddrSpaceFrom(a.Addr())
		if PublicSpaces.Includes(space) && a.Addr() != observed.Addr() {
			if foreign[space]++; foreign[space] > maxForeign {
				continue
			}
		}
		addrs = append(addrs, a)
	}
	if observed.IsValid() && observed.Port() != 0 {
		addrs = append(addrs, observed)
	}
	return addrs
}

// plausible reports whether a client that is seen at the given address can be
// reached at a by anyone but itself.
func plausible(a netip.AddrPort, seen netip.Addr) bool {
	if a.Port() == 0 {
		return false
	}
	ip := a.Addr()
	switch {
	case AddrSpaceFrom(ip) == SpaceInvalid:
		return false // unspecified, multicast, broadcast
	case ip.IsLoopback():
		return seen.IsLoopback()
	default:
		return true
	}
}
