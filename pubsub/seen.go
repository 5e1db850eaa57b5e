package pubsub

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"time"
)

// Bounds and shape of a [seenCache].
const (
	// seenGenerations is how many generations span the time to live: ids are
	// dropped a whole generation at a time, so that there are never more than
	// 1 + 1/seenGenerations times the live ids, and no sweep.
	seenGenerations = 4
	// seenTicks is the resolution of expiry: the time to live has so many
	// ticks. Two bytes of an entry hold its tick, hence it stays far below
	// their range.
	seenTicks = 1024
	// seenMinSlots is the size of an empty generation's table.
	seenMinSlots = 32
)

// seenKey names a message id: a salted 128-bit hash of it. Nobody who does not
// know the salt can make two ids meet, or one id land where they like.
type seenKey [16]byte

// seenHasher salts ids. It is a value; it may be used by many at once.
type seenHasher struct{ a, b maphash.Seed }

// newSeenHasher takes two random seeds, each drawn for this process.
func newSeenHasher(a, b maphash.Seed) seenHasher { return seenHasher{a, b} }

func (h seenHasher) key(id string) (k seenKey) {
	binary.LittleEndian.PutUint64(k[:8], maphash.String(h.a, id))
	binary.LittleEndian.PutUint64(k[8:], maphash.String(h.b, id))
	return k
}

func (h seenHasher) keyBytes(id []byte) (k seenKey) {
	binary.LittleEndian.PutUint64(k[:8], maphash.Bytes(h.a, id))
	binary.LittleEndian.PutUint64(k[8:], maphash.Bytes(h.b, id))
	return k
}

// seenCache remembers message ids for a time, the first sight counting or,
// with lastSeen, the last. It takes some 20 to 40 bytes per id whatever the
// id's length, and no operation takes time that grows with the number of ids
// but the growth of a table, which is amortised and, with the usual 64 shards,
// some microseconds. Expiry is exact to a thousandth of the time to live.
//
// It has one owner; now may go back a little, far less than the time to live.
type seenCache struct {
	ttl      time.Duration
	tick     time.Duration
	max      int
	lastSeen bool

	epoch time.Time
	gens  []seenGeneration // newest first
	total int              // entries in all of gens
}

// seenGeneration is a set of ids that were added in one span of time.
type seenGeneration struct {
	begin, last time.Time // of its span, and of its last id
	table       seenTable
}

// newSeenCache makes a cache that remembers an id for ttl, and at most maxIDs:
// when they are exceeded, the oldest go.
func newSeenCache(ttl time.Duration, maxIDs int) *seenCache {
	return &seenCache{ttl: ttl, tick: max(ttl/seenTicks, 1), max: max(maxIDs, seenGenerations)}
}

// has reports whether k was added within the time to live.
func (c *seenCache) has(now time.Time, k seenKey) bool {
	c.advance(now)
	hi, lo := k.split()
	slot, gen := c.find(hi, lo)
	if slot == nil || !c.alive(slot, now) {
		return false
	}
	if c.lastSeen {
		c.touch(slot, gen, hi, lo, now)
	}
	return true
}

// add remembers k and reports whether it is new: not seen within the time to
// live.
func (c *seenCache) add(now time.Time, k seenKey) bool {
	c.advance(now)
	hi, lo := k.split()
	slot, gen := c.find(hi, lo)
	if slot != nil && c.alive(slot, now) {
		if c.lastSeen {
			c.touch(slot, gen, hi, lo, now)
		}
		return false
	}
	c.insert(hi, lo, now)
	return true
}

// len is the number of ids held, those that have just expired among them.
func (c *seenCache) len() int { return c.total }

func (c *seenCache) touch(slot *seenSlot, gen int, hi, lo uint64, now time.Time) {
	if gen == 0 {
		slot.lo = lo | c.ticks(now)
		c.gens[0].last = now
		return
	}
	c.insert(hi, lo, now) // found before the older one from now on
}

func (c *seenCache) insert(hi, lo uint64, now time.Time) {
	for c.total >= c.max && len(c.gens) > 1 {
		c.dropOldest()
	}
	if c.gens[0].table.insert(hi, lo|c.ticks(now)) {
		c.total++
	}
	c.gens[0].last = now
}

func (c *seenCache) find(hi, lo uint64) (slot *seenSlot, gen int) {
	for i := range c.gens {
		if s := c.gens[i].table.find(hi, lo); s != nil {
			return s, i
		}
	}
	return nil, 0
}

// advance starts a new generation when the newest has lasted its span or holds
// its share of ids, and drops those in which nothing can be alive.
func (c *seenCache) advance(now time.Time) {
	if len(c.gens) == 0 {
		c.epoch = now
		c.gens = append(c.gens, newSeenGeneration(now, 0))
		return
	}
	hint := c.gens[0].table.n
	for n := len(c.gens); n > 0 && now.Sub(c.gens[n-1].last) > c.ttl; n-- {
		c.dropOldest()
	}
	switch {
	case len(c.gens) == 0:
		hint = 0 // it has been quiet: start small
	case now.Sub(c.gens[0].begin) < c.ttl/seenGenerations && hint < max(c.max/seenGenerations, 1):
		return
	}
	c.gens = append(c.gens, seenGeneration{})
	copy(c.gens[1:], c.gens)
	c.gens[0] = newSeenGeneration(now, hint)
}

func (c *seenCache) dropOldest() {
	last := len(c.gens) - 1
	c.total -= c.gens[last].table.n
	c.gens[last] = seenGeneration{}
	c.gens = c.gens[:last]
}

// ticks is now in ticks since the epoch, modulo 2^16.
func (c *seenCache) ticks(now time.Time) uint64 { return uint64(now.Sub(c.epoch)/c.tick) & 0xffff }

// alive reports whether an entry is younger than the time to live. One from
// after now is: readers look at the clock before they have the cache to
// themselves, so that now may lie before what another has just added.
func (c *seenCache) alive(s *seenSlot, now time.Time) bool {
	age := int16(c.ticks(now) - s.lo)
	return int64(age) < int64(c.ttl/c.tick)
}

// split cuts a key in two words, leaving out the 16 bits in which a slot keeps
// its tick: 112 bits tell ids apart.
func (k seenKey) split() (hi, lo uint64) {
	hi, lo = binary.LittleEndian.Uint64(k[:8]), binary.LittleEndian.Uint64(k[8:])
	if hi == 0 {
		hi = 1 // zero marks an empty slot
	}
	return hi, lo &^ 0xffff
}

// seenSlot is an entry: the key, with the tick in the low 16 bits of lo.
type seenSlot struct{ hi, lo uint64 }

// seenTable is a hash table with linear probing. Its size is no power of two,
// so that it can be made to measure.
type seenTable struct {
	slots []seenSlot
	n     int
}

func newSeenGeneration(now time.Time, hint int) seenGeneration {
	size := max(seenMinSlots, hint+hint/3) // three quarters full if it becomes like the last
	return seenGeneration{begin: now, last: now, table: seenTable{slots: make([]seenSlot, size)}}
}

// home is where a key belongs: hi scaled to the table's size.
func (t *seenTable) home(hi uint64) int {
	i, _ := bits.Mul64(hi, uint64(len(t.slots)))
	return int(i)
}

func (t *seenTable) find(hi, lo uint64) *seenSlot {
	for i := t.home(hi); ; {
		s := &t.slots[i]
		if s.hi == hi && s.lo&^0xffff == lo {
			return s
		}
		if s.hi == 0 {
			return nil
		}
		if i++; i == len(t.slots) {
			i = 0
		}
	}
}

// insert puts an entry in, over an older one of the same key. It reports
// whether there is one more.
func (t *seenTable) insert(hi, lo uint64) bool {
	if s := t.find(hi, lo&^0xffff); s != nil {
		s.lo = lo
		return false
	}
	if t.n >= len(t.slots)*4/5 {
		t.grow()
	}
	t.put(seenSlot{hi, lo})
	t.n++
	return true
}

func (t *seenTable) put(s seenSlot) {
	i := t.home(s.hi)
	for t.slots[i].hi != 0 {
		if i++; i == len(t.slots) {
			i = 0
		}
	}
	t.slots[i] = s
}

func (t *seenTable) grow() {
	old := t.slots
	t.slots = make([]seenSlot, len(old)+len(old)/2)
	for _, s := range old {
		if s.hi != 0 {
			t.put(s)
		}
	}
}
