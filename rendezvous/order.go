package rendezvous

import (
	"math/rand/v2"
	"slices"
	"sort"
)

// chunkSize bounds what one removal moves: 2 KiB of pointers.
const chunkSize = 256

// An order lists entries by position. New ones come at the end, any one can be
// removed, and reading can begin anywhere; each costs O(log n). There are no
// holes: a reader's cost is what it reads.
type order struct {
	chunks [][]*entry // sorted, none empty
	n      int
}

// push appends e, whose position is the highest so far.
func (o *order) push(e *entry) {
	o.n++
	last := len(o.chunks) - 1
	if last < 0 || len(o.chunks[last]) == chunkSize {
		o.chunks = append(o.chunks, []*entry{e})
		return
	}
	o.chunks[last] = append(o.chunks[last], e)
}

// after returns the place of the first entry with a position above pos.
func (o *order) after(pos uint64) (chunk, slot int) {
	chunk = sort.Search(len(o.chunks), func(i int) bool {
		c := o.chunks[i]
		return c[len(c)-1].pos > pos
	})
	if chunk == len(o.chunks) {
		return chunk, 0
	}
	c := o.chunks[chunk]
	return chunk, sort.Search(len(c), func(i int) bool { return c[i].pos > pos })
}

// remove takes out e, which must be in o under its position.
func (o *order) remove(e *entry) {
	i, j := o.after(e.pos - 1)
	if i == len(o.chunks) || o.chunks[i][j] != e {
		panic("BUG: entry is not in its order")
	}
	o.n--
	c := slices.Delete(o.chunks[i], j, j+1)
	o.chunks[i] = c
	switch {
	case len(c) == 0:
		o.chunks = slices.Delete(o.chunks, i, i+1)
	case len(c) < chunkSize/4:
		o.merge(i)
	}
}

// merge joins chunk i with a neighbour if there is room left for more. It
// keeps chunks a quarter full or better, but for neighbours of full ones.
func (o *order) merge(i int) {
	const most = chunkSize * 3 / 4
	if i > 0 && len(o.chunks[i-1])+len(o.chunks[i]) <= most {
		i--
	} else if i+1 >= len(o.chunks) || len(o.chunks[i])+len(o.chunks[i+1]) > most {
		return
	}
	o.chunks[i] = append(o.chunks[i], o.chunks[i+1]...)
	o.chunks = slices.Delete(o.chunks, i+1, i+2)
}

// each calls f for the entries with from < pos <= to, in order, until f
// returns false. It reports whether it came to the end.
func (o *order) each(from, to uint64, f func(*entry) bool) bool {
	i, j := o.after(from)
	for ; i < len(o.chunks); i, j = i+1, 0 {
		for _, e := range o.chunks[i][j:] {
			if e.pos > to {
				return true
			}
			if !f(e) {
				return false
			}
		}
	}
	return true
}

// random returns one of the entries, each as likely as the others, or nil if
// there are none.
func (o *order) random(rng *rand.Rand) *entry {
	if o.n == 0 {
		return nil
	}
	if len(o.chunks) == 1 {
		return o.chunks[0][rng.IntN(o.n)]
	}
	// A place in a chunk of full size, drawn again while it is past the
	// chunk's end: four draws on average if chunks are a quarter full.
	const draws = 64
	for range draws {
		c := o.chunks[rng.IntN(len(o.chunks))]
		if j := rng.IntN(chunkSize); j < len(c) {
			return c[j]
		}
	}
	return o.chunks[rng.IntN(len(o.chunks))][0]
}
