// Package pgaccess keeps issued tokens and what was used of their quotas in a
// PostgreSQL database: points that share it take the same tokens, forget those
// that are revoked, and count their quotas together. It hides how a point
// follows the others, and what is done while the database is away.
//
// [Open] connects and makes the tables; they are its own, so that the database
// may be the one of the points' registrations. A Store holds one connection,
// which one goroutine uses. A request of a client never waits for it: tokens
// are answered from memory, and what is relayed is added every Interval.
//
// A change of the tokens is told by NOTIFY at once, and found by polling within
// Interval where notifications do not pass. While the database is away the
// tokens are those that were known, and [Store.Health] says so: one that is
// revoked meanwhile is taken until the database is back. What was counted is
// added then; what a point had counted since the last addition is lost if it
// crashes.
//
// All points together may relay more for a token than its quota: what they
// move in two intervals.
package pgaccess

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

	"github.com/muster-p2p/muster/access"
)

const (
	// DefaultTimeout ends a statement, and with it the connection, when the
	// database does not answer: a peer that vanished sends no reset.
	DefaultTimeout = 5 * time.Second

	// DefaultInterval is how long a change may go unnoticed where no
	// notification passes, and how often what was relayed is added.
	DefaultInterval = 2 * time.Second

	// The bounds of the pause after an error of the database.
	minPause = 50 * time.Millisecond
	maxPause = 5 * time.Second

	// migrationLock keeps two points from making the tables at once.
	migrationLock = 0x6d75737461636365

	// channel is where points are told that tokens have changed.
	channel = "muster_access"
)

// A Config says where the database is.
type Config struct {
	// URL is a connection string as libpq reads it: postgres://… or key=value
	// pairs. What it leaves out comes from the environment. Tables are made in
	// the first schema of the search_path. Required.
	URL string

	// Timeout bounds how long the database may take to answer, Interval is how
	// often it is asked. Zero means the defaults.
	Timeout, Interval time.Duration

	// Logger is told when the database goes and comes, and of damaged tokens. If
	// nil, nobody is.
	Logger *slog.Logger
}

// A Store implements [access.Tokens], and has the [access.Usage] that belongs
// to it. It is safe for concurrent use.
type Store struct {
	cfg    Config
	conn   *pgx.ConnConfig
	point  int64 // names this point while it runs
	log    *slog.Logger
	usage  *access.Usage
	set    atomic.Pointer[access.TokenSet]
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	ran    chan struct{}     // closed when the owner has ended
	jobs   chan func(*owner) // statements of callers

	mu     sync.Mutex // guards the following
	away   error
	missed time.Time // the last Look
}

// ErrClosed is returned after Close.
var ErrClosed = errors.New("pgaccess: closed")

// Open connects to the database, brings the tables up to date and reads the
// tokens. It fails if the database cannot be reached; later the Store connects
// again by itself.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Interval <= 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.URL == "" {
		return nil, errors.New("pgaccess: no URL of a database")
	}
	conn, err := pgx.ParseConfig(cfg.URL)
	if err != nil { // the parser leaves the password out of its errors
		return nil, fmt.Errorf("pgaccess: %w", err)
	}
	s := &Store{
		cfg: cfg, conn: conn, point: rand.Int64(), log: cfg.Logger, usage: access.NewSharedUsage(),
		ran: make(chan struct{}), jobs: make(chan func(*owner)),
	}
	s.set.Store(access.ReadTokens(nil))
	s.ctx, s.cancel = context.WithCancel(context.Background())
	o := &owner{Store: s, version: -1}
	if err := o.open(ctx); err != nil {
		s.cancel()
		o.hangUp()
		return nil, err
	}
	go o.run()
	return s, nil
}

// Set implements [access.Tokens].
func (s *Store) Set(time.Time) *access.TokenSet { return s.set.Load() }

// Usage returns what was relayed for the tokens, as far as it is known here.
func (s *Store) Usage() *access.Usage { return s.usage }

// Issue implements [access.Tokens].
func (s *Store) Issue(ctx context.Context, now time.Time, tok access.Token) (string, access.Token, error) {
	text, tok, kept, err := access.NewToken(now, tok)
	if err != nil {
		return "", tok, err
	}
	return text, tok, s.do(ctx, func(ctx context.Context, o *owner) error { return o.issue(ctx, kept) })
}

// Revoke implements [access.Tokens].
func (s *Store) Revoke(ctx context.Context, id string) error {
	if _, err := access.ParseAccount(id); err != nil {
		return err
	}
	return s.do(ctx, func(ctx context.Context, o *owner) error { return o.revoke(ctx, id) })
}

// Reload implements [access.Tokens].
func (s *Store) Reload(ctx context.Context) error {
	return s.do(ctx, func(context.Context, *owner) error { return nil })
}

// Import takes over what another keeper has: tokens and revocations that are
// not known yet, and for those tokens what was used. It may be called again.
func (s *Store) Import(ctx context.Context, kept []access.KeptToken, used func(id string) int64) (taken int, err error) {
	if len(kept) == 0 {
		return 0, nil
	}
	result := make(chan int, 1)
	err = s.do(ctx, func(ctx context.Context, o *owner) error {
		n, err := o.take(ctx, kept, used)
		result <- n
		return err
	})
	if err != nil {
		return 0, err
	}
	return <-result, nil
}

// do has the owner run f, with a connection, and read what is new. If ctx ends
// before, f may still run.
func (s *Store) do(ctx context.Context, f func(context.Context, *owner) error) error {
	done := make(chan error, 1)
	job := func(o *owner) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Timeout)
		defer cancel()
		if err := o.connect(ctx); err != nil {
			done <- err
			return
		}
		err := f(ctx, o)
		if err == nil {
			err = o.sync(ctx)
		}
		done <- err
	}
	select {
	case s.jobs <- job:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return ErrClosed
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Look implements [access.Tokens].
func (s *Store) Look(ctx context.Context) {
	s.mu.Lock()
	now := time.Now()
	look := s.away == nil && now.Sub(s.missed) >= access.LookAgain
	if look {
		s.missed = now
	}
	s.mu.Unlock()
	if look {
		_ = s.Reload(ctx) // Health tells
	}
}

// Health implements [access.Tokens].
func (s *Store) Health() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.away, s.set.Load().Health())
}

// Close adds what was relayed since the last time, as far as the database can
// be reached, and ends the connection. It may be called several times.
func (s *Store) Close() error {
	s.cancel()
	<-s.ran
	return nil
}

var _ access.Tokens = (*Store)(nil)
