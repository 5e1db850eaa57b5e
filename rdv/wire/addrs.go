package wire

import (
	"fmt"
	"net/netip"
	"strings"
)

// AppendAddrs appends addrs as the value of a header field.
func AppendAddrs(b []byte, addrs []netip.AddrPort) []byte {
	for i, a := range addrs {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = a.AppendTo(b)
	}
	return b
}

// ParseAddrs parses the values of a header field that lists at most limit
// addresses; the field may be empty, or there several times. It returns nil
// if the list is empty, [ErrAddr] or [ErrAddrs] if it is no good.
func ParseAddrs(values []string, limit int) ([]netip.AddrPort, error) {
	var addrs []netip.AddrPort
	for _, value := range values {
		for elem := range strings.SplitSeq(value, ",") {
			elem = strings.Trim(elem, " \t")
			if elem == "" {
				continue // RFC 9110, section 5.6.1.2: empty elements are ignored
			}
			if len(addrs) == limit {
				return nil, fmt.Errorf("%w: more than %d", ErrAddrs, limit)
			}
			a, err := ParseAddr(elem)
			if err != nil {
				return nil, err
			}
			addrs = append(addrs, a)
		}
	}
	return addrs, nil
}

// ParseAddr parses one address and port. Zones are refused: they mean nothing
// on another machine. An IPv4-mapped address comes back as IPv4, so that no
// policy is fooled by the spelling.
func ParseAddr(s string) (netip.AddrPort, error) {
	if len(s) > maxAddr {
		return netip.AddrPort{}, ErrAddr
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Addr().Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("%w: %q", ErrAddr, s)
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}
