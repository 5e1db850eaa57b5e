//go:build !unix

package discv5

// takesBoth reports whether an IPv6 socket takes IPv4 too; it is not known
// here.
func takesBoth(PacketConn) bool { return false }
