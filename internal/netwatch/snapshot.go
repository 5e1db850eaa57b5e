package netwatch

import (
	"net/netip"
	"slices"
	"time"
)

// A Snapshot is what a program can see of the network that its machine is on.
type Snapshot struct {
	// Known says that Addrs could be listed. Some systems do not let programs.
	Known bool

	// Addrs are the addresses of the machine, sorted.
	Addrs []netip.Addr

	// Links are the names of the interfaces that are up and have a carrier,
	// sorted.
	Links []string

	// Via are the addresses that packets to the rest of the world leave from,
	// of IPv4 and of IPv6; not valid where there is no route.
	Via [2]netip.Addr
}

func (s Snapshot) equal(o Snapshot) bool {
	return s.Known == o.Known && s.Via == o.Via && slices.Equal(s.Addrs, o.Addrs) && slices.Equal(s.Links, o.Links)
}

func (s Snapshot) has(a netip.Addr) bool {
	_, ok := slices.BinarySearchFunc(s.Addrs, a, netip.Addr.Compare)
	return ok
}

// A Change says how the network is another one than before.
type Change struct {
	// Slept is for how long the program did not run, zero if it did: the
	// machine was asleep, or the process stopped, or somebody set the clock.
	Slept time.Duration

	Before, After Snapshot
}

// Gone reports whether a was an address of this machine and is none any more:
// what is bound to it is dead.
func (c Change) Gone(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return c.Before.Known && c.After.Known && c.Before.has(a) && !c.After.has(a)
}

// sleepLeast is the shortest pause that is taken for sleep: a busy machine may
// keep a program waiting for a second or two, and clocks are set by less.
const sleepLeast = 5 * time.Second

// slept returns for how long the program did not run, given what the monotonic
// clock, which mostly stops when the machine sleeps, and the wall clock say has
// passed since it wanted to wait for some time.
func slept(wait, monotonic, wall time.Duration) time.Duration {
	if late := max(monotonic, wall) - wait; late >= sleepLeast {
		return late
	}
	return 0
}
