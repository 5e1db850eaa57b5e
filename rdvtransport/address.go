package rdvtransport

import (
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// ProtocolCode is the code of the component "/rdv" in this process. It is of
// the range that the multicodec table reserves for private use, as it is
// never told to anybody but a peer on this transport.
// https://github.com/multiformats/multicodec#private-use-area
const ProtocolCode = 0x300000 + 'r'<<8 + 'd'

// ProtocolName is the name of the component.
const ProtocolName = "rdv"

// go-multiaddr has one table of components for a process, without a lock: a
// package variable is set before anything can read it.
var registered = ma.AddProtocol(ma.Protocol{
	Name: ProtocolName, Code: ProtocolCode, VCode: ma.CodeToVarint(ProtocolCode),
})

// circuit is what the listener reports; see the package comment.
var circuit = ma.StringCast("/p2p-circuit")

// Addr returns the address of every peer on this transport.
func Addr() ma.Multiaddr { return ma.StringCast("/" + ProtocolName) }

// AddrInfo returns what a host needs to connect to a peer by this transport.
func AddrInfo(id peer.ID) peer.AddrInfo {
	return peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{Addr()}}
}

// isAddr reports whether a is Addr.
func isAddr(a ma.Multiaddr) bool {
	return len(a) == 1 && a[0].Protocol().Code == ProtocolCode
}
