// Package netwatch notices that the machine is on another network than before:
// an address came or went, a cable was pulled, packets leave by another
// interface, the machine slept. It is for who keeps connections: they hear of it
// from nobody else until a time-out. Start with [Watch].
//
// It looks every second, on every system in the same way. Linux and others
// could tell sooner, each by an interface of its own; but a second is little
// beside what follows, sleep is noticed by looking only, and containers often
// withhold those messages. A look costs some 100 µs on a machine with a few
// interfaces: 0.01 % of a processor. On one with thousands it looks more
// rarely, so that it costs less than half a percent.
//
// What it cannot see: that something beyond this machine has changed, and a new
// default route by which packets leave from the same address.
package netwatch

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"
)

const (
	// interval is the time between two looks, by a quarter more or less, so
	// that the watchers of many programs do not wake up together.
	interval = time.Second

	// costShare bounds what looking costs: one part in so many.
	costShare = 200

	// spacing is the least time between two changes that are told. A network
	// comes up in steps, and each has its user begin anew.
	spacing = 2 * time.Second
)

// Watch looks at the network until ctx ends, and calls changed when it is
// another one than it was when changed was called last. If look is nil,
// it is [Look]. It blocks; changed is called by no other goroutine.
func Watch(ctx context.Context, look func() Snapshot, changed func(Change)) {
	if look == nil {
		look = Look
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	told := look()
	var toldAt time.Time
	var asleep time.Duration
	for wait := interval; ; {
		wait = max(jitter(interval), wait)
		timer.Reset(wait)
		before := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now := time.Now()
		asleep += slept(wait, now.Sub(before), now.Round(0).Sub(before.Round(0)))
		s := look()
		wait = costShare * time.Since(now)
		if asleep == 0 && s.equal(told) || time.Since(toldAt) < spacing {
			continue
		}
		changed(Change{Slept: asleep, Before: told, After: s})
		told, toldAt, asleep = s, time.Now(), 0
	}
}

func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2) //nolint:gosec // spreads wake-ups
}

// elsewhere are addresses of documentation (RFC 5737, RFC 3849), to which the
// default routes lead.
var elsewhere = [2]string{"192.0.2.1:9", "[2001:db8::1]:9"} //nolint:gochecknoglobals // constants

// Look returns what the network looks like now.
func Look() (s Snapshot) {
	if addrs, err := net.InterfaceAddrs(); err == nil {
		s.Known = true
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok {
					s.Addrs = append(s.Addrs, ip.Unmap())
				}
			}
		}
		slices.SortFunc(s.Addrs, netip.Addr.Compare)
	}
	if links, err := net.Interfaces(); err == nil {
		for _, l := range links {
			if l.Flags&net.FlagUp != 0 && l.Flags&net.FlagRunning != 0 {
				s.Links = append(s.Links, l.Name)
			}
		}
		slices.Sort(s.Links)
	}
	for i, to := range elsewhere {
		// A UDP socket is routed when it is connected; nothing is sent.
		if c, err := net.Dial("udp", to); err == nil {
			s.Via[i] = c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
			c.Close() //nolint:errcheck // nothing was sent
		}
	}
	return s
}
