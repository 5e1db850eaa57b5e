package rdv

import (
	"net/netip"
	"strings"
)

// An AddrSpace is a kind of unicast address, as seen from the question who can
// reach it. It is a bit mask: a value with several bits is a set.
type AddrSpace uint32

// The spaces. SpaceInvalid is that of an address in none of them: unspecified,
// multicast and broadcast addresses.
const (
	SpaceInvalid AddrSpace = 0

	// Public addresses can be reached from anywhere, if no filter forbids it.
	SpacePublic4 AddrSpace = 1 << iota
	SpacePublic6

	// Private addresses (RFC 1918; RFC 4193 for IPv6) can be reached from the
	// same network.
	SpacePrivate4
	SpacePrivate6

	// Link-local addresses. Those of IPv6 need a zone, which means nothing on
	// another machine.
	SpaceLink4
	SpaceLink6

	// Loopback addresses can be reached from the same machine.
	SpaceLoopback4
	SpaceLoopback6
)

// Sets of spaces.
const (
	// NoSpaces is the empty set said explicitly: relay only.
	NoSpaces AddrSpace = 1 << 31

	// PublicSpaces are the spaces that work between networks.
	PublicSpaces AddrSpace = SpacePublic4 | SpacePublic6

	// DefaultSpaces work between and within networks.
	DefaultSpaces AddrSpace = SpacePublic4 | SpacePublic6 | SpacePrivate4 | SpacePrivate6

	// AllSpaces are all of the above.
	AllSpaces AddrSpace = ^NoSpaces
)

var spaceNames = [...]struct {
	space AddrSpace
	name  string
}{
	{SpacePublic4, "public4"},
	{SpacePublic6, "public6"},
	{SpacePrivate4, "private4"},
	{SpacePrivate6, "private6"},
	{SpaceLink4, "link4"},
	{SpaceLink6, "link6"},
	{SpaceLoopback4, "loopback4"},
	{SpaceLoopback6, "loopback6"},
}

// AddrSpaceFrom returns the space of ip, which is taken as it is written: an
// IPv4-mapped address belongs to a space of IPv6. Unmap it first, or take it
// from [AddrPortFrom].
func AddrSpaceFrom(ip netip.Addr) AddrSpace {
	var s AddrSpace
	switch {
	case ip.IsLoopback():
		s = SpaceLoopback4
	case ip.IsLinkLocalUnicast():
		s = SpaceLink4
	case ip.IsPrivate():
		s = SpacePrivate4
	case ip.IsGlobalUnicast():
		s = SpacePublic4
	default:
		return SpaceInvalid
	}
	if ip.Is6() {
		s <<= 1
	}
	return s
}

// Includes reports whether space, one space or a set, is in s whole.
// SpaceInvalid is in no set.
func (s AddrSpace) Includes(space AddrSpace) bool {
	return space != SpaceInvalid && s&space == space
}

// IncludesAddr reports whether the space of addr is in s.
func (s AddrSpace) IncludesAddr(addr netip.Addr) bool {
	return s.Includes(AddrSpaceFrom(addr))
}

// MatchesAddr reports whether s is the space of addr, and no larger set.
func (s AddrSpace) MatchesAddr(addr netip.Addr) bool {
	return s == AddrSpaceFrom(addr)
}

// String returns the names of the spaces in s, joined by "|", or "none".
func (s AddrSpace) String() string {
	if s&NoSpaces != 0 {
		return "none"
	}
	var names []string
	for _, n := range spaceNames {
		if s&n.space != 0 {
			names = append(names, n.name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, "|")
}
