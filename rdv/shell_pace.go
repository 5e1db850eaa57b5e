package rdv

import (
	"context"
	"io"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// burstFraction of a second is what a limit lets through at once.
	burstFraction = 8

	// minBurst keeps a slow relay from moving single bytes.
	minBurst = 4 << 10
)

// shares holds the limiters that pairs have in common. That of a source lives
// as long as one of its pairs is relayed, and until it has recovered from the
// last: who reconnects gets no more than who stays.
type shares struct {
	mu      sync.Mutex
	total   *rate.Limiter
	sources map[netip.Addr]*share
}

type share struct {
	limiter *rate.Limiter
	pairs   int
}

func newLimiter(bytesPerSecond int64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(bytesPerSecond), burst(bytesPerSecond))
}

func burst(bytesPerSecond int64) int {
	return int(max(minBurst, min(bytesPerSecond/burstFraction, 1<<30)))
}

// A pace holds one pair to the rates that apply to it. Its methods may be
// called by both directions at once.
type pace struct {
	limiters []*rate.Limiter
	limit    int // bytes of a piece
}

// newPace finds the limiters of the pair that is written to; release gives
// them back.
func (r *Relayer) newPace(w1, w2 io.Writer) (_ *pace, release func()) {
	p := &pace{limit: maxPiece}
	if r.PairRate > 0 {
		p.add(newLimiter(r.PairRate))
	}
	release = func() {}
	if r.SourceRate > 0 {
		release = r.shares.join(p, r.SourceRate, sourcesOf(w1, w2))
	}
	if r.TotalRate > 0 {
		p.add(r.shares.all(r.TotalRate))
	}
	return p, release
}

// sourcesOf returns the distinct sources of a pair, as far as they are known.
func sourcesOf(ws ...io.Writer) []netip.Addr {
	var sources []netip.Addr
	for _, w := range ws {
		c, ok := w.(*Conn)
		if !ok {
			continue
		}
		if src := sourceOf(c); src.IsValid() && (len(sources) == 0 || sources[0] != src) {
			sources = append(sources, src)
		}
	}
	return sources
}

func (s *shares) all(bytesPerSecond int64) *rate.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total == nil {
		s.total = newLimiter(bytesPerSecond)
	}
	return s.total
}

func (s *shares) join(p *pace, bytesPerSecond int64, sources []netip.Addr) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sources == nil {
		s.sources = make(map[netip.Addr]*share)
	}
	s.forget()
	for _, src := range sources {
		sh := s.sources[src]
		if sh == nil {
			sh = &share{limiter: newLimiter(bytesPerSecond)}
			s.sources[src] = sh
		}
		sh.pairs++
		p.add(sh.limiter)
	}
	return func() { s.leave(sources) }
}

func (s *shares) leave(sources []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, src := range sources {
		s.sources[src].pairs--
	}
}

// forget looks at a few limiters, more than a pair can add, and drops those
// that would be the same if they were new.
func (s *shares) forget() {
	looks := 0
	for src, sh := range s.sources {
		if sh.pairs == 0 && sh.limiter.Tokens() >= float64(sh.limiter.Burst()) {
			delete(s.sources, src)
		}
		if looks++; looks == maxLooks {
			return
		}
	}
}

func (p *pace) add(l *rate.Limiter) {
	p.limiters = append(p.limiters, l)
	p.limit = min(p.limit, l.Burst())
}

// piece returns how many of n bytes may be moved at a time.
func (p *pace) piece(n int) int { return min(n, p.limit) }

// wait charges n bytes, at most a piece, to every limiter, and waits for the
// slowest. They have been moved already: nothing is charged that was not
// there to be moved.
func (p *pace) wait(ctx context.Context, n int) error {
	if len(p.limiters) == 0 || n == 0 {
		return nil
	}
	now := time.Now()
	var d time.Duration
	for _, l := range p.limiters {
		d = max(d, l.ReserveN(now, n).DelayFrom(now))
	}
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
