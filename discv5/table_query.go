package discv5

import (
	"slices"
	"time"

	"github.com/muster-p2p/muster/enr"
)

// This file asks the table; table.go changes it.

// lonely reports whether no node is alive.
func (t *table) lonely() bool {
	for i := range t.buckets {
		for _, e := range t.buckets[i].entries {
			if e.live {
				return false
			}
		}
	}
	return true
}

// toCheck returns a node that waits to be seen alive, the one longest
// without a ping, or nil.
func (t *table) toCheck(now time.Time) *entry {
	if t.unchecked == 0 {
		return nil
	}
	var best *entry
	for i := range t.buckets {
		for _, e := range t.buckets[i].entries {
			if !e.due || e.pinging || !e.pinged.IsZero() && now.Sub(e.pinged) < recheckEvery {
				continue
			}
			if best == nil || e.pinged.Before(best.pinged) {
				best = e
			}
		}
	}
	return best
}

// toRevalidate returns the least recently seen node of a random bucket:
// "occasionally verify that a random node in a random bucket is live".
func (t *table) toRevalidate() *entry {
	var full [tableBuckets]int
	n := 0
	for i := range t.buckets {
		if len(t.buckets[i].entries) > 0 {
			full[n] = i
			n++
		}
	}
	if n == 0 {
		return nil
	}
	for _, e := range t.buckets[full[t.rnd.IntN(n)]].entries {
		if !e.pinging {
			return e
		}
	}
	return nil
}

// all calls f for each node, the nearest bucket first.
func (t *table) all(f func(*entry)) {
	for i := range t.buckets {
		for _, e := range t.buckets[i].entries {
			f(e)
		}
	}
}

// closest returns up to k nodes nearest to target, nearest first.
func (t *table) closest(target enr.ID, k int, liveOnly bool) []*entry {
	near := make([]*entry, 0, t.n)
	t.all(func(e *entry) {
		if e.live || !liveOnly {
			near = append(near, e)
		}
	})
	slices.SortFunc(near, func(a, b *entry) int { return enr.CompareDistance(target, a.id(), b.id()) })
	return near[:min(k, len(near))]
}

// atDistances appends to dst up to k nodes at exactly these distances from
// us, the first distances first.
func (t *table) atDistances(dst []*entry, distances []uint16, k int, keep func(*entry) bool) []*entry {
	for _, d := range distances {
		if d == 0 || d > 256 {
			continue
		}
		b := &t.buckets[max(int(d)-lowDistance, 0)]
		for _, e := range b.entries {
			if len(dst) >= k {
				return dst
			}
			if enr.LogDistance(t.self, e.id()) == int(d) && keep(e) {
				dst = append(dst, e)
			}
		}
	}
	return dst
}

// random returns up to max nodes that keep accepts, in random order.
func (t *table) random(limit int, keep func(*entry) bool) []*entry {
	var l []*entry
	t.all(func(e *entry) {
		if keep(e) {
			l = append(l, e)
		}
	})
	t.rnd.Shuffle(len(l), func(i, j int) { l[i], l[j] = l[j], l[i] })
	return l[:min(limit, len(l))]
}

// refreshTarget returns an ID in the least recently refreshed bucket and
// marks that as refreshed: "a lookup targeting the least recently refreshed
// bucket should be performed at regular intervals". Buckets nearer than the
// nearest node but one are left out; the lookup of ourselves covers them.
func (t *table) refreshTarget(now time.Time) enr.ID {
	lowest := 0
	for lowest < tableBuckets-1 && len(t.buckets[lowest].entries) == 0 {
		lowest++
	}
	oldest := lowest
	for i := lowest; i < tableBuckets; i++ {
		if t.buckets[i].refreshed.Before(t.buckets[oldest].refreshed) {
			oldest = i
		}
	}
	t.buckets[oldest].refreshed = now
	return t.idAtDistance(oldest + lowDistance)
}

// idAtDistance returns a random ID at distance d from us.
func (t *table) idAtDistance(d int) enr.ID {
	var id enr.ID
	for i := range id {
		id[i] = byte(t.rnd.Uint32())
	}
	// The first 256-d bits are ours, the next is not, the rest is random.
	for bit := range 256 - d {
		set(&id, bit, isSet(t.self, bit))
	}
	if d > 0 {
		set(&id, 256-d, !isSet(t.self, 256-d))
	}
	return id
}

func isSet(id enr.ID, bit int) bool { return id[bit/8]&(0x80>>(bit%8)) != 0 }

func set(id *enr.ID, bit int, on bool) {
	if on {
		id[bit/8] |= 0x80 >> (bit % 8)
	} else {
		id[bit/8] &^= 0x80 >> (bit % 8)
	}
}
