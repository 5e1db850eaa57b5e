// Package pglobby is a [rdv.Directory] in a PostgreSQL database: points that
// share it share one lobby, so that two peers meet whichever points they
// reach. It hides how claims to a token are kept, expire and are taken over.
//
// [Open] connects and makes the tables; they are its own, so that the database
// may be the one of the points' registrations. A Directory holds one
// connection, and connects again when it is used after that broke.
//
// The database sees hashes of tokens only. Whoever can read it can find the
// secret by which points know each other, so it is to be as safe as they are.
package pglobby

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net/url"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/muster-p2p/muster/internal/pgmigrate"
	"github.com/muster-p2p/muster/rdv"
)

const (
	// DefaultTimeout ends a call, and with it the connection, when the database
	// does not answer: a peer that vanished sends no reset.
	DefaultTimeout = 5 * time.Second

	// claimTTL is how long a claim stands that is not repeated: what
	// [rdv.Directory] asks for, and one more.
	claimTTL = 4 * rdv.DirectoryRefresh

	// sweepEvery and sweepLimit bound the work on claims of servers that are
	// gone. Nobody waits for it: an expired claim holds up nobody.
	sweepEvery = time.Minute
	sweepLimit = 10_000

	// migrationLock keeps two points from making the tables at once.
	migrationLock = 0x6d7573746c6f6262
)

// A Config says where the database is, and where this server is.
type Config struct {
	// URL is a connection string as libpq reads it: postgres://… or key=value
	// pairs. What it leaves out comes from the environment. Tables are made in
	// the first schema of the search_path. Required.
	URL string

	// HandOver is the http or https URL at which the other points reach this
	// point's rdv server, with the path that it is mounted under: an address of
	// this point alone, not one of a load balancer. Behind https the
	// certificate must be good for its name; points secure what they hand over
	// either way. Required.
	HandOver string

	// Timeout bounds how long the database may take to answer. Zero means
	// DefaultTimeout.
	Timeout time.Duration
}

// A Directory implements [rdv.Directory]. It is safe for concurrent use; calls
// wait for each other.
type Directory struct {
	cfg    Config
	conn   *pgx.ConnConfig
	point  int64 // names this server while it runs
	secret [32]byte

	mu     sync.Mutex // one call at a time; guards the following
	db     *pgx.Conn  // nil while there is no connection
	closed bool
	swept  time.Time

	healthMu sync.Mutex
	health   error
}

//go:embed migrations/*.sql
var migrations embed.FS

var (
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("pglobby: closed")

	// ErrSameURL is returned by Claim if another point that runs has the same
	// hand-over URL, such as an address that two networks have: none of the two
	// could be reached by the other, and their peers would miss each other.
	ErrSameURL = errors.New("pglobby: another point has the same hand-over URL")
)

// Open connects to the database, brings the tables up to date, and drops what
// an earlier run of this server has claimed. It fails if the database cannot be
// reached.
func Open(ctx context.Context, cfg Config) (*Directory, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	u, err := url.Parse(cfg.HandOver)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("pglobby: hand-over URL %q is not of the form http://host:port/", cfg.HandOver)
	}
	if cfg.URL == "" {
		return nil, errors.New("pglobby: no URL of a database")
	}
	conn, err := pgx.ParseConfig(cfg.URL)
	if err != nil { // the parser leaves the password out of its errors
		return nil, fmt.Errorf("pglobby: %w", err)
	}
	d := &Directory{cfg: cfg, conn: conn, point: mrand.Int64()}
	if err := d.do(ctx, d.open); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Directory) open(ctx context.Context) error {
	if err := d.migrate(ctx); err != nil {
		return fmt.Errorf("pglobby: make tables: %w", err)
	}
	var proposal [32]byte
	rand.Read(proposal[:]) // never fails, by its contract
	_, err := d.db.Exec(ctx, "insert into muster_rdv_lobby (secret) values ($1) on conflict do nothing", proposal[:])
	if err != nil {
		return fmt.Errorf("pglobby: make secret: %w", err)
	}
	var secret []byte
	if err := d.db.QueryRow(ctx, "select secret from muster_rdv_lobby").Scan(&secret); err != nil {
		return fmt.Errorf("pglobby: read secret: %w", err)
	}
	if len(secret) != len(d.secret) {
		return errors.New("pglobby: the secret is not of 32 bytes")
	}
	copy(d.secret[:], secret)
	return d.dropOwn(ctx)
}

// dropOwn ends all claims of this server.
func (d *Directory) dropOwn(ctx context.Context) error {
	_, err := d.db.Exec(ctx, `delete from muster_rdv_claim where token in
		(select token from muster_rdv_claim where url = $1 order by token for update)`, d.cfg.HandOver)
	if err != nil {
		return fmt.Errorf("pglobby: drop claims: %w", err)
	}
	return nil
}

// migrate runs the migrations that have not been run.
func (d *Directory) migrate(ctx context.Context) error {
	return pgmigrate.Run(ctx, d.db, migrations, "muster_rdv_migration", migrationLock)
}

// Secret implements [rdv.Directory].
func (d *Directory) Secret() [32]byte { return d.secret }

// insertClaims claims what is nobody's, ours, expired, or known to be dead. In
// the order of tokens, so that no two points wait for each other.
const insertClaims = `
	insert into muster_rdv_claim as c (token, url, point, id, after, expires)
	select t.token, $1, $6, t.id, t.after, statement_timestamp() + $2::interval
	from unnest($3::bytea[], $4::bigint[], $5::bigint[]) as t (token, id, after) order by t.token
	on conflict (token) do update set url = excluded.url, point = excluded.point, id = excluded.id, after = excluded.after, expires = excluded.expires
	where c.point = excluded.point or c.id = excluded.after or c.expires < statement_timestamp()`

const selectClaims = `
	select c.token, c.url, c.point, c.id from muster_rdv_claim c where c.token = any ($1::bytea[])`

// Claim implements [rdv.Directory].
func (d *Directory) Claim(ctx context.Context, wanted []rdv.Wanted) ([]rdv.Claim, error) {
	hashes := make([][sha256.Size]byte, len(wanted))
	tokens, ids, after := make([][]byte, len(wanted)), make([]int64, len(wanted)), make([]int64, len(wanted))
	for i, w := range wanted {
		hashes[i] = sha256.Sum256([]byte(w.Token))
		tokens[i], ids[i], after[i] = hashes[i][:], int64(w.ID), int64(w.After)
	}
	claims := make([]rdv.Claim, len(wanted))
	return claims, d.do(ctx, func(ctx context.Context) error {
		d.sweep(ctx)
		batch := &pgx.Batch{}
		batch.Queue(insertClaims, d.cfg.HandOver, claimTTL, tokens, ids, after, d.point)
		standing := make(map[[sha256.Size]byte]rdv.Claim, len(wanted))
		batch.Queue(selectClaims, tokens).Query(func(rows pgx.Rows) error {
			var token []byte
			var claim rdv.Claim
			var id, point int64
			_, err := pgx.ForEachRow(rows, []any{&token, &claim.URL, &point, &id}, func() error {
				switch {
				case point == d.point:
					claim.URL = ""
				case claim.URL == d.cfg.HandOver:
					return fmt.Errorf("%w: %s", ErrSameURL, d.cfg.HandOver)
				}
				claim.ID = uint64(id)
				standing[[sha256.Size]byte(token)] = claim
				return nil
			})
			return err
		})
		if err := d.db.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("pglobby: claim: %w", err)
		}
		for i, w := range wanted {
			claims[i] = standing[hashes[i]] // none if it has just been released
			claims[i].Token = w.Token
		}
		return nil
	})
}

// Release implements [rdv.Directory].
func (d *Directory) Release(ctx context.Context, ended []rdv.Claim) error {
	tokens, ids := make([][]byte, len(ended)), make([]int64, len(ended))
	for i, c := range ended {
		hash := sha256.Sum256([]byte(c.Token))
		tokens[i], ids[i] = hash[:], int64(c.ID)
	}
	return d.do(ctx, func(ctx context.Context) error {
		_, err := d.db.Exec(ctx, `
			delete from muster_rdv_claim where (token, id) in (
				select c.token, c.id from muster_rdv_claim c
				join unnest($1::bytea[], $2::bigint[]) as t (token, id) on c.token = t.token and c.id = t.id
				order by c.token for update of c)`, tokens, ids)
		if err != nil {
			return fmt.Errorf("pglobby: release: %w", err)
		}
		return nil
	})
}

// sweep drops claims of servers that are gone, now and then. It may fail.
func (d *Directory) sweep(ctx context.Context) {
	now := time.Now()
	if now.Sub(d.swept) < sweepEvery {
		return
	}
	d.swept = now
	_, _ = d.db.Exec(ctx, `delete from muster_rdv_claim where token in (
		select token from muster_rdv_claim where expires < statement_timestamp() limit $1 for update skip locked)`, sweepLimit)
}

// do runs f with a connection, and drops that if it may be broken.
func (d *Directory) do(ctx context.Context, f func(context.Context) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	err := d.connect(ctx)
	if err == nil {
		err = f(ctx)
	}
	if err != nil {
		d.hangUp()
	}
	d.healthMu.Lock()
	defer d.healthMu.Unlock()
	d.health = err
	return err
}

func (d *Directory) connect(ctx context.Context) error {
	if d.closed {
		return ErrClosed
	}
	if d.db != nil && !d.db.IsClosed() {
		return nil
	}
	cfg := d.conn.Copy()
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "muster rdv"
	}
	db, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("pglobby: connect: %w", err)
	}
	d.db = db
	return nil
}

func (d *Directory) hangUp() {
	if d.db == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = d.db.Close(ctx) // it is given up either way
	d.db = nil
}

// Health returns the error of the last call, nil if it succeeded: while it is
// not nil only clients of the same point are matched.
func (d *Directory) Health() error {
	d.healthMu.Lock()
	defer d.healthMu.Unlock()
	return d.health
}

// Close closes the connection. Close the server first: it releases what it has
// claimed. Close may be called several times.
func (d *Directory) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.hangUp()
	return nil
}

var _ rdv.Directory = (*Directory)(nil)
