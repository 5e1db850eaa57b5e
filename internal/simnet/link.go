package simnet

import (
	"net/netip"
	"time"
)

// Link is the state of the path between two addresses, one way.
type Link struct {
	Latency   time.Duration // fixed part of the delay
	Jitter    time.Duration // up to this much more, evenly spread; reorders
	Loss      float64       // probability that a datagram is lost, 0 to 1
	Duplicate float64       // probability that it arrives twice
	Down      bool          // nothing passes
}

// LinkFunc tells the link from one public address to another.
type LinkFunc func(from, to netip.Addr) Link

// Delay is the same delay everywhere, without loss.
func Delay(d time.Duration) LinkFunc {
	return func(_, _ netip.Addr) Link { return Link{Latency: d} }
}

// Same is the same link everywhere.
func Same(l Link) LinkFunc {
	return func(_, _ netip.Addr) Link { return l }
}

// Partition cuts the paths between addresses for which inside is true and
// those for which it is false, and leaves the others as in f.
func Partition(f LinkFunc, inside func(netip.Addr) bool) LinkFunc {
	return func(from, to netip.Addr) Link {
		l := f(from, to)
		l.Down = l.Down || inside(from) != inside(to)
		return l
	}
}

func (l Link) delay(d *dice) time.Duration {
	if l.Jitter <= 0 {
		return l.Latency
	}
	return l.Latency + time.Duration(d.next()%uint64(l.Jitter))
}

// dice are the pseudo-random numbers of one datagram: SplitMix64 over the
// seed and the datagram's name, so that they cost nothing to set up and no
// state is shared between sockets.
type dice struct{ x uint64 }

// injectStream is the name under which all spoofed datagrams throw dice.
const injectStream = 0

func newDice(seed, stream, seq uint64) dice {
	d := dice{x: seed}
	d.x = d.next() ^ stream
	d.x = d.next() ^ seq
	return d
}

func (d *dice) next() uint64 {
	d.x += 0x9e3779b97f4a7c15
	z := d.x
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below is true with probability p.
func (d *dice) below(p float64) bool {
	if p <= 0 {
		return false
	}
	return float64(d.next()>>11)/(1<<53) < p
}
