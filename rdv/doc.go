// Package rdv connects two peers in any network by TCP: directly if the
// networks between them allow it, else through the server that introduced
// them. It speaks rdv/1, the protocol of https://github.com/betamos/rdv v0.0.6.
//
// Both peers ask the same server for the same token, one with [Client.Dial],
// the other with [Client.Accept], and get a [Conn]:
//
//	conn, _, err := new(rdv.Client).Dial(ctx, "https://point.example.org/", token, nil)
//
// A [Server] is an [net/http.Handler] that introduces the peers and relays for
// those that cannot reach each other; a [Relayer] is its default [Handler].
// The zero values of Client, Server and Relayer work.
//
// A Conn is plain TCP, and whoever answers first with the right token is the
// peer: secure it, with TLS or Noise, before a secret goes over it. Between
// clients and a server of this package the token itself is never sent to a
// candidate address, only a proof of it.
package rdv
