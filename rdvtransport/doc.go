// Package rdvtransport is a transport for go-libp2p hosts that runs over links
// (package link): a program that uses libp2p reaches peers behind NATs by their
// peer IDs alone, on the relay at once and on a direct path when there is one.
//
//	tr, err := rdvtransport.New(rdvtransport.Config{Key: key, Dial: reach.Dial, Accept: listener.Accept})
//	network := host.Network().(transport.TransportNetwork)
//	err = network.AddTransport(tr)
//	err = host.Network().Listen(rdvtransport.Addr())
//	err = host.Connect(ctx, rdvtransport.AddrInfo(other))
//
// From then on protocols such as identify, gossipsub and rendezvous work with
// that peer as over any connection. How peers meet is not known here: Config
// has functions for it, which package muster's Reach has as methods.
//
// The address of every peer on this transport is [Addr], "/rdv": who is meant
// is the peer ID, and where it is, its points know. That component is of no
// use to anybody else, and other implementations refuse a whole signed record
// for one component that they do not know. So it is never published: the
// listener reports its address as "/p2p-circuit", as go-libp2p's own relay
// transport does, and go-libp2p takes that out of what a host says of itself.
// docs/adr/0062-rdv-multiaddr.md has the alternatives.
//
// A link is secured by TLS 1.3 with the peers' libp2p keys already. It is
// muxed with yamux directly, with no second handshake.
package rdvtransport
