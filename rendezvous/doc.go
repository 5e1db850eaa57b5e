// Package rendezvous lets peers register under a name and be found by it.
//
// It speaks two protocols, libp2p's /rendezvous/1.0.0 and Waku's
// /vac/waku/rendezvous/0.0.1, in both roles, on a host of the caller's:
//
//   - [NewPoint] serves: peers register at a point and ask it.
//   - [NewDiscovery] registers and asks at many points at once. It is what
//     programs start with, and a go-libp2p discovery.Discovery.
//   - [NewClient] makes single requests to single points.
//
// # Guarantees
//
// A found record was signed by the peer that it is about; what a point says of
// others is not believed. A registration that was answered OK is as durable as
// the point's [Store] promises. Who lists a name with cookies sees every
// registration once between two changes and misses none, at any of the points
// that share a store. Everything that strangers can make grow has a bound: see
// [Limits], [Rates] and the constants.
//
// # Limitations
//
// A point decides what it shows: it can leave peers out, so ask several. Names
// are not secret from points. Neither protocol tells of peers that leave, so a
// peer may be found until its registration runs out. Being registered does not
// make a peer reachable, and addresses are the peer's own claim: who dials them
// should have a policy for private ones.
//
// docs/spec/rendezvous.md lists every rule, its test, and where we differ from
// the specifications.
package rendezvous
