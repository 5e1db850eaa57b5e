package groupcommit

import "time"

// A Gatherer decides how long a commit waits for company. Callers that have
// just been answered often come back at once; with a commit begun as soon as
// one of them is there, half of them would always miss it, and each commit
// would carry half of what it could. So it waits for as many as there were, but
// no longer than a commit takes: that is what missing it would cost them.
//
// A single caller never waits, and callers that do not come back are waited for
// once.
type Gatherer[T any] struct {
	q      *Queue[T]
	most   time.Duration // bounds the wait
	served int           // callers that the last commit answered
	took   time.Duration // what a commit takes: a moving average
	timer  *time.Timer

	answers uint64 // that had been given when the last group was taken
}

// NewGatherer returns a Gatherer that never waits longer than most.
func NewGatherer[T any](q *Queue[T], most time.Duration) *Gatherer[T] {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &Gatherer[T]{q: q, most: most, timer: t}
}

// Observe tells how many callers a commit answered and how long it took.
func (g *Gatherer[T]) Observe(served int, took time.Duration) {
	g.served = served
	g.took += (took - g.took) / 8
}

// Next is [Queue.Next] with a wait for company.
func (g *Gatherer[T]) Next(group []*Call[T], limit int) []*Call[T] {
	before := len(group)
	group = g.q.Take(group, limit)
	if len(group) == before {
		group = g.q.Next(group, limit)
	}
	return g.fill(group, before, limit)
}

// Take is [Queue.Take] with a wait for company.
func (g *Gatherer[T]) Take(group []*Call[T], limit int) []*Call[T] {
	return g.fill(g.q.Take(group, limit), len(group), limit)
}

// fill waits for as many as were answered last, beside those who came before
// any of them was: they cannot be among them. Who came later may be, however
// soon: it takes a caller on another processor no time to be back.
func (g *Gatherer[T]) fill(group []*Call[T], before, limit int) []*Call[T] {
	defer func() { g.answers = g.q.answers.Load() }()
	want := g.served
	for _, c := range group[before:] {
		if c.before <= g.answers {
			want++
		}
	}
	want = before + min(limit, want)
	if len(group) == before || len(group) >= want {
		return group
	}
	g.timer.Reset(min(g.took, g.most))
	defer g.timer.Stop()
	for len(group) < want {
		select {
		case c := <-g.q.calls:
			group = c.take(group)
		case <-g.timer.C:
			return group
		case <-g.q.closing:
			return group
		}
	}
	return group
}
