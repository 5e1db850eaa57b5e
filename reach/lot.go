package reach

import (
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/reach/wire"
)

// A lot is where callees are parked, and the limits of who may ask for them. It
// is plain memory with one owner. S is what the owner keeps for a callee.
type lot[S any] struct {
	limits  Limits
	spots   map[peer.ID]*spot[S]
	sources map[netip.Addr]int // parked callees by source

	parks   *limiter[peer.ID]    // PARK of one peer
	callers *limiter[peer.ID]    // INVITE and RESERVE of one peer
	callees *limiter[peer.ID]    // INVITE for one peer
	from    *limiter[netip.Addr] // all requests of one source
	routes  *limiter[route]      // INVITE for one peer from one source

	calling map[peer.ID]int // invitations under way, by caller
}

// A route is who is called and from where: a source with many identities must
// not use up what all callers of a callee have together.
type route struct {
	callee peer.ID
	source netip.Addr
}

// A spot is a parked callee.
type spot[S any] struct {
	id     peer.ID
	source netip.Addr // invalid: not counted
	owner  S
	gone   bool

	last  uint64          // number of the newest invitation
	calls map[uint64]call // under way
}

// A call is an invitation under way.
type call struct {
	caller peer.ID
}

func newLot[S any](l Limits) *lot[S] {
	return &lot[S]{
		limits: l, spots: map[peer.ID]*spot[S]{}, sources: map[netip.Addr]int{},
		parks: newLimiter[peer.ID](l.ParkRate), callers: newLimiter[peer.ID](l.CallerRate),
		callees: newLimiter[peer.ID](l.CalleeRate), from: newLimiter[netip.Addr](l.SourceRate),
		routes:  newLimiter[route](between(l.CallerRate, l.CalleeRate)),
		calling: map[peer.ID]int{},
	}
}

// ask takes the tokens of a request by p from source. Loopback has no source,
// and is bounded by peer only.
func (l *lot[S]) ask(now time.Time, peers *limiter[peer.ID], p peer.ID, source netip.Addr) wire.Status {
	if !peers.allows(now, p) || source.IsValid() && !l.from.allows(now, source) {
		return wire.Busy
	}
	peers.take(now, p)
	if source.IsValid() {
		l.from.take(now, source)
	}
	return wire.OK
}

// admitPark, admitCall say whether a request may go on at all.
func (l *lot[S]) admitPark(now time.Time, p peer.ID, source netip.Addr) wire.Status {
	return l.ask(now, l.parks, p, source)
}

func (l *lot[S]) admitCall(now time.Time, p peer.ID, source netip.Addr) wire.Status {
	return l.ask(now, l.callers, p, source)
}

// park gives p a spot. If it has one already, that one is replaced and
// returned: the newest stream is the one that works, the older one may be what
// is left of a network that p has gone from.
func (l *lot[S]) park(p peer.ID, source netip.Addr, owner S) (s, replaced *spot[S], status wire.Status) {
	old := l.spots[p]
	if old == nil && len(l.spots) >= l.limits.Parked {
		return nil, nil, wire.Busy
	}
	if source.IsValid() && (old == nil || old.source != source) && l.sources[source] >= l.limits.ParkedPerSource {
		return nil, nil, wire.Busy
	}
	if old != nil {
		l.leave(old)
	}
	s = &spot[S]{id: p, source: source, owner: owner}
	l.spots[p] = s
	if source.IsValid() {
		l.sources[source]++
	}
	return s, old, wire.OK
}

// leave frees a spot. It may be called twice.
func (l *lot[S]) leave(s *spot[S]) {
	if s.gone {
		return
	}
	s.gone = true
	delete(l.spots, s.id)
	if s.source.IsValid() {
		if l.sources[s.source]--; l.sources[s.source] == 0 {
			delete(l.sources, s.source)
		}
	}
}

// find returns the callee's spot, nil if it is not here.
func (l *lot[S]) find(callee peer.ID) *spot[S] { return l.spots[callee] }

// invite begins an invitation, which end ends.
func (l *lot[S]) invite(now time.Time, caller peer.ID, source netip.Addr, s *spot[S]) (number uint64, status wire.Status) {
	r := route{s.id, source}
	switch {
	case s.gone:
		return 0, wire.NotHere
	case len(s.calls) >= l.limits.PendingPerCallee, l.calling[caller] >= l.limits.PendingPerCaller, !l.callees.allows(now, s.id):
		return 0, wire.Busy
	case source.IsValid() && !l.routes.allows(now, r):
		return 0, wire.Busy
	}
	l.callees.take(now, s.id)
	if source.IsValid() {
		l.routes.take(now, r)
	}
	l.calling[caller]++
	s.last++
	if s.calls == nil { // most callees are not called for hours
		s.calls = map[uint64]call{}
	}
	s.calls[s.last] = call{caller}
	return s.last, wire.OK
}

// end ends an invitation, and reports whether it was under way.
func (l *lot[S]) end(s *spot[S], number uint64) bool {
	c, ok := s.calls[number]
	if !ok {
		return false
	}
	delete(s.calls, number)
	if len(s.calls) == 0 {
		s.calls = nil
	}
	if l.calling[c.caller]--; l.calling[c.caller] == 0 {
		delete(l.calling, c.caller)
	}
	return true
}
