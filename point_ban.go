package muster

import (
	"github.com/libp2p/go-libp2p/core/network"

	"github.com/muster-p2p/muster/access"
)

// SetPolicy changes what is allowed, for requests from now on, and enforces
// what is banned. Pairs that are relayed go on: the relay does not know whose
// they are.
func (p *Point) SetPolicy(policy access.Policy) error {
	if p.gate == nil {
		return ErrNotStarted
	}
	if err := p.gate.SetPolicy(policy); err != nil {
		return err
	}
	_, err := p.Enforce()
	return err
}

// Enforce ends what banned peers still have here: registrations, of which it
// returns the number, the stream by which they are called, and connections. Over
// a database the registrations end at all points; what a banned peer registers
// at a point that has not banned it ends with the next call. The error is that
// of the store, and the rest is done then.
func (p *Point) Enforce() (removed int, err error) {
	if p.gate == nil {
		return 0, ErrNotStarted
	}
	for _, id := range p.gate.Policy().Banned {
		if r := p.reach; r != nil {
			r.Dismiss(id)
		}
		if n := p.host.Network(); id != p.host.ID() && n.Connectedness(id) != network.NotConnected {
			_ = n.ClosePeer(id) // it is given up either way
		}
		if p.rendezvous == nil || err != nil {
			continue
		}
		var n int
		n, err = p.rendezvous.Remove(id)
		removed += n
	}
	return removed, err
}
