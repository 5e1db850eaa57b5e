//go:build unix

package discv5

import (
	"net"

	"golang.org/x/sys/unix"
)

// takesBoth reports whether an IPv6 socket takes IPv4 too, as one does that
// Go binds for "udp" (RFC 3493, section 3.7).
func takesBoth(conn PacketConn) bool {
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return false
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return false
	}
	only := 1
	err = raw.Control(func(fd uintptr) {
		if v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY); err == nil {
			only = v
		}
	})
	return err == nil && only == 0
}
