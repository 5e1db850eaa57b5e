package pubsub

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func testKey(n uint64) seenKey {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], n)
	r := rand.NewChaCha8(seed)
	var k seenKey
	_, _ = r.Read(k[:])
	return k
}

// naiveSeen is what a seenCache of unlimited size must do, ticks apart.
type naiveSeen struct {
	ttl      time.Duration
	lastSeen bool
	at       map[seenKey]time.Time
}

func (n *naiveSeen) look(now time.Time, k seenKey, add bool) (seen bool) {
	t, ok := n.at[k]
	seen = ok && now.Sub(t) < n.ttl
	if seen && n.lastSeen || !seen && add {
		n.at[k] = now
	}
	return seen
}

func TestSeenAgainstModel(t *testing.T) {
	for _, lastSeen := range []bool{false, true} {
		t.Run(fmt.Sprintf("lastSeen=%v", lastSeen), func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			rnd := rand.New(rand.NewPCG(seed, 0))
			const ttl = 1024 * time.Millisecond // a tick is a millisecond
			c := newSeenCache(ttl, 1<<20)
			c.lastSeen = lastSeen
			model := &naiveSeen{ttl, lastSeen, map[seenKey]time.Time{}}
			now := start
			for i := range 200_000 {
				if rnd.IntN(4) == 0 {
					now = now.Add(time.Duration(rnd.IntN(3)) * time.Millisecond)
				}
				if rnd.IntN(20_000) == 0 {
					now = now.Add(time.Duration(rnd.IntN(5000)) * time.Millisecond)
				}
				k := testKey(uint64(rnd.IntN(2000)))
				var got, want bool
				if rnd.IntN(2) == 0 {
					got, want = c.has(now, k), model.look(now, k, false)
				} else {
					got, want = !c.add(now, k), model.look(now, k, true)
				}
				if got != want {
					t.Fatalf("step %d at %v: seen = %v, want %v", i, now.Sub(start), got, want)
				}
			}
		})
	}
}

func TestSeenCapacity(t *testing.T) {
	const limit = 1000
	c := newSeenCache(time.Minute, limit)
	for i := range uint64(10_000) {
		if !c.add(start, testKey(i)) {
			t.Fatalf("id %d is not new", i)
		}
		if c.len() > limit {
			t.Fatalf("%d ids held after %d, want at most %d", c.len(), i+1, limit)
		}
		if !c.has(start, testKey(i)) {
			t.Fatalf("id %d forgotten at once", i)
		}
	}
	// The newest three quarters at least are still there.
	for i := uint64(10_000 - limit*3/4); i < 10_000; i++ {
		if !c.has(start, testKey(i)) {
			t.Fatalf("id %d of 10000 forgotten", i)
		}
	}
}

// After the time to live memory is given back with the next message.
func TestSeenForgets(t *testing.T) {
	c := newSeenCache(time.Minute, 1<<20)
	for i := range uint64(10_000) {
		c.add(start, testKey(i))
	}
	c.add(start.Add(2*time.Minute), testKey(1))
	if c.len() != 1 || len(c.gens) != 1 {
		t.Errorf("%d ids in %d generations held, want 1 in 1", c.len(), len(c.gens))
	}
}

// At a steady rate: at most 40 bytes per live id, and no operation that takes
// noticeably longer than others.
func TestSeenMemory(t *testing.T) {
	const ttl, rate = 120 * time.Second, 500 // in one shard of 64: 32,000 messages/s in all
	for _, seconds := range []int{120, 150, 165, 180, 300, 315} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools of earlier tests held is gone by the second
		runtime.ReadMemStats(&before)
		c := newSeenCache(ttl, 1<<20)
		for i := range uint64(seconds * rate) {
			c.add(start.Add(time.Duration(i)*time.Second/rate), testKey(i))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		const live = 120 * rate
		per := float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)) / live
		t.Logf("after %d s: %.1f bytes per live id, %d held", seconds, per, c.len())
		if per > 40 {
			t.Errorf("after %d s: %.1f bytes per live id, want at most 40", seconds, per)
		}
		runtime.KeepAlive(c)
	}
}

func TestSeenAllocations(t *testing.T) {
	c := newSeenCache(time.Minute, 1<<20)
	h := newSeenHasher(maphash.MakeSeed(), maphash.MakeSeed())
	const text = "an id of a message, as long as that of go-libp2p"
	id := []byte(text)
	c.add(start, h.keyBytes(id))
	if n := testing.AllocsPerRun(1000, func() {
		if !c.has(start, h.keyBytes(id)) || c.add(start, h.key(text)) {
			t.Fatal("forgotten")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// The salt decides where an id lands: two processes disagree, and text and
// bytes of one id agree.
func TestSeenHasherSalted(t *testing.T) {
	h := newSeenHasher(maphash.MakeSeed(), maphash.MakeSeed())
	other := newSeenHasher(maphash.MakeSeed(), maphash.MakeSeed())
	if h.key("id") != h.keyBytes([]byte("id")) {
		t.Error("the same id has two keys")
	}
	if h.key("id") == other.key("id") || h.key("id") == h.key("id2") {
		t.Error("keys collide")
	}
}

// Ids that a stranger chose to collide under one salt spread under ours: the
// longest probe stays short.
func TestSeenHashFlooding(t *testing.T) {
	known := newSeenHasher(maphash.MakeSeed(), maphash.MakeSeed())
	ours := newSeenHasher(maphash.MakeSeed(), maphash.MakeSeed())
	c := newSeenCache(time.Minute, 1<<20)
	n := 0
	for i := 0; n < 2000; i++ {
		id := fmt.Sprint(i)
		if hi, _ := known.key(id).split(); hi>>58 == 0 { // all of one 64th of the known table
			c.add(start, ours.key(id))
			n++
		}
	}
	longest := 0
	for _, g := range c.gens {
		longest = max(longest, g.table.longestProbe())
	}
	if longest > 150 {
		t.Errorf("longest probe %d slots", longest)
	}
}

func (t *seenTable) longestProbe() int {
	longest := 0
	for i, s := range t.slots {
		if s.hi != 0 {
			longest = max(longest, (i-t.home(s.hi)+len(t.slots))%len(t.slots))
		}
	}
	return longest
}

func FuzzSeen(f *testing.F) {
	f.Add([]byte{1, 2, 3, 1, 130, 1}, false)
	f.Add([]byte{1, 255, 1, 255, 1, 255, 1}, true)
	f.Fuzz(func(t *testing.T, ops []byte, lastSeen bool) {
		const ttl = 1024 * time.Millisecond
		c := newSeenCache(ttl, 1<<20)
		c.lastSeen = lastSeen
		model := &naiveSeen{ttl, lastSeen, map[seenKey]time.Time{}}
		now := start
		for _, op := range ops {
			if op >= 128 { // time passes
				now = now.Add(time.Duration(op-127) * 10 * time.Millisecond)
				continue
			}
			k := testKey(uint64(op & 31))
			if got, want := c.has(now, k), model.look(now, k, false); got != want {
				t.Fatalf("has = %v, want %v", got, want)
			}
			if op&32 == 0 {
				if got, want := c.add(now, k), !model.look(now, k, true); got != want {
					t.Fatalf("add = %v, want %v", got, want)
				}
			}
		}
	})
}

func BenchmarkSeenAdd(b *testing.B) {
	c := newSeenCache(120*time.Second, 1<<22)
	h := newSeenHasher(maphash.MakeSeed(), maphash.MakeSeed())
	id := make([]byte, 46)
	now := start
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		binary.LittleEndian.PutUint64(id, i)
		now = now.Add(200 * time.Microsecond)
		c.add(now, h.keyBytes(id))
	}
}

func BenchmarkSeenHas(b *testing.B) {
	c := newSeenCache(120*time.Second, 1<<22)
	h := newSeenHasher(maphash.MakeSeed(), maphash.MakeSeed())
	id := make([]byte, 46)
	for i := range uint64(600_000) {
		binary.LittleEndian.PutUint64(id, i)
		c.add(start.Add(time.Duration(i)*200*time.Microsecond), h.keyBytes(id))
	}
	now := start.Add(120 * time.Second)
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		binary.LittleEndian.PutUint64(id, i%600_000)
		c.has(now, h.keyBytes(id))
	}
}

// TestSeenTimeGoesBack asks for an id with a time from before it was added, as
// the reader of another stream does that looked at the clock earlier.
func TestSeenTimeGoesBack(t *testing.T) {
	c := newSeenCache(time.Minute, 100)
	start := time.Unix(1000, 0)
	var k seenKey
	for i := range 100 {
		k[0] = byte(i + 1)
		at := start.Add(time.Duration(i) * c.tick)
		c.add(at, k)
		for _, back := range []time.Duration{0, 1, c.tick, 10 * c.tick} {
			if !c.has(at.Add(-back), k) {
				t.Errorf("id added at %v is not known %v earlier", at, back)
			}
			if c.add(at.Add(-back), k) {
				t.Errorf("id added at %v is new %v earlier", at, back)
			}
		}
	}
	if c.has(start.Add(3*time.Minute), k) {
		t.Error("an id outlives its time")
	}
}
