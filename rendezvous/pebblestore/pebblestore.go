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

	"github.com/muster-p2p/muster/internal/groupcommit"
	"github.com/muster-p2p/muster/rendezvous"
)

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
	meta := s.id.Meta
	meta.Sole, meta.Head = true, s.cursor.pos
	go s.run()
	return meta, nil
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
	s.counts.held.Store(s.db.Metrics().DiskSpaceUsage())
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
		return fmt.Errorf("%w: waiting for the disk: %w", rendezvous.ErrUnavailable, ctx.Err())
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

var _ rendezvous.Store = (*Store)(nil)
