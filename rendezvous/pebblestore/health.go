package pebblestore

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/muster-p2p/muster/rendezvous"
)

// Health returns nil, or why changes are refused now. Damage that was found at
// Open is reported too, until the next start.
func (s *Store) Health() error {
	if err := s.failed(); err != nil {
		return err
	}
	s.mu.Lock()
	opened, quarantined := s.opened && !s.closed, s.quarantined
	s.mu.Unlock()
	switch {
	case !opened:
		return rendezvous.ErrClosed
	case quarantined != "":
		return errors.New("pebblestore: " + quarantined)
	default:
		_, err := s.room()
		return err
	}
}

// Quarantined says what was moved aside at Open because it was damaged; it is
// empty as a rule.
func (s *Store) Quarantined() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.quarantined
}

var errWaiting = fmt.Errorf("%w: the disk is full: a write waits for space", rendezvous.ErrUnavailable)

// room returns how much may be written until the reserve is reached, or an
// error if it is.
func (s *Store) room() (spare uint64, err error) {
	if s.fs.waiting.Load() > 0 {
		return 0, errWaiting
	}
	usage, err := s.fs.GetDiskUsage(s.cfg.Dir)
	if err != nil || s.cfg.Reserve < 0 {
		return math.MaxUint64, nil // nothing is known, or to be kept: writes will tell
	}
	reserve := min(uint64(s.cfg.Reserve), s.counts.held.Load()+4*s.memTable())
	if usage.AvailBytes >= reserve {
		return usage.AvailBytes - reserve, nil
	}
	return 0, fmt.Errorf("%w: the disk is full: %d KiB free, %d KiB are kept in reserve",
		rendezvous.ErrUnavailable, usage.AvailBytes>>10, reserve>>10)
}

// Stats are what a store has done since it was opened.
type Stats struct {
	Commits      uint64 // groups that were committed
	Changes      uint64 // changes in them
	Dropped      uint64 // rows that Expire dropped
	RefusedQueue uint64 // Commits refused since too many waited
	RefusedDisk  uint64 // Commits refused since the disk was full
	Waiting      int    // Commits that wait now
	Bytes        uint64 // on the disk, as of the last commits
}

type counts struct {
	commits, changes, dropped, refusedQueue, refusedDisk atomic.Uint64
	held                                                 atomic.Uint64 // bytes on the disk; only run asks Pebble
}

// Stats returns the counts as they are now.
func (s *Store) Stats() Stats {
	st := Stats{
		Commits:      s.counts.commits.Load(),
		Changes:      s.counts.changes.Load(),
		Dropped:      s.counts.dropped.Load(),
		RefusedQueue: s.counts.refusedQueue.Load(),
		RefusedDisk:  s.counts.refusedDisk.Load(),
		Waiting:      s.queue.Len(),
		Bytes:        s.counts.held.Load(),
	}
	return st
}
