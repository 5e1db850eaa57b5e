package muster

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/muster-p2p/muster/access"
	"github.com/muster-p2p/muster/rdv"
)

// A relay relays as a Relayer does, and has who pays charged for it.
type relay struct {
	gate    *access.Gate
	current atomic.Pointer[rdv.Relayer]

	mu   sync.Mutex // guards past
	past []*rdv.Relayer
	sum  rdv.RelayStats // of those before past
}

func newRelay(g *access.Gate, r *rdv.Relayer) *relay {
	h := &relay{gate: g}
	h.current.Store(r)
	return h
}

// Serve implements rdv.Handler.
func (h *relay) Serve(ctx context.Context, dc, ac *rdv.Conn) {
	r := h.current.Load()
	d, a := h.payer(dc), h.payer(ac)
	if d == (access.Grant{}) && a == (access.Grant{}) {
		d = h.gate.Session(dc.Token)
	}
	if d == (access.Grant{}) && a == (access.Grant{}) {
		r.Serve(ctx, dc, ac)
		return
	}
	defer func() { _, _ = dc.Close(), ac.Close() }()
	if r.Continue(ctx, dc, ac) != nil {
		return // they need no relay, or are gone
	}
	_, _, _ = r.RelayCharged(ctx, ac, dc, dc, ac, func(n int) error { return h.gate.Charge(int64(n), d, a) })
}

func (h *relay) payer(c *rdv.Conn) access.Grant {
	return h.gate.Payer(access.RelayRequest{Token: c.Token, Bearer: bearer(c.Request.Header)})
}

// set changes the limits for pairs to come.
func (h *relay) set(r *rdv.Relayer) {
	old := h.current.Swap(r)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.past = append(h.past, old)
	if len(h.past) > maxPast {
		h.sum = addStats(h.sum, h.past[0].Stats())
		h.past = h.past[1:]
	}
}

// maxPast is how many relayers with limits of before are remembered for their
// counts: a pair that lives longer than so many reloads is not counted.
const maxPast = 16

// Stats are those of all relayers there have been.
func (h *relay) Stats() rdv.RelayStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := addStats(h.sum, h.current.Load().Stats())
	for _, r := range h.past {
		st = addStats(st, r.Stats())
	}
	return st
}

func addStats(a, b rdv.RelayStats) rdv.RelayStats {
	a.Relaying += b.Relaying
	a.Bytes += b.Bytes
	a.Direct += b.Direct
	a.Relayed += b.Relayed
	a.Silent += b.Silent
	a.Failed += b.Failed
	a.Rejected += b.Rejected
	a.Idle += b.Idle
	a.Stuck += b.Stuck
	return a
}

// addrPortOf returns the address of a TCP or UDP address, unmapped, and zero
// for any other.
func addrPortOf(a net.Addr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	return rdv.AddrPortFrom(a)
}

// toNetAddr returns the address of a multiaddr, nil if it has none.
func toNetAddr(a ma.Multiaddr) net.Addr {
	if a == nil {
		return nil
	}
	na, err := manet.ToNetAddr(a)
	if err != nil {
		return nil
	}
	return na
}
