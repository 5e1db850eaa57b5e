package rendezvous

import (
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A Rate is a token bucket: PerSecond tokens come in, up to Burst are kept.
// A request costs one token, and one for each 16 KiB of its answer.
type Rate struct {
	PerSecond float64
	Burst     float64
}

// Rates bound how often a point is asked. A request beyond them is answered
// E_UNAVAILABLE. A zero Rate means its default, a negative PerSecond none.
// Peers on the machine itself, 127.0.0.1 and ::1, are exempt but for Total.
type Rates struct {
	// Peer bounds one peer. Default 20 a second, and 1200 at once: a peer may
	// register all of its names when it starts.
	Peer Rate

	// Source bounds all peers from one IPv4 address or IPv6 /64.
	// Default 200 a second and 5000 at once.
	Source Rate

	// Total bounds the point. Default none: streams and processors bound it.
	Total Rate
}

// Default rates.
const (
	DefaultPeerRate    = 20
	DefaultPeerBurst   = 1200
	DefaultSourceRate  = 200
	DefaultSourceBurst = 5000
)

func (r Rates) withDefaults() Rates {
	if r.Peer.PerSecond == 0 {
		r.Peer = Rate{DefaultPeerRate, DefaultPeerBurst}
	}
	if r.Source.PerSecond == 0 {
		r.Source = Rate{DefaultSourceRate, DefaultSourceBurst}
	}
	if r.Total.PerSecond == 0 {
		r.Total.PerSecond = -1
	}
	return r
}

// maxBuckets bounds the keys of a limiter: 64 Ki of them are some 6 MB.
const maxBuckets = 1 << 16

type bucket struct {
	tokens float64
	at     int64 // nanoseconds since rateLimiter.base
}

// A limiter keeps a bucket per key. What it forgets for lack of room starts
// again with a full bucket.
type limiter[K comparable] struct {
	rate    Rate
	buckets map[K]bucket
}

func newLimiter[K comparable](r Rate) *limiter[K] {
	return &limiter[K]{rate: r, buckets: map[K]bucket{}}
}

// refill returns k's bucket as it is now.
func (l *limiter[K]) refill(now int64, k K) bucket {
	b, ok := l.buckets[k]
	if !ok {
		return bucket{tokens: l.rate.Burst, at: now}
	}
	b.tokens = min(l.rate.Burst, b.tokens+float64(now-b.at)/float64(time.Second)*l.rate.PerSecond)
	b.at = now
	return b
}

func (l *limiter[K]) allows(now int64, k K) bool {
	return l.rate.PerSecond < 0 || l.refill(now, k).tokens >= 1
}

// take takes n tokens, down to a debt of a whole burst.
func (l *limiter[K]) take(now int64, k K, n float64) {
	if l.rate.PerSecond < 0 {
		return
	}
	b := l.refill(now, k)
	b.tokens = max(b.tokens-n, -l.rate.Burst)
	if _, ok := l.buckets[k]; !ok && len(l.buckets) >= maxBuckets {
		l.makeRoom(now)
	}
	l.buckets[k] = b
}

// makeRoom forgets the full ones of a few buckets, and one in any case.
func (l *limiter[K]) makeRoom(now int64) {
	const look = 64
	seen := 0
	for k := range l.buckets {
		if seen == 0 || l.refill(now, k).tokens >= l.rate.Burst {
			delete(l.buckets, k)
		}
		if seen++; seen == look {
			return
		}
	}
}

// A rateLimiter is all of a point's limiters. It is plain memory.
type rateLimiter struct {
	base   time.Time
	peers  *limiter[peer.ID]
	source *limiter[netip.Addr]
	total  *limiter[struct{}]
}

func newRateLimiter(r Rates, base time.Time) *rateLimiter {
	r = r.withDefaults()
	return &rateLimiter{
		base: base, peers: newLimiter[peer.ID](r.Peer),
		source: newLimiter[netip.Addr](r.Source), total: newLimiter[struct{}](r.Total),
	}
}

// allow takes a token for a request of p from source if all limiters have one.
// local says that p is on this machine.
func (l *rateLimiter) allow(now time.Time, p peer.ID, source netip.Addr, local bool) bool {
	at := int64(now.Sub(l.base))
	ok := l.total.allows(at, struct{}{})
	if !local {
		ok = ok && l.peers.allows(at, p) && (!source.IsValid() || l.source.allows(at, source))
	}
	if ok {
		l.charge(now, p, source, local, 1)
	}
	return ok
}

// charge takes n tokens, whether they are there or not.
func (l *rateLimiter) charge(now time.Time, p peer.ID, source netip.Addr, local bool, n float64) {
	at := int64(now.Sub(l.base))
	l.total.take(at, struct{}{}, n)
	if local {
		return
	}
	l.peers.take(at, p, n)
	if source.IsValid() {
		l.source.take(at, source, n)
	}
}
