package rendezvous

import (
	"bytes"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A peerState is a peer with registrations, or reservations, in a realm.
type peerState struct {
	id      peer.ID
	source  *source
	maxSeq  uint64 // of the registrations
	atMax   int32  // how many have it
	pending int32
	n       int32
	one     *entry                // if n is 1
	many    map[*namespace]*entry // if n was ever more
}

func (p *peerState) get(ns *namespace) *entry {
	if p.many != nil {
		return p.many[ns]
	}
	if p.one != nil && p.one.ns == ns {
		return p.one
	}
	return nil
}

func (p *peerState) put(e *entry) {
	p.n++
	switch {
	case p.many != nil:
		p.many[e.ns] = e
	case p.one == nil:
		p.one = e
	default:
		p.many = map[*namespace]*entry{p.one.ns: p.one, e.ns: e}
		p.one = nil
	}
}

func (p *peerState) drop(e *entry) {
	p.n--
	if p.many != nil {
		delete(p.many, e.ns)
	} else {
		p.one = nil
	}
	p.retire(e.seq)
}

// join and retire keep maxSeq, as a registration with seq comes and is gone.
func (p *peerState) join(seq uint64) {
	switch {
	case seq > p.maxSeq || p.atMax == 0:
		p.maxSeq, p.atMax = seq, 1
	case seq == p.maxSeq:
		p.atMax++
	}
}

func (p *peerState) retire(seq uint64) {
	if seq != p.maxSeq {
		return
	}
	if p.atMax--; p.atMax > 0 {
		return
	}
	p.maxSeq = 0
	for e := range p.entries {
		p.join(e.seq)
	}
}

// entries yields the peer's registrations in no order.
func (p *peerState) entries(yield func(*entry) bool) {
	if p.one != nil {
		yield(p.one)
		return
	}
	for _, e := range p.many {
		if !yield(e) {
			return
		}
	}
}

func (p *peerState) known(record []byte) *entry {
	tried := 0
	for e := range p.entries {
		if bytes.Equal(e.record, record) {
			return e
		}
		// A peer has one record as a rule, and the old one until it has
		// registered the new one everywhere.
		if tried++; tried == 4 {
			break
		}
	}
	return nil
}
