package rendezvous

import (
	"math"
	"math/rand/v2"
	"time"
)

// noEntries is the order of a namespace that is not there. It is only read.
var noEntries = &order{}

// orderOf returns the order and tag of a namespace, or of all together if ns
// is empty and that is allowed. Unknown ones have an empty order.
func (r *registry) orderOf(realm Realm, ns string) (*order, nsTag) {
	s := r.realms[realm]
	if ns == "" && s.all != nil {
		return s.all, tagOf(realm, "")
	}
	if n := s.namespaces[ns]; n != nil {
		return &n.order, n.tag
	}
	return noEntries, tagOf(realm, ns)
}

// alone says that nobody else writes to the realm's store, and how far its
// history has come: the last changes may be removals that it has not kept.
func (r *registry) alone(realm Realm, head uint64) {
	s := r.realms[realm]
	s.sole, s.head = true, max(s.head, head)
}

// lost reports whether l is of a history that the store does not have any more.
// Of a shared store another point may know more.
func (r *registry) lost(realm Realm, l listing) bool {
	s := r.realms[realm]
	return s.sole && l.hi > s.head
}

// list goes on with a listing: it calls emit with live registrations of o
// until that returns false, which says that this one was not taken. It returns
// where the next page begins.
func (r *registry) list(now time.Time, realm Realm, o *order, l listing, rng *rand.Rand, emit func(*entry) bool) listing {
	at, head := r.since(now), r.realms[realm].head
	if l.phase == phaseNew {
		l = listing{phase: phaseFollow, hi: head}
		if e := o.random(rng); e != nil {
			l = listing{phase: phaseUp, hi: head, start: e.pos - 1, cur: e.pos - 1}
		}
	}
	// read goes through from < pos <= to and returns how far it came.
	read := func(from, to uint64) (uint64, bool) {
		done := o.each(from, to, func(e *entry) bool {
			if e.deadline > at && !emit(e) {
				return false
			}
			from = e.pos
			return true
		})
		return from, done
	}
	var done bool
	if l.phase == phaseUp {
		if l.cur, done = read(l.cur, l.hi); !done {
			return l
		}
		if head < l.hi { // another point that shares the store is ahead
			l.cur = max(l.cur, head)
			return l
		}
		l.phase, l.cur = phaseRound, 0
	}
	if l.phase == phaseRound {
		if l.cur, done = read(l.cur, l.start); !done {
			return l
		}
		if head < l.start {
			l.cur = max(l.cur, head)
			return l
		}
		l.phase, l.cur, l.start = phaseFollow, 0, 0
	}
	if l.hi, done = read(l.hi, math.MaxUint64); done {
		l.hi = max(l.hi, head)
	}
	return l
}

// sample calls emit with up to limit live registrations of o, drawn by lot and
// in no order, until it returns false.
//
// Spec: https://github.com/waku-org/go-waku-rendezvous: a discover returns
// random records.
func (r *registry) sample(now time.Time, o *order, limit int, rng *rand.Rand, emit func(*entry) bool) {
	at := r.since(now)
	var drawn []*entry
	if o.n <= 2*limit {
		o.each(0, math.MaxUint64, func(e *entry) bool {
			drawn = append(drawn, e)
			return true
		})
		rng.Shuffle(len(drawn), func(i, j int) { drawn[i], drawn[j] = drawn[j], drawn[i] })
	} else {
		// Fewer than half are wanted: draw, and draw again what came before.
		seen := make(map[*entry]bool, limit)
		for tries := 4 * limit; len(drawn) < limit && tries > 0; tries-- {
			if e := o.random(rng); !seen[e] {
				seen[e] = true
				drawn = append(drawn, e)
			}
		}
	}
	for _, e := range drawn {
		if limit == 0 {
			return
		}
		if e.deadline <= at {
			continue
		}
		if !emit(e) {
			return
		}
		limit--
	}
}
