package discv5

import (
	"slices"
	"time"

	"github.com/muster-p2p/muster/enr"
)

const (
	// lookupWidth is α: "an implementation-defined concurrency parameter,
	// typically 3".
	lookupWidth = 3

	// lookupMaxWidth is how many queries are under way at the end, when "the
	// initiator resends the find node to all of the k closest nodes it has
	// not already queried", and when others are slow.
	lookupMaxWidth = 16

	// lookupMaxOpen bounds the queries under way, slow ones counted.
	lookupMaxOpen = 24

	// lookupPatience is after what time a query does not count as under way
	// any more: "Nodes that fail to respond quickly are removed from
	// consideration until and unless they do respond." It is the time-out
	// that the specification recommends for a request.
	lookupPatience = 500 * time.Millisecond

	// lookupTries is how often a node is asked that does not answer: a second
	// time at the end, when it would be one of the k nearest, so that a lost
	// packet does not cost the result a node.
	lookupTries = 2

	// lookupDistances is how many distances one FINDNODE of a lookup asks for.
	lookupDistances = 3
)

type queryState uint8

const (
	queryNot queryState = iota
	querySent
	querySlow
	queryAnswered
	queryFailed
)

// A candidate is a node that a lookup has heard of.
type candidate struct {
	record *enr.Record
	state  queryState
	sent   time.Time // the last query
	tries  int
	open   int // queries that have neither been answered nor failed
}

// again reports whether c, which is slow, may be asked once more.
func (c *candidate) again() bool { return c.state == querySlow && c.tries < lookupTries }

// A lookup is the search for the nodes nearest to a target. It says whom to
// ask next and is told what came back.
// https://github.com/ethereum/devp2p/blob/master/discv5/discv5-theory.md#recursive-lookup
type lookup struct {
	target enr.ID
	k      int
	known  map[enr.ID]bool // all that were ever heard of, and ourselves
	near   []*candidate    // nearest first
	asked  int             // queries sent
	open   int             // queries that have neither been answered nor failed
	stale  int             // answers in a row that brought nobody nearer
}

func newLookup(self, target enr.ID, k int) *lookup {
	return &lookup{target: target, k: k, known: map[enr.ID]bool{self: true}}
}

// add tells of a node and reports whether it is new.
func (l *lookup) add(r *enr.Record) bool {
	id := r.ID()
	if l.known[id] {
		return false
	}
	l.known[id] = true
	i, _ := slices.BinarySearchFunc(l.near, id, func(c *candidate, id enr.ID) int {
		return enr.CompareDistance(l.target, c.record.ID(), id)
	})
	l.near = slices.Insert(l.near, i, &candidate{record: r})
	return true
}

// next returns a node to ask, or nil if there is none for now. wake is when to
// call again if no answer comes, zero if it makes no difference.
func (l *lookup) next(now time.Time) (c *candidate, wake time.Time) {
	width := lookupWidth
	if l.stale >= lookupWidth {
		width = lookupMaxWidth
	}
	active, n := 0, 0
	firstTries := 0 // under way
	var first, again *candidate
	for _, o := range l.near {
		if o.state == querySent && now.Sub(o.sent) >= lookupPatience {
			o.state = querySlow
		}
		switch o.state {
		case querySent:
			active++
			if o.tries == 1 {
				firstTries++
			}
			if due := o.sent.Add(lookupPatience); wake.IsZero() || due.Before(wake) {
				wake = due
			}
		case querySlow, queryFailed:
			if again == nil && o.again() {
				again = o
			}
			continue // not one of the k until it answers
		case queryNot:
			if first == nil {
				first = o
			}
		case queryAnswered:
		}
		if n++; n == l.k {
			break
		}
	}
	if first == nil && firstTries == 0 {
		first = again
	}
	if first == nil || active >= width || l.open >= lookupMaxOpen {
		return nil, wake
	}
	first.state, first.sent = querySent, now
	first.tries++
	first.open++
	l.asked++
	l.open++
	return first, wake
}

// answered tells that c has answered with these nodes.
func (l *lookup) answered(c *candidate, found []*enr.Record) (fresh []*enr.Record) {
	c.state = queryAnswered
	c.open--
	l.open--
	var nearest enr.ID
	had := len(l.near) > 0
	if had {
		nearest = l.near[0].record.ID()
	}
	for _, r := range found {
		if l.add(r) {
			fresh = append(fresh, r)
		}
	}
	if had && l.near[0].record.ID() == nearest {
		l.stale++
	} else {
		l.stale = 0
	}
	return fresh
}

// failed tells that a query to c came to nothing.
func (l *lookup) failed(c *candidate) {
	c.open--
	l.open--
	if c.state != queryAnswered && c.open == 0 {
		c.state = queryFailed
	}
}

// done reports whether the k nearest nodes that answer have been asked:
// nobody is left to ask or to ask again, and no query that is not slow is
// under way.
func (l *lookup) done() bool {
	n := 0
	for _, c := range l.near {
		switch c.state {
		case queryNot, querySent:
			return false
		case querySlow, queryFailed:
			if c.again() {
				return false
			}
			continue
		case queryAnswered:
		}
		if n++; n == l.k {
			return true
		}
	}
	return true
}

// result returns up to k nodes that have answered, nearest first.
func (l *lookup) result() []*enr.Record {
	var out []*enr.Record
	for _, c := range l.near {
		if c.state == queryAnswered && len(out) < l.k {
			out = append(out, c.record)
		}
	}
	return out
}

// distancesTo returns the distances to ask a node at id for: that of the
// target first, then the neighbouring ones.
func distancesTo(target, id enr.ID) []uint16 {
	d := enr.LogDistance(target, id)
	out := make([]uint16, 0, lookupDistances)
	if d > 0 {
		out = append(out, uint16(d))
	}
	for i := 1; len(out) < lookupDistances; i++ {
		if d+i <= 256 {
			out = append(out, uint16(d+i))
		}
		if len(out) < lookupDistances && d-i > 0 {
			out = append(out, uint16(d-i))
		}
	}
	return out
}
