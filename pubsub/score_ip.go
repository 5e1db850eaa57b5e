package pubsub

import (
	"net/netip"
	"slices"
)

// colocations lists under what a peer at ips is counted for P6: each address,
// and for IPv6 the /64 too, since a single host is given that much. Loopback
// does not count.
func colocations(ips []netip.Addr) []netip.Prefix {
	var list []netip.Prefix
	add := func(addr netip.Addr, bits int) {
		p := netip.PrefixFrom(addr, bits).Masked()
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	for _, ip := range ips {
		ip = ip.Unmap().WithZone("")
		if !ip.IsValid() || ip.IsLoopback() {
			continue
		}
		add(ip, ip.BitLen())
		if ip.Is6() {
			add(ip, 64)
		}
	}
	return list
}

func (s *scorer) releaseIPs(ps *peerStats) {
	for _, prefix := range ps.ips {
		if s.ips[prefix]--; s.ips[prefix] == 0 {
			delete(s.ips, prefix)
		}
	}
	ps.ips = ps.ips[:0]
}

// colocation is P6: over all of the peer's addresses, the square of the number
// of peers there above the threshold.
func (s *scorer) colocation(ps *peerStats) float64 {
	var sum float64
	for _, prefix := range ps.ips {
		excess := float64(s.ips[prefix] - s.params.IPColocationFactorThreshold)
		if excess > 0 && !s.whitelisted(prefix) {
			sum += excess * excess
		}
	}
	return sum
}

func (s *scorer) whitelisted(prefix netip.Prefix) bool {
	return slices.ContainsFunc(s.whitelist, func(w netip.Prefix) bool {
		return w.Bits() <= prefix.Bits() && w.Contains(prefix.Addr())
	})
}
