// Package pglot is a [reach.Directory] in a PostgreSQL database: points that
// share it can call each other's callees. It hides how what a point has said is
// kept up while it runs and the database comes and goes, and ends with it.
//
// [Open] connects and makes the tables; they are its own, so that the database
// may be the one of the points' registrations. A Directory holds one
// connection, which one goroutine uses: what is asked and said while it is busy
// makes one batch.
package pglot

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/reach"
)

const (
	// DefaultTimeout ends a batch, and with it the connection, when the database
	// does not answer: a peer that vanished sends no reset.
	DefaultTimeout = 5 * time.Second

	// DefaultRefresh is how often a point says that it runs. Its callees are
	// looked for there for three times as long after it has died: as long as
	// they take to notice.
	DefaultRefresh = 5 * time.Second
	lifetimes      = 3

	// batchLimit bounds the callees and the questions of a batch: some
	// milliseconds for a database.
	batchLimit = 1024

	// findLimit bounds the points of a callee that are looked at: one that
	// waits at more is found as well.
	findLimit = 8

	// The bounds of the pause after an error of the database.
	minPause = 50 * time.Millisecond
	maxPause = 5 * time.Second

	// migrationLock keeps two points from making the tables at once.
	migrationLock = 0x6d757374726c6f74
)

// A Config says where the database is, and where this point is.
type Config struct {
	// URL is a connection string as libpq reads it: postgres://… or key=value
	// pairs. What it leaves out comes from the environment. Tables are made in
	// the first schema of the search_path. Required.
	URL string

	// Point is the URL at which the other points reach this one: what they get
	// of Find. Required, and an address of this point alone.
	Point string

	// Timeout bounds how long the database may take to answer, Refresh is how
	// often the point says that it runs. Zero means the defaults.
	Timeout, Refresh time.Duration

	// Logger is told when the database goes and comes. If nil, nobody is.
	Logger *slog.Logger
}

// A Directory implements [reach.Directory]. It is safe for concurrent use.
type Directory struct {
	cfg    Config
	conn   *pgx.ConnConfig
	point  int64 // names this point while it runs
	log    *slog.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wake   chan struct{} // there is something to do; holds one
	ran    chan struct{} // closed when the owner has ended

	mu     sync.Mutex // guards the following
	here   map[peer.ID]bool
	news   map[peer.ID]bool // come or gone since they were last written
	noted  []chan struct{}  // closed when news is written
	asked  []*question
	away   error // why the database cannot be asked, nil if it can
	closed bool
}

// A question is a Find that waits.
type question struct {
	callee peer.ID
	points []string
	err    error
	done   chan struct{}
}

//go:embed migrations/*.sql
var migrations embed.FS

// ErrClosed is returned after Close.
var ErrClosed = errors.New("pglot: closed")

// Open connects to the database, brings the tables up to date, and drops what
// an earlier run of this point has left. It fails if the database cannot be
// reached; later the Directory connects again by itself.
func Open(ctx context.Context, cfg Config) (*Directory, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Refresh <= 0 {
		cfg.Refresh = DefaultRefresh
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	u, err := url.Parse(cfg.Point)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("pglot: %q is not of the form http://host:port/", cfg.Point)
	}
	if cfg.URL == "" {
		return nil, errors.New("pglot: no URL of a database")
	}
	conn, err := pgx.ParseConfig(cfg.URL)
	if err != nil { // the parser leaves the password out of its errors
		return nil, fmt.Errorf("pglot: %w", err)
	}
	d := &Directory{
		cfg: cfg, conn: conn, point: rand.Int64(), log: cfg.Logger, wake: make(chan struct{}, 1), ran: make(chan struct{}),
		here: map[peer.ID]bool{}, news: map[peer.ID]bool{},
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	o := &owner{Directory: d}
	if err := o.open(ctx); err != nil {
		d.cancel()
		o.hangUp()
		return nil, err
	}
	go o.run()
	return d, nil
}

// Park implements [reach.Directory].
func (d *Directory) Park(callee peer.ID) <-chan struct{} {
	noted := make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.here[callee] = true
	if d.away != nil || d.closed {
		close(noted)
		return noted
	}
	d.news[callee] = true
	d.noted = append(d.noted, noted)
	d.rouse()
	return noted
}

// Leave implements [reach.Directory].
func (d *Directory) Leave(callee peer.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.here, callee)
	if d.away == nil && !d.closed { // else all is written when it is back
		d.news[callee] = true
		d.rouse()
	}
}

// Find implements [reach.Directory].
func (d *Directory) Find(ctx context.Context, callee peer.ID) ([]string, error) {
	q := &question{callee: callee, done: make(chan struct{})}
	d.mu.Lock()
	err := d.away
	if d.closed {
		err = ErrClosed
	}
	if err == nil {
		d.asked = append(d.asked, q)
		d.rouse()
	}
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case <-q.done:
		return q.points, q.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *Directory) rouse() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Health implements [reach.Directory].
func (d *Directory) Health() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.away
}

// Close has the other points forget this one, as far as the database can be
// reached, and ends the connection. It may be called several times.
func (d *Directory) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.cancel()
	<-d.ran
	return nil
}

var _ reach.Directory = (*Directory)(nil)
