package enr

import (
	"net/netip"

	"github.com/muster-p2p/muster/internal/rlp"
)

// The accessors of the standard entries report false where the entry is
// absent or its value malformed: a bad entry is as good as none, and the rest
// of the record stays usable.

// IP4 returns the "ip" entry.
func (r *Record) IP4() (netip.Addr, bool) {
	b, ok := r.bytesOf(keyIP)
	if !ok || len(b) != 4 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(b)), true
}

// IP6 returns the "ip6" entry. An IPv4 address in IPv6 form is no IPv6
// address: "ip" is the place for it.
func (r *Record) IP6() (netip.Addr, bool) {
	b, ok := r.bytesOf(keyIP6)
	if !ok || len(b) != 16 {
		return netip.Addr{}, false
	}
	a := netip.AddrFrom16([16]byte(b))
	return a, !a.Is4In6()
}

// UDP returns the "udp" entry. This and the other ports are given as they
// stand in the record; port 0 is malformed.
func (r *Record) UDP() (uint16, bool) { return r.port(keyUDP) }

// UDP6 returns the "udp6" entry.
func (r *Record) UDP6() (uint16, bool) { return r.port(keyUDP6) }

// TCP returns the "tcp" entry.
func (r *Record) TCP() (uint16, bool) { return r.port(keyTCP) }

// TCP6 returns the "tcp6" entry.
func (r *Record) TCP6() (uint16, bool) { return r.port(keyTCP6) }

// QUIC returns the "quic" entry.
func (r *Record) QUIC() (uint16, bool) { return r.port(keyQUIC) }

// QUIC6 returns the "quic6" entry.
func (r *Record) QUIC6() (uint16, bool) { return r.port(keyQUIC6) }

func (r *Record) port(key string) (uint16, bool) {
	v, ok := r.Get(key)
	if !ok {
		return 0, false
	}
	p, _, err := rlp.Uint(v)
	if err != nil || p == 0 || p > 0xffff {
		return 0, false
	}
	return uint16(p), true
}

// UDPEndpoint4 returns where the node listens for discovery over IPv4.
func (r *Record) UDPEndpoint4() (netip.AddrPort, bool) { return r.endpoint4(keyUDP) }

// UDPEndpoint6 returns where the node listens for discovery over IPv6. "If no
// tcp6 / udp6 port is provided, the tcp / udp port applies to both IP
// addresses."
func (r *Record) UDPEndpoint6() (netip.AddrPort, bool) { return r.endpoint6(keyUDP6, keyUDP) }

// TCPEndpoint4 is the like of UDPEndpoint4 for TCP.
func (r *Record) TCPEndpoint4() (netip.AddrPort, bool) { return r.endpoint4(keyTCP) }

// TCPEndpoint6 is the like of UDPEndpoint6 for TCP.
func (r *Record) TCPEndpoint6() (netip.AddrPort, bool) { return r.endpoint6(keyTCP6, keyTCP) }

func (r *Record) endpoint4(key string) (netip.AddrPort, bool) {
	ip, ok := r.IP4()
	if !ok {
		return netip.AddrPort{}, false
	}
	port, ok := r.port(key)
	return netip.AddrPortFrom(ip, port), ok
}

func (r *Record) endpoint6(key, fallback string) (netip.AddrPort, bool) {
	ip, ok := r.IP6()
	if !ok {
		return netip.AddrPort{}, false
	}
	port, ok := r.port(key)
	if _, present := r.Get(key); !present {
		port, ok = r.port(fallback)
	}
	return netip.AddrPortFrom(ip, port), ok
}
