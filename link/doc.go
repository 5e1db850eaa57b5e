// Package link connects two peers by one secured stream that runs over several
// paths: through an rdv server at once, and directly as soon as, and as long
// as, that works.
//
// Make an [Endpoint] with [New]; one peer calls [Endpoint.Dial], the other
// [Endpoint.Accept], with the same [Meeting]: the rdv servers to meet at, and
// the token to meet by. Both get a [Conn], which is a [net.Conn] with an end for
// each direction, and knows its paths.
//
// Each path is a connection of TLS 1.3 with the keys and certificates of libp2p,
// pinned to the peer ID that the dialer asked for; servers see ciphertext. A
// stream moves from path to path without losing, doubling or reordering a
// byte: what is not acknowledged waits in a buffer of at most 1 MiB. When every
// path has died, both ends meet again at the same servers, for
// [Config.ResumeWindow], and go on where they were.
//
// It does not find peers, and it does not tell a peer that somebody wants to
// talk to it: that is for an [Inviter]. The protocol is in docs/spec/link.md.
package link
