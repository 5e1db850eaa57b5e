package reach

import (
	"net/netip"
	"time"
)

// A Rate is a token bucket: PerSecond tokens come in, up to Burst are kept.
type Rate struct {
	PerSecond float64
	Burst     float64
}

// or returns r, or def if r is zero.
func (r Rate) or(def Rate) Rate {
	if r == (Rate{}) {
		return def
	}
	return r
}

// between returns the mean of two rates; it is no limit if one of them is none.
func between(a, b Rate) Rate {
	if a.PerSecond < 0 || b.PerSecond < 0 {
		return Rate{PerSecond: -1}
	}
	return Rate{PerSecond: (a.PerSecond + b.PerSecond) / 2, Burst: (a.Burst + b.Burst) / 2}
}

// maxBuckets bounds the keys of a limiter: 64 Ki of them are some 6 MB.
const maxBuckets = 1 << 16

type bucket struct {
	tokens float64
	at     time.Time
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
func (l *limiter[K]) refill(now time.Time, k K) bucket {
	b, ok := l.buckets[k]
	if !ok {
		return bucket{tokens: l.rate.Burst, at: now}
	}
	b.tokens = min(l.rate.Burst, b.tokens+now.Sub(b.at).Seconds()*l.rate.PerSecond)
	b.at = now
	return b
}

// allows reports whether k has a token. A negative rate allows everything.
func (l *limiter[K]) allows(now time.Time, k K) bool {
	return l.rate.PerSecond < 0 || l.refill(now, k).tokens >= 1
}

// take takes a token of k, which allows has found to be there.
func (l *limiter[K]) take(now time.Time, k K) {
	if l.rate.PerSecond < 0 {
		return
	}
	b := l.refill(now, k)
	b.tokens--
	if _, ok := l.buckets[k]; !ok && len(l.buckets) >= maxBuckets {
		l.makeRoom(now)
	}
	l.buckets[k] = b
}

// makeRoom forgets the full ones of a few buckets, and one in any case.
func (l *limiter[K]) makeRoom(now time.Time) {
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

// sourceOf returns the address that limits per source count a under: a whole
// IPv4 address, the /64 of an IPv6 one. It is invalid for the machine itself:
// 127.0.0.1 and ::1 are what a local client or a tunnel's end comes from, and a
// limit there would bound all of them as one.
func sourceOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || a == netip.IPv6Loopback() || a == netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
		return netip.Addr{}
	}
	if a.Is6() {
		const site = 64
		return netip.PrefixFrom(a, site).Masked().Addr()
	}
	return a
}
