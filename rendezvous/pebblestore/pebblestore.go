// Package pebblestore is a [rendezvous.Store] in one directory, on the embedded
// database Pebble. It hides how changes become durable together, what is done
// when the disk is full or the files are damaged, and how lifetimes are kept
// over a restart.
//
// [New] makes a store, its Open reads it. One process has it open at a time.
//
// What has been acknowledged survives a crash of the process in all modes but
// [None], and a crash of the machine as far as the disk keeps what it has
// synced. While the disk is full changes are refused with
// [rendezvous.ErrUnavailable]; when there is space again the store goes on by
// itself. A store whose files are damaged is moved aside within its directory
// and begun anew, with an error in the log and in [Store.Health].
//
// If the disk fails otherwise (a write or a sync returns an error that is not
// "full"), nothing can be promised any more: all changes are refused, with that
// error, until the process is started again. Reads go on, since they are not
// the store's.
package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/muster-p2p/muster/internal/groupcommit"
	"github.com/muster-p2p/muster/rendezvous"
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

	// DefaultReserve is what is left free on the disk for tables that Pebble
	// writes in the background and for removals, which need space to free some.
	// On a disk of less than eight times that, it is an eighth of the disk.
	DefaultReserve = 64 << 20

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
	// taken. Zero means DefaultReserve, negative that it is not looked at.
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

// A Store implements [rendezvous.Store]. Its methods are safe for concurrent
// use but for Open, which is called once.
type Store struct {
	cfg    Config
	log    *slog.Logger
	fs     *patientFS
	queue  *groupcommit.Queue[work]
	counts counts
	full   atomic.Bool // what the log was last told about the disk
	lock   io.Closer
	loaded

	apply  func([]rendezvous.Change) // called by run only, after Open
	ran    chan struct{}             // closed when run has ended
	broken chan struct{}             // closed when the disk has failed

	failOnce atomic.Bool
	failure  atomic.Pointer[error] // why broken is closed

	expire   sync.Mutex // one Expire at a time
	expireAt []byte     // the key where the next one goes on

	mu          sync.Mutex
	opened      bool
	closed      bool
	quarantined string // what was moved aside at Open
}

// New returns a store that is not open. It touches nothing.
func New(cfg Config) (*Store, error) {
	if cfg.Dir == "" {
		return nil, errors.New("pebblestore: no directory")
	}
	if cfg.Durability > None {
		return nil, fmt.Errorf("pebblestore: unknown durability %d", cfg.Durability)
	}
	cfg = cfg.withDefaults()
	return &Store{
		cfg:    cfg,
		log:    cfg.Logger,
		fs:     newPatientFS(cfg.fs, cfg.Logger),
		queue:  groupcommit.New[work](cfg.QueueLimit),
		ran:    make(chan struct{}),
		broken: make(chan struct{}),
	}, nil
}

// Open implements [rendezvous.Store].
func (s *Store) Open(ctx context.Context, proposal rendezvous.Meta, apply func([]rendezvous.Change)) (rendezvous.Meta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.opened {
		return rendezvous.Meta{}, fmt.Errorf("pebblestore: opened again: %w", rendezvous.ErrClosed)
	}
	if err := s.openLocked(ctx, proposal, apply); err != nil {
		s.closed = true
		s.queue.Close()
		s.queue.Done()
		return rendezvous.Meta{}, err
	}
	s.opened = true
	go s.run()
	return s.id.Meta, nil
}

func (s *Store) openLocked(ctx context.Context, proposal rendezvous.Meta, apply func([]rendezvous.Change)) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.makeDir(s.cfg.Dir); err != nil {
		return err
	}
	s.lock, err = s.fs.Lock(s.fs.PathJoin(s.cfg.Dir, lockName))
	if err != nil {
		return fmt.Errorf("pebblestore: %s is in use by another process, or cannot be locked: %w", s.cfg.Dir, err)
	}
	s.loaded, err = s.openAside(ctx, proposal)
	if err != nil {
		return errors.Join(err, s.lock.Close())
	}
	if err := s.takeEpoch(proposal); err != nil {
		return errors.Join(err, s.db.Close(), s.lock.Close())
	}
	s.apply = apply
	s.rows.replay(apply)
	s.rows = nil
	return nil
}

// takeEpoch begins a new epoch if the store before this one may have lost
// changes that had been applied, and notes whether this one may.
func (s *Store) takeEpoch(proposal rendezvous.Meta) error {
	was := s.id
	if was.lossy {
		s.id.Epoch = proposal.Epoch
		if s.id.Epoch == was.Epoch {
			s.id.Epoch++
		}
	}
	s.id.lossy = s.cfg.Durability == None
	if s.id == was {
		return nil
	}
	return s.writeIdentity()
}

// Commit implements [rendezvous.Store].
func (s *Store) Commit(ctx context.Context, changes []rendezvous.Change) error {
	return s.do(ctx, work{changes: changes})
}

// do passes work to run.
func (s *Store) do(ctx context.Context, w work) error {
	err := s.queue.Do(ctx, w)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, groupcommit.ErrFull):
		s.counts.refusedQueue.Add(1)
		return fmt.Errorf("%w: %d changes wait for the disk", rendezvous.ErrUnavailable, s.cfg.QueueLimit)
	case errors.Is(err, groupcommit.ErrClosed):
		if failure := s.failed(); failure != nil {
			return failure
		}
		return fmt.Errorf("pebblestore: %w", rendezvous.ErrClosed)
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return fmt.Errorf("%w: waiting for the disk: %w", rendezvous.ErrUnavailable, err)
	default:
		return err
	}
}

// Close implements [rendezvous.Store]. If the disk is full or has failed it
// leaves the files as they are, which is as after a crash: nothing that was
// acknowledged is lost.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.opened {
		s.closed = true
		return nil
	}
	s.closed = true
	s.queue.Close()
	s.fs.giveUp() // whatever waits for space fails now, and the store with it
	select {
	case <-s.ran:
	case <-s.broken:
		// Pebble cannot be closed: it would wait for writes that do not end.
		return s.lock.Close()
	}
	return s.closeDB()
}

func (s *Store) closeDB() error {
	s.expire.Lock() // its iterator must be closed
	defer s.expire.Unlock()
	var err error
	if s.id.lossy {
		s.id.lossy = false // all is written: positions will not be used again
		err = s.writeIdentity()
	}
	if err = errors.Join(err, s.db.Close()); err == nil {
		if err := s.writeMarker(s.cursor.pos); err != nil { // the older one is true as well
			s.log.Warn("rendezvous store: marker not written", "dir", s.cfg.Dir, "err", err)
		}
	}
	return errors.Join(err, s.lock.Close())
}

func (s *Store) setQuarantined(what string) { s.quarantined = what } // Open holds mu

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
		return s.room()
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

// room returns nil if there is space for changes on the disk.
func (s *Store) room() error {
	if s.fs.waiting.Load() > 0 {
		return errWaiting
	}
	if s.cfg.Reserve < 0 {
		return nil
	}
	usage, err := s.fs.GetDiskUsage(s.cfg.Dir)
	if err != nil {
		return nil // a file system that does not tell: writes will
	}
	reserve := min(uint64(s.cfg.Reserve), usage.TotalBytes/8)
	if usage.AvailBytes >= reserve {
		return nil
	}
	return fmt.Errorf("%w: the disk is full: %d KiB free, %d KiB are kept in reserve",
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
	Bytes        uint64 // on the disk
}

type counts struct {
	commits, changes, dropped, refusedQueue, refusedDisk atomic.Uint64
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
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened && !s.closed && s.failed() == nil {
		st.Bytes = s.db.Metrics().DiskSpaceUsage()
	}
	return st
}

var _ rendezvous.Store = (*Store)(nil)
