package pgstore

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/muster-p2p/muster/internal/pgmigrate"
	"github.com/muster-p2p/muster/rendezvous"
)

// migrations are run in the order of their names, each once, and never edited
// after a release.
//
//go:embed migrations/*.sql
var migrations embed.FS

// migrationLock is the advisory lock under which points bring the tables up to
// date, so that those that start together do not collide. "muster" in ASCII.
const migrationLock = 0x6d7573746572

// channel is where points are told that there is something to follow.
const channel = "muster_rendezvous"

// open connects for the first time and reads everything.
func (o *owner) open(ctx context.Context, proposal rendezvous.Meta) (rendezvous.Meta, error) {
	if err := o.dial(ctx); err != nil {
		return o.meta, err
	}
	if err := o.migrate(ctx); err != nil {
		return o.meta, fmt.Errorf("pgstore: make tables: %w", err)
	}
	if err := o.identify(ctx, proposal); err != nil {
		return o.meta, fmt.Errorf("pgstore: read identity: %w", err)
	}
	// Listening first: what is written from now on is told.
	if err := o.listen(ctx); err != nil {
		return o.meta, err
	}
	if err := o.load(ctx); err != nil {
		return o.meta, fmt.Errorf("pgstore: read registrations: %w", err)
	}
	return o.meta, nil
}

// connect connects again.
func (o *owner) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Timeout)
	defer cancel()
	if err := o.dial(ctx); err != nil {
		return err
	}
	return o.listen(ctx)
}

func (o *owner) dial(ctx context.Context) error {
	cfg := o.conn.Copy()
	cfg.OnNotification = o.notified
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "muster"
	}
	db, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("pgstore: connect: %w", err)
	}
	o.db = db
	return nil
}

// notified is called while the connection is read, by whoever reads it, which
// is the owner.
func (o *owner) notified(_ *pgconn.PgConn, n *pgconn.Notification) {
	o.told = o.told || o.db != nil && n.PID != o.db.PgConn().PID()
}

func (o *owner) listen(ctx context.Context) error {
	if _, err := o.db.Exec(ctx, "listen "+channel); err != nil {
		return fmt.Errorf("pgstore: listen: %w", err)
	}
	return nil
}

// migrate runs the migrations that have not been run.
func (o *owner) migrate(ctx context.Context) error {
	return pgmigrate.Run(ctx, o.db, migrations, "muster_migration", migrationLock)
}

// identify reads who the store is, or writes the proposal if it is new. Of
// points that start together one wins.
func (o *owner) identify(ctx context.Context, proposal rendezvous.Meta) error {
	_, err := o.db.Exec(ctx, "insert into muster_rendezvous (epoch, secret) values ($1, $2) on conflict do nothing",
		int64(proposal.Epoch), proposal.Secret[:])
	if err != nil {
		return err
	}
	var epoch int64
	var secret []byte
	if err := o.db.QueryRow(ctx, "select epoch, secret from muster_rendezvous").Scan(&epoch, &secret); err != nil {
		return err
	}
	if len(secret) != len(o.meta.Secret) {
		return errors.New("the secret is not of 32 bytes")
	}
	o.meta.Epoch = uint64(epoch)
	copy(o.meta.Secret[:], secret)
	return nil
}

// selectChanges reads changes behind a position, in order. One that has
// expired is a removal: it may replace one that has not.
const selectChanges = `
	select realm, ns, peer, pos, removed or expires <= statement_timestamp(), form, seq, ttl_ms,
	       (extract(epoch from expires - statement_timestamp()) * 1000)::bigint, source, record
	from muster_registration where pos > $1 and pos <= $2 order by pos`

// maxPos is the last position that fits the column.
const maxPos = 1<<63 - 1

// load applies what is kept. A statement sees a moment of the database, and
// since positions are in the order of commits, a moment has all up to its last.
func (o *owner) load(ctx context.Context) error {
	asked := time.Now()
	rows, err := o.db.Query(ctx, selectChanges, int64(0), int64(maxPos))
	if err != nil {
		return err
	}
	return o.applyRows(rows, asked, false)
}

// follow applies what others have committed.
func (o *owner) follow(ctx context.Context) error { return o.followTo(ctx, maxPos) }

// followTo applies what has been committed up to a position. If the time is up
// before the end, what was read is applied, and the next call goes on there.
func (o *owner) followTo(ctx context.Context, to uint64) error {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Timeout)
	defer cancel()
	asked := time.Now()
	rows, err := o.db.Query(ctx, selectChanges, int64(o.last), int64(to))
	if err != nil {
		return err
	}
	before := o.last
	err = o.applyRows(rows, asked, true)
	o.counts.followed.Add(o.last - before)
	return err
}
