package rdv

import (
	"net/netip"
	"time"
)

// guesses counts refused requests for each source, so that a bearer token
// cannot be tried out at the speed of the line. It remembers a bounded number
// of sources. It is not safe for concurrent use.
type guesses struct {
	limit   int           // refusals of one source in a window; 0 is no limit
	window  time.Duration // how long they count
	sources int           // sources that are remembered

	seen map[netip.Addr]*guesser
}

type guesser struct {
	failures int
	until    time.Time // the window ends
}

// blocked reports whether the source has used up its guesses, and for how
// long it is to stay away.
func (g *guesses) blocked(now time.Time, source netip.Addr) (time.Duration, bool) {
	e := g.seen[sourceKey(source)]
	if e == nil || e.failures < g.limit || !now.Before(e.until) {
		return 0, false
	}
	return e.until.Sub(now), true
}

// failed counts one refusal.
func (g *guesses) failed(now time.Time, source netip.Addr) {
	if g.limit <= 0 {
		return
	}
	key := sourceKey(source)
	if e := g.seen[key]; e != nil && now.Before(e.until) {
		e.failures++
		return
	}
	if g.seen == nil {
		g.seen = make(map[netip.Addr]*guesser)
	}
	if len(g.seen) >= g.sources {
		g.forget(now)
	}
	g.seen[key] = &guesser{failures: 1, until: now.Add(g.window)}
}

// maxLooks bounds the work of one forget.
const maxLooks = 16

// forget makes room: of a few sources, those whose window is over, else one.
func (g *guesses) forget(now time.Time) {
	looks, room := 0, false
	for key, e := range g.seen {
		looks++
		if !now.Before(e.until) || (looks == maxLooks && !room) {
			delete(g.seen, key)
			room = true
		}
		if looks == maxLooks {
			return
		}
	}
	if !room {
		clear(g.seen) // fewer sources than looks
	}
}
