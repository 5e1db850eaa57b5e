package discv5

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
)

const (
	// maxChallenges bounds the challenges waiting for their handshake. The
	// rate of new ones and their life keep below it.
	maxChallenges = 2048

	// maxTries is how many handshake packets are checked against one
	// challenge. One would let a spoofer who knows both IDs spoil the
	// handshake of the real node; each costs a signature check.
	maxTries = 2

	// limiterSlots is how many sources are told apart. Sources that share a
	// slot share its rate.
	limiterSlots = 1024
)

// A challenge is a WHOAREYOU that we sent and the state to check its answer.
type challenge struct {
	at     endpoint
	data   wire.Challenge
	record *enr.Record // the newest we have of the peer, nil if none
	sent   time.Time
	tries  int
	sends  int  // of the same challenge again
	known  bool // which budget it was taken from

	next *challenge // sent after this one
}

// A challengeTable holds the live challenges. Time costs nothing: they all
// live equally long, so the oldest is always first.
type challengeTable struct {
	life          time.Duration
	byPeer        map[endpoint]*challenge
	first, last   *challenge
	strangers     rateLimiter
	known         rateLimiter // peers we have a record or session of have their own budget
	dropped       uint64
	droppedByRate uint64
}

func newChallengeTable(life time.Duration, perIP, total int, rnd *rand.ChaCha8) *challengeTable {
	return &challengeTable{
		life:      life,
		byPeer:    make(map[endpoint]*challenge),
		strangers: newRateLimiter(perIP, total, rnd),
		known:     newRateLimiter(perIP, total, rnd),
	}
}

// get returns the live challenge of at, or nil.
func (t *challengeTable) get(now time.Time, at endpoint) *challenge {
	ch := t.byPeer[at]
	if ch == nil || now.Sub(ch.sent) >= t.life {
		return nil
	}
	return ch
}

// allow counts a WHOAREYOU to a against the rates, and reports false if there
// must be silence.
func (t *challengeTable) allow(now time.Time, a netip.Addr, known bool) bool {
	l := &t.strangers
	if known {
		l = &t.known
	}
	if !l.allow(now, a) {
		t.droppedByRate++
		return false
	}
	return true
}

// add remembers ch, which is the newest.
func (t *challengeTable) add(now time.Time, ch *challenge) bool {
	t.expire(now)
	if len(t.byPeer) >= maxChallenges {
		t.dropped++
		return false
	}
	t.byPeer[ch.at] = ch
	if t.last != nil {
		t.last.next = ch
	} else {
		t.first = ch
	}
	t.last = ch
	return true
}

// answered forgets a challenge that was answered with a valid handshake, and
// gives back what it took from its source's rate: the source exists and has
// spent as much as we have. Its place in the list empties when its time is
// over.
func (t *challengeTable) answered(now time.Time, ch *challenge) {
	delete(t.byPeer, ch.at)
	l := &t.strangers
	if ch.known {
		l = &t.known
	}
	l.refund(now, ch.at.addr.Addr(), 1+ch.sends)
}

// expire forgets the challenges whose time is over. Each is looked at once.
func (t *challengeTable) expire(now time.Time) {
	for t.first != nil && now.Sub(t.first.sent) >= t.life {
		if t.byPeer[t.first.at] == t.first {
			delete(t.byPeer, t.first.at)
		}
		t.first = t.first.next
	}
	if t.first == nil {
		t.last = nil
	}
}

// A rateLimiter allows perIP events a second for each source and total for
// all, in fixed memory: sources are hashed, with a key of their own, into
// slots.
type rateLimiter struct {
	perIP, total int
	all          window
	slots        []window // made when first needed
	key          [2]uint64
}

// A window counts the events of one second.
type window struct {
	start  uint32 // milliseconds, wrapping
	n      uint16
	refund uint16
}

// refundFactor times perIP is how many events of one source are allowed if
// all are refunded.
const refundFactor = 10

func newRateLimiter(perIP, total int, rnd *rand.ChaCha8) rateLimiter {
	return rateLimiter{perIP: perIP, total: total, key: [2]uint64{rnd.Uint64(), rnd.Uint64()}}
}

func (l *rateLimiter) allow(now time.Time, a netip.Addr) bool {
	if l.slots == nil {
		l.slots = make([]window, limiterSlots)
	}
	ms := uint32(now.UnixMilli())
	if !l.all.has(ms, l.total) {
		return false
	}
	slot := &l.slots[l.hash(a)%limiterSlots]
	if !slot.has(ms, l.perIP) || l.perIP >= 0 && int(slot.n) >= refundFactor*l.perIP {
		return false
	}
	slot.n++
	l.all.n++
	return true
}

// refund takes back n events of a in this second, if they were in this second.
func (l *rateLimiter) refund(now time.Time, a netip.Addr, n int) {
	if l.slots == nil {
		return
	}
	slot := &l.slots[l.hash(a)%limiterSlots]
	if uint32(now.UnixMilli())-slot.start < 1000 {
		slot.refund = min(slot.refund+uint16(n), slot.n)
	}
}

// has reports whether there is room in the window, which begins anew a
// second after it began. A negative limit is none.
func (w *window) has(ms uint32, limit int) bool {
	if ms-w.start >= 1000 {
		*w = window{start: ms}
	}
	return limit < 0 && w.n < 1<<16-1 || int(w.n)-int(w.refund) < limit
}

// hash mixes the address, or the /64 of an IPv6 address, with a secret.
func (l *rateLimiter) hash(a netip.Addr) uint64 {
	b := a.As16()
	hi, lo := binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])
	if !a.Is4() {
		lo = 0
	}
	x, y := bits.Mul64(hi^l.key[0], lo^l.key[1]|1)
	x, y = bits.Mul64(x^y^l.key[1], 0x9e3779b97f4a7c15)
	return x ^ y
}
