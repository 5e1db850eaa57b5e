package pebblestore

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A Durability says what an acknowledgement promises.
type Durability uint8

// The durabilities.
const (
	// Group acknowledges after the changes are synced to the disk. Changes that
	// come while a sync is on its way share the next one. The default.
	Group Durability = iota

	// Sync is Group without sharing: every change has a sync of its own, so
	// one that fails refuses one client. It is slower by the size of the groups.
	Sync

	// None acknowledges when the change is in memory. It is written soon after;
	// a crash may lose the last moments, after which the store takes a new
	// epoch, so that clients list anew.
	None
)

// ParseDurability reads the names "group", "sync" and "none".
func ParseDurability(name string) (Durability, error) {
	for d := range None + 1 {
		if name == d.String() {
			return d, nil
		}
	}
	return 0, fmt.Errorf("pebblestore: unknown durability %q: want sync, group or none", name)
}

func (d Durability) String() string {
	switch d {
	case Group:
		return "group"
	case Sync:
		return "sync"
	case None:
		return "none"
	default:
		return "unknown"
	}
}

// Limits and defaults.
const (
	// DefaultQueueLimit is for how many Commits may wait: at the 20,000 a
	// second that a point can take, half a second.
	DefaultQueueLimit = 10_000

	// DefaultReserve is what is left free on the disk: Pebble writes a part of
	// the rows anew before it frees the old ones, and removals need space to
	// free some. A store that holds less needs as much as it holds.
	DefaultReserve = 128 << 20

	// groupLimit is how many Commits share a sync. At 300 bytes a row it is a
	// write of 150 KiB, whose time is no longer that of the sync.
	groupLimit = 512

	// gatherLimit bounds how long a commit waits for company, whatever the disk
	// takes: with it a disk of 5 ms a sync still answers within 10 ms or so.
	gatherLimit = 2 * time.Millisecond
)

// A Config says where a store is and what it promises.
type Config struct {
	// Dir holds the store, and nothing else. It is made if it is missing, for
	// the user alone: it holds the secret of the cookies. Required.
	Dir string

	// Durability is Group if zero.
	Durability Durability

	// QueueLimit bounds how many Commits wait at a time; one more is refused
	// with ErrUnavailable. Zero means DefaultQueueLimit.
	QueueLimit int

	// Reserve is how many bytes must be free on the disk for changes to be
	// taken, or as many as the store holds and four memtables, if that is less. Zero means DefaultReserve, negative that it is not looked at.
	Reserve int64

	// Logger is told of damage, full disks and failures. Nil discards.
	Logger *slog.Logger

	// fs is where tests put their own disk.
	fs vfs.FS
}

func (c Config) withDefaults() Config {
	if c.QueueLimit <= 0 {
		c.QueueLimit = DefaultQueueLimit
	}
	if c.Reserve == 0 {
		c.Reserve = DefaultReserve
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.fs == nil {
		c.fs = vfs.Default
	}
	return c
}
