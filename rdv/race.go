package rdv

import (
	"net/netip"
	"time"

	"github.com/muster-p2p/muster/rdv/wire"
)

// Timing of the race for a direct connection.
const (
	// racePace is the time between the first attempts at two candidates, so
	// that ten of them are no burst.
	racePace = time.Millisecond

	// acceptHead and dialHead are how long NATs are primed before the SYN that
	// the other side is to see. They bridge the difference between the times
	// at which two peers near each other hear from a server far away. The
	// acceptor's is shorter: the connection waits for its hello, which comes
	// half a round trip after its SYN is answered, and not for the dialer's.
	acceptHead = 8 * time.Millisecond
	dialHead   = 14 * time.Millisecond

	// raceTurn is how long one side primes while the other dials, after a
	// refusal showed that neither gets through by itself.
	raceTurn = 250 * time.Millisecond

	// retryMin and retryMax bound the pause after a refusal; it doubles.
	retryMin = 20 * time.Millisecond
	retryMax = 80 * time.Millisecond

	// maxAttempts bounds the attempts at one candidate, maxAttemptsAll those
	// of a race: enough for some two seconds of trying, and no scan.
	maxAttempts = 24

	// maxStrangers bounds the connections made to one candidate that turned out
	// not to lead to the peer. The first may have, through a NAT that let go.
	maxStrangers = 3

	maxAttemptsAll = 64

	// minTTL and maxTTL are the hops that primes may make: out of one's own
	// network, and not yet into the other one.
	minTTL, maxTTL = 2, 5
)

// An attempt is one TCP connection to try.
type attempt struct {
	candidate int
	addr      netip.AddrPort

	// ttl is the hop limit of the first SYN, zero for the usual one. An
	// attempt with a ttl is a prime: its SYN opens the NATs on this side and
	// dies before it wakes those on the other, which would answer it with a
	// RST or an entry that blocks the port. It then waits for the other
	// side's SYN to come through.
	ttl int

	// until is when a prime ends. Zero: the attempt may last to the end of
	// the race.
	until time.Time

	// full says that when the prime ends, a usual SYN is to follow in the same
	// instant: on a port that is closed for a moment the peer's SYN would find
	// no one to answer it as the NATs on this side expect.
	full bool
}

// An outcome is how an attempt ended without a connection.
type outcome int

const (
	outcomeExpired     outcome = iota // its time was up
	outcomeRefused                    // something on the way answered with a refusal
	outcomeTaken                      // the addresses are in use: by the connection that the peer made
	outcomeUnreachable                // this host has no way to there
	outcomeStranger                   // somebody answered who is not the peer
)

// A race decides when to try which candidate how. It holds no clock and no
// socket: the caller makes the attempts that advance returns, reports each
// that ends without a connection to failed, and calls advance again at next.
type race struct {
	accepting  bool // the method is ACCEPT
	start      time.Time
	candidates []racer
	attempts   int       // started, all candidates
	next       time.Time // when to call advance again; zero: not before a report
}

type racer struct {
	lane
	attempts int
	refusals int
	stranger int
	due      time.Time // of the next attempt; zero: none planned
	pending  bool

	unreachable bool // this host has no way there
}

// newRace plans a race over the lanes, which are entered in their order.
func newRace(now time.Time, method string, lanes []lane) *race {
	r := &race{accepting: method == wire.Accept, start: now}
	for i, l := range lanes {
		r.candidates = append(r.candidates, racer{lane: l, due: now.Add(time.Duration(i) * racePace)})
	}
	r.plan()
	return r
}

// advance returns the attempts that are due at now. Early and late calls are
// harmless.
func (r *race) advance(now time.Time) (start []attempt) {
	for i := range r.candidates {
		c := &r.candidates[i]
		if c.pending || c.due.IsZero() || c.due.After(now) {
			continue
		}
		c.due = time.Time{}
		if c.attempts == maxAttempts || r.attempts == maxAttemptsAll {
			continue
		}
		a := attempt{candidate: i, addr: c.addr}
		if c.attempts == 0 && c.head {
			a.ttl, a.until, a.full = minTTL, now.Add(r.headTime()), true
		} else {
			a.ttl, a.until = r.prime(now, c)
		}
		c.attempts++
		r.attempts++
		c.pending = true
		start = append(start, a)
	}
	r.plan()
	return start
}

func (r *race) headTime() time.Duration {
	if r.accepting {
		return acceptHead
	}
	return dialHead
}

// prime returns the hop limit and the end of the next attempt at c, zero if it
// is not a prime. After a refusal the sides take turns, as one of them has to
// be seen: the acceptor primes first. Both began when the server told them of
// each other, so they agree on whose turn it is without a word.
func (r *race) prime(now time.Time, c *racer) (ttl int, until time.Time) {
	turn := int(now.Sub(r.start) / raceTurn)
	if !c.punch || c.refusals == 0 || (turn%2 == 0) != r.accepting {
		return 0, time.Time{}
	}
	return minTTL + turn/2%(maxTTL-minTTL+1), r.start.Add(time.Duration(turn+1) * raceTurn)
}

// failed reports that the attempt at a candidate ended without a connection.
func (r *race) failed(now time.Time, candidate int, why outcome) {
	c := &r.candidates[candidate]
	c.pending = false
	switch why {
	case outcomeRefused:
		c.due = now.Add(min(retryMin<<min(c.refusals, 8), retryMax))
		c.refusals++
	case outcomeExpired:
		c.due = now
	case outcomeStranger:
		c.due = now.Add(retryMax)
		if c.stranger++; c.stranger == maxStrangers {
			c.due = time.Time{}
		}
	case outcomeTaken:
		c.due = time.Time{}
	case outcomeUnreachable:
		c.due = time.Time{}
		c.unreachable = true
	}
	if c.attempts == maxAttempts || r.attempts == maxAttemptsAll {
		c.due = time.Time{}
	}
	r.plan()
}

// connected reports that the attempt at a candidate led to a connection; it is
// not tried again.
func (r *race) connected(candidate int) {
	r.candidates[candidate].pending = false
	r.candidates[candidate].due = time.Time{}
	r.plan()
}

func (r *race) plan() {
	r.next = time.Time{}
	for i := range r.candidates {
		if c := &r.candidates[i]; !c.due.IsZero() && !c.pending && (r.next.IsZero() || c.due.Before(r.next)) {
			r.next = c.due
		}
	}
}

// hopeless reports whether no direct connection can come about any more: this
// host has no way to any candidate, and so no way to answer one either; or
// there is no candidate, and the race is barren: nobody can reach this side.
func (r *race) hopeless(barren bool) bool {
	for i := range r.candidates {
		if !r.candidates[i].unreachable {
			return false
		}
	}
	return barren || len(r.candidates) > 0
}
