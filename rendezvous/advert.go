package rendezvous

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// An advert says when to register a name again at which point. It is a pure
// machine: call due, register at what it returns, tell done of each result,
// and come back at next or when something has changed.
type advert struct {
	points map[peer.ID]*advertPoint
}

type advertPoint struct {
	next  time.Time
	until time.Time // the end of the granted lifetime
	fails int
	err   error // of the last registration
	busy  bool  // done is still to come
	gone  bool  // no longer among the points
}

// Waits after a failure: doubled from the first to the last, with jitter.
const (
	firstRetry = 15 * time.Second
	lastRetry  = 2 * time.Minute
)

func newAdvert() *advert { return &advert{points: map[peer.ID]*advertPoint{}} }

// due returns the points whose turn it is: new ones, those that are to be
// refreshed, and failed ones whose wait is over. Others than the given ones
// are forgotten.
func (a *advert) due(now time.Time, points []peer.ID) (due []peer.ID) {
	for _, p := range a.points {
		p.gone = true
	}
	for _, id := range points {
		p := a.points[id]
		if p == nil {
			p = &advertPoint{next: now}
			a.points[id] = p
		}
		p.gone = false
		if !p.busy && !p.next.After(now) {
			p.busy = true
			due = append(due, id)
		}
	}
	for id, p := range a.points {
		if p.gone && !p.busy {
			delete(a.points, id)
		}
	}
	return due
}

// done takes the result of a registration. A granted one is refreshed when 50
// to 80 % of its life is over: not all clients at once, and with time left for
// a point that is away for a while.
func (a *advert) done(now time.Time, id peer.ID, granted time.Duration, err error, rng *rand.Rand) {
	p := a.points[id]
	if p == nil {
		return
	}
	p.busy, p.err = false, err
	if err != nil {
		wait := min(firstRetry<<min(p.fails, 8), lastRetry)
		// A point with little life left is asked again before it ends.
		if left := p.until.Sub(now); left > 0 {
			wait = min(wait, max(left/4, time.Second))
		}
		p.fails++
		p.next = now.Add(jitter(wait, rng))
		return
	}
	p.fails = 0
	p.until = now.Add(granted)
	const from, spread = 0.5, 0.3
	p.next = now.Add(time.Duration((from + spread*rng.Float64()) * float64(granted)))
}

// jitter returns between 75 and 125 % of d.
func jitter(d time.Duration, rng *rand.Rand) time.Duration {
	return time.Duration((0.75 + rng.Float64()/2) * float64(d))
}

// changed makes all points due: the record that was registered is not true any
// more. Points that a refused registration waits for keep waiting.
func (a *advert) changed(now time.Time) {
	for _, p := range a.points {
		if p.fails == 0 {
			p.next = now
		}
	}
}

// next returns when due has something to return, if nothing changes before.
func (a *advert) next() (at time.Time) {
	for _, p := range a.points {
		if !p.busy && (at.IsZero() || p.next.Before(at)) {
			at = p.next
		}
	}
	return at
}

// until returns when the first of the granted lifetimes ends; zero if there is
// none.
func (a *advert) until(now time.Time) (at time.Time) {
	for _, p := range a.points {
		if p.until.After(now) && (at.IsZero() || p.until.Before(at)) {
			at = p.until
		}
	}
	return at
}

// failures returns why points have not taken the registration, by their IDs.
func (a *advert) failures() (errs []error) {
	for _, id := range slices.Sorted(maps.Keys(a.points)) {
		if err := a.points[id].err; err != nil {
			errs = append(errs, fmt.Errorf("point %s: %w", id, err))
		}
	}
	return errs
}
