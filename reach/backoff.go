package reach

import (
	"math/rand/v2"
	"time"
)

// A backoff says when a callee tries its point again. It is plain memory.
type backoff struct {
	fails int
}

// Waits before a new attempt. All are multiplied by a random factor of 0.5 to 1,
// so that the callees of a point that was restarted do not come back as one: of
// 3000 of them some 270 try in a second.
const (
	firstWait = 500 * time.Millisecond
	lastWait  = 15 * time.Second

	// drainWait spreads those whom a point that stops sends away.
	drainWait = 3 * time.Second

	// replacedWait is for a callee whose place another process with the same
	// identity has taken: both are wrong, and they should not fight.
	replacedWait = 2 * time.Minute

	// deniedWait is for one that the point does not let in.
	deniedWait = time.Minute

	// steady is how long a stream must have lasted for its end to be the first
	// failure again: longer than a point takes to let in and throw out, shorter
	// than the time after which a machine that slept finds its stream dead.
	steady = 10 * time.Second
)

// An ending is why a stream to a point ended, or did not begin.
type ending uint8

const (
	endFailed   ending = iota // no connection, or it broke
	endDrained                // the point stops
	endReplaced               // another process took the place
	endDenied                 // the point refuses
)

// next returns how long to wait after an attempt that ended so, having lasted
// for some time (zero: never parked).
func (b *backoff) next(e ending, lasted time.Duration, rng *rand.Rand) time.Duration {
	if lasted >= steady {
		b.fails = 0
	}
	wait := lastWait
	switch e {
	case endReplaced:
		wait = replacedWait
	case endDenied:
		wait = deniedWait
	case endDrained:
		wait = drainWait
	default:
		const doublings = 6 // from firstWait to beyond lastWait
		if b.fails < doublings {
			wait = min(firstWait<<b.fails, lastWait)
		}
		b.fails++
	}
	return wait/2 + time.Duration(rng.Int64N(int64(wait/2)))
}
