// Package pgstore is a [rendezvous.Store] in a PostgreSQL database, which many
// points can share. It hides how parallel transactions get one order, how a
// point follows what the others write, and what is done while the database is
// away.
//
// [New] makes a store, its Open connects, brings the tables up to date and
// reads all of them. Each store holds one connection.
//
// A change is acknowledged when its transaction is committed: what that means
// is up to the database (synchronous_commit, replicas). Changes of other
// points arrive by NOTIFY at once, and by polling within PollInterval where
// notifications do not pass, as through a pooler.
//
// While the database cannot be reached Commits wait, up to QueueLimit of them
// and each up to the end of its context, then they are refused with
// [rendezvous.ErrUnavailable]; the store connects again by itself, at
// intervals that grow to five seconds and are jittered, so that many points do
// not come back at once. If the connection breaks inside a COMMIT the store
// looks, when the database is back, what became of it.
//
// Times of expiry are kept by the database's clock and handed out by the local
// one, so the clocks of points need not agree.
//
// A database that was restored from a backup, or a replica that took over
// without the last changes, has a history that clients' cookies do not fit.
// A store that notices begins a new epoch in the database and refuses changes
// until its point is restarted; if no point runs, an operator does it by
// setting epoch to a new value in muster_rendezvous.
package pgstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/muster-p2p/muster/internal/groupcommit"
	"github.com/muster-p2p/muster/rendezvous"
)

// Limits and defaults.
const (
	// DefaultQueueLimit is how many Commits may wait for the database: with
	// 300 bytes each it is 3 MB, and half a second's work when it is back.
	DefaultQueueLimit = 10_000

	// DefaultPollInterval is half of the second within which the changes of
	// other points are to be seen.
	DefaultPollInterval = 500 * time.Millisecond

	// DefaultTimeout ends a statement, and with it the connection, when the
	// database does not answer: a peer that vanished sends no reset. A
	// transaction that is idle for as long is ended by the database, so that a
	// point which vanished in one holds up nobody.
	DefaultTimeout = 5 * time.Second

	// groupLimit is how many Commits share a transaction.
	groupLimit = 512

	// gatherLimit bounds how long a transaction waits for company.
	gatherLimit = 5 * time.Millisecond

	// The bounds of the pause between two attempts to connect.
	minPause = 50 * time.Millisecond
	maxPause = 5 * time.Second
)

// A Config says where the database is.
type Config struct {
	// URL is a connection string as libpq reads it: postgres://… or
	// key=value pairs. What it leaves out comes from the environment
	// (PGPASSWORD, PGPASSFILE …). Tables are made in the first schema of the
	// search_path. Required.
	URL string

	// QueueLimit bounds how many Commits wait at a time; one more is refused
	// with ErrUnavailable. Zero means DefaultQueueLimit.
	QueueLimit int

	// PollInterval is how often changes are looked for when no notification
	// came. Zero means DefaultPollInterval.
	PollInterval time.Duration

	// Timeout bounds how long the database may take to answer. Zero means
	// DefaultTimeout.
	Timeout time.Duration

	// Logger is told when the database goes and comes. Nil discards.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.QueueLimit <= 0 {
		c.QueueLimit = DefaultQueueLimit
	}
	if c.PollInterval <= 0 {
		c.PollInterval = DefaultPollInterval
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// A Store implements [rendezvous.Store]. Its methods are safe for concurrent
// use but for Open, which is called once.
type Store struct {
	cfg    Config
	conn   *pgx.ConnConfig
	log    *slog.Logger
	queue  *groupcommit.Queue[work]
	counts counts
	cancel context.CancelFunc // ends what run is doing
	ran    chan struct{}      // closed when run has ended

	mu      sync.Mutex
	opened  bool
	closed  bool
	away    error // why the database is not connected; nil if it is
	failure error // why nothing is taken until a restart
}

// work is what one caller wants done: changes committed, or rows dropped.
type work struct {
	changes []rendezvous.Change
	before  time.Time // of Expire
	dropped *int
}

// New returns a store that is not open. It connects to nothing.
func New(cfg Config) (*Store, error) {
	if cfg.URL == "" {
		return nil, errors.New("pgstore: no URL")
	}
	cfg = cfg.withDefaults()
	conn, err := pgx.ParseConfig(cfg.URL)
	if err != nil { // the parser leaves the password out of its errors
		return nil, fmt.Errorf("pgstore: %w", err)
	}
	return &Store{
		cfg:   cfg,
		conn:  conn,
		log:   cfg.Logger.With("host", conn.Host, "database", conn.Database),
		queue: groupcommit.New[work](cfg.QueueLimit),
		ran:   make(chan struct{}),
	}, nil
}

// Open implements [rendezvous.Store]. It fails if the database cannot be
// reached.
func (s *Store) Open(ctx context.Context, proposal rendezvous.Meta, apply func([]rendezvous.Change)) (rendezvous.Meta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.opened {
		return rendezvous.Meta{}, fmt.Errorf("pgstore: opened again: %w", rendezvous.ErrClosed)
	}
	o := &owner{Store: s, apply: apply, id: rand.Int64(), gatherer: groupcommit.NewGatherer(s.queue, gatherLimit)}
	meta, err := o.open(ctx, proposal)
	if err != nil {
		o.hangUp()
		s.closed = true
		s.queue.Close()
		s.queue.Done()
		return rendezvous.Meta{}, err
	}
	var running context.Context
	running, s.cancel = context.WithCancel(context.Background())
	s.opened = true
	go o.run(running)
	return meta, nil
}

// Commit implements [rendezvous.Store].
func (s *Store) Commit(ctx context.Context, changes []rendezvous.Change) error {
	if len(changes) == 0 {
		return ctx.Err()
	}
	return s.do(ctx, work{changes: changes})
}

// expireDrop bounds what one call of Expire drops: some 10 ms, between commits.
const expireDrop = 1000

// Expire implements [rendezvous.Store]. Every point of a database may call it.
func (s *Store) Expire(ctx context.Context, before time.Time) (int, error) {
	var dropped int
	if err := s.do(ctx, work{before: before, dropped: &dropped}); err != nil {
		return 0, err
	}
	s.counts.dropped.Add(uint64(dropped))
	return dropped, nil
}

// do passes work to run.
func (s *Store) do(ctx context.Context, w work) error {
	err := s.queue.Do(ctx, w)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, groupcommit.ErrFull):
		s.counts.refused.Add(1)
		return fmt.Errorf("%w: %d changes wait for the database", rendezvous.ErrUnavailable, s.cfg.QueueLimit)
	case errors.Is(err, groupcommit.ErrClosed):
		if failure := s.failed(); failure != nil {
			return failure
		}
		return fmt.Errorf("pgstore: %w", rendezvous.ErrClosed)
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return fmt.Errorf("%w: waiting for the database: %w", rendezvous.ErrUnavailable, ctx.Err())
	default:
		return err
	}
}

// Close implements [rendezvous.Store]. A transaction that is on its way is
// waited for, up to the Timeout.
func (s *Store) Close() error {
	s.mu.Lock()
	opened := s.opened
	s.closed = true
	s.mu.Unlock()
	s.queue.Close()
	if !opened {
		s.queue.Done()
		return nil
	}
	<-s.ran
	s.cancel()
	return nil
}

// Health returns nil, or why changes are refused, or wait, now.
func (s *Store) Health() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.failure != nil:
		return s.failure
	case !s.opened || s.closed:
		return rendezvous.ErrClosed
	case s.away != nil:
		return fmt.Errorf("%w: the database is away: %w", rendezvous.ErrUnavailable, s.away)
	default:
		return nil
	}
}

func (s *Store) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// fail makes err the answer to every call until a restart.
func (s *Store) fail(err error) {
	s.mu.Lock()
	if s.failure == nil {
		s.failure = err
	}
	s.mu.Unlock()
	s.log.Error("rendezvous store: changes are refused until a restart", "err", err)
	s.queue.Close()
}

// setAway notes why the database is away, or with nil that it is there.
func (s *Store) setAway(err error) {
	s.mu.Lock()
	was := s.away
	s.away = err
	s.mu.Unlock()
	switch {
	case err != nil && was == nil:
		s.log.Error("rendezvous store: database away, changes wait", "err", err)
	case err == nil && was != nil:
		s.log.Info("rendezvous store: database back")
	}
}

// Stats are what a store has done since it was opened.
type Stats struct {
	Commits    uint64 // transactions that were committed
	Changes    uint64 // changes in them
	Followed   uint64 // changes of other points
	Dropped    uint64 // rows that Expire dropped
	Refused    uint64 // Commits refused since too many waited
	Reconnects uint64 // times that the database was away and came back
	Settled    uint64 // commits whose outcome had to be asked for
	Waiting    int    // Commits that wait now
}

type counts struct {
	commits, changes, followed, dropped, refused, reconnects, settled atomic.Uint64
}

// Stats returns the counts as they are now.
func (s *Store) Stats() Stats {
	return Stats{
		Commits:    s.counts.commits.Load(),
		Changes:    s.counts.changes.Load(),
		Followed:   s.counts.followed.Load(),
		Dropped:    s.counts.dropped.Load(),
		Refused:    s.counts.refused.Load(),
		Reconnects: s.counts.reconnects.Load(),
		Settled:    s.counts.settled.Load(),
		Waiting:    s.queue.Len(),
	}
}

var _ rendezvous.Store = (*Store)(nil)
