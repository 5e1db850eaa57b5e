package rendezvous

import (
	"net/netip"
	"time"
)

// A ticket reserves room for a registration that is on its way through the
// store. It must be given back with release, whatever became of it.
type ticket struct {
	realm *realmState
	peer  *peerState
	ns    *namespace
	bytes int64
	fresh bool // not a replacement
}

// entryOverhead is what a registration takes beside its name and record.
const entryOverhead = 320

func cost(ns string, record []byte) int64 {
	return int64(len(ns)) + int64(len(record)) + entryOverhead
}

// admit decides whether reg may be registered and reserves room for it. Errors
// are those of limits.go.
func (r *registry) admit(now time.Time, reg *Registration) (ticket, error) {
	err := r.check(now, reg)
	if isLimit(err) && r.collect(now, reg) {
		err = r.check(now, reg)
	}
	if err != nil {
		return ticket{}, err
	}
	realm := r.realms[reg.Realm]
	t := ticket{realm: realm, fresh: r.entry(reg.Key) == nil}
	if !t.fresh {
		return t, nil
	}
	t.ns, t.peer, t.bytes = r.namespace(realm, reg), r.peer(realm, reg), cost(reg.NS, reg.Record)
	t.ns.pending++
	t.peer.pending++
	r.pending++
	r.bytes += t.bytes
	return t, nil
}

func isLimit(err error) bool {
	return err != nil && err != errStaleRecord //nolint:errorlint // our own, never wrapped
}

// collect removes what has expired and may stand in reg's way.
func (r *registry) collect(now time.Time, reg *Registration) bool {
	const most = 256 // the limits' worst case stays short
	n, _ := r.expire(now, most)
	// And of this second, which the wheel has not done yet.
	dead := r.wheel.dueNow(r.since(now), most)
	for _, e := range dead {
		r.remove(e)
	}
	n += len(dead)
	if p := r.realms[reg.Realm].peers[reg.Peer]; p != nil {
		dead = dead[:0]
		for e := range p.entries {
			if e.deadline <= r.since(now) {
				dead = append(dead, e)
			}
		}
		for _, e := range dead {
			r.remove(e)
		}
		n += len(dead)
	}
	return n > 0
}

// check is admit without the reservation.
func (r *registry) check(now time.Time, reg *Registration) error {
	realm, lim := r.realms[reg.Realm], &r.limits
	p, ns := realm.peers[reg.Peer], realm.namespaces[reg.NS]
	if p != nil && !r.stale && reg.Seq < p.maxSeq && p.liveSeq(r.since(now)) > reg.Seq {
		return errStaleRecord
	}
	if p != nil && ns != nil {
		if e := p.get(ns); e != nil && e.deadline > r.since(now) {
			return nil // a refresh
		}
	}
	switch {
	case p != nil && int(p.n+p.pending) >= lim.PerPeer:
		return errPeerFull
	case ns != nil && ns.order.n+ns.pending >= lim.PerNamespace:
		return errNamespaceFull
	case r.live+r.pending >= lim.Total, r.bytes+cost(reg.NS, reg.Record) > lim.Bytes:
		return errFull
	case p == nil && reg.Source.IsValid() && r.sourceFull(reg.Source):
		return errSourceFull
	}
	return nil
}

// liveSeq is maxSeq without what has expired and was not collected yet.
func (p *peerState) liveSeq(now int64) (seq uint64) {
	for e := range p.entries {
		if e.deadline > now {
			seq = max(seq, e.seq)
		}
	}
	return seq
}

func (r *registry) sourceFull(a netip.Addr) bool {
	if s := r.sources[a]; s != nil && s.peers >= r.limits.PerSource {
		return true
	}
	return r.nets[netOf(a)] >= r.limits.PerNet
}

// release gives back what admit reserved.
func (r *registry) release(t ticket) {
	if !t.fresh {
		return
	}
	t.ns.pending--
	t.peer.pending--
	r.pending--
	r.bytes -= t.bytes
	r.tidy(t.realm, t.ns, t.peer)
}
