// Package rendezvous lets peers register under a name and be found by it.
//
// It speaks two protocols over one registry: libp2p's /rendezvous/1.0.0 and
// Waku's /vac/waku/rendezvous/0.0.1.
package rendezvous
