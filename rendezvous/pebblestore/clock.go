package pebblestore

import "time"

// A clock tells the store's own time in milliseconds. It runs by the monotonic
// clock while the store is open; over the time that it is closed it is
// advanced by what the wall clock says, and never set back. So a wall clock
// that is stepped while the point runs changes no lifetime, and one that is
// set back between two runs does not add to any.
type clock struct {
	base  int64     // the store's time at start
	start time.Time // with a monotonic reading
}

// roundingMillis is what is lost at most when times are cut to milliseconds: one
// of the store's time at the last commit, one of what has passed since. The
// clock is advanced by it, so that no lifetime grows.
const roundingMillis = 2

// resume returns the clock of a store that stood at c when it last committed.
func resume(c cursor, now time.Time) clock {
	return clock{base: c.time + max(0, now.UnixMilli()-c.wall) + roundingMillis, start: now}
}

// begin returns the clock of a new store: it begins with the wall clock.
func begin(now time.Time) clock { return clock{base: now.UnixMilli(), start: now} }

// at returns the store's time at t.
func (c clock) at(t time.Time) int64 { return c.base + t.Sub(c.start).Milliseconds() }

// when returns the local time at which the store's clock stands at ms.
func (c clock) when(ms int64) time.Time {
	return c.start.Add(time.Duration(ms-c.base) * time.Millisecond)
}
