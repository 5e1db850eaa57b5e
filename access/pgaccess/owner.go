package pgaccess

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/muster-p2p/muster/access"
	"github.com/muster-p2p/muster/internal/pgmigrate"
)

//go:embed migrations/*.sql
var migrations embed.FS

// overlap is how far behind the last look the next begins: a transaction that
// began earlier may have been committed later. None lasts longer.
const overlap = time.Minute

// owner is the one goroutine that holds the connection.
type owner struct {
	*Store
	db      *pgx.Conn // nil while the database is away
	version int64     // of the tokens that are known
	looked  time.Time // at the usage, by the clock of the database; zero is never

	batch   int64            // number of the last batch that was made
	sending map[string]int64 // what that has, until it is known to be added
}

func (o *owner) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Timeout)
	defer cancel()
	if err := o.dial(ctx); err != nil {
		return err
	}
	if err := pgmigrate.Run(ctx, o.db, migrations, "muster_access_migration", migrationLock); err != nil {
		return fmt.Errorf("pgaccess: make tables: %w", err)
	}
	if _, err := o.db.Exec(ctx, dropPoints, pointLife); err != nil {
		return fmt.Errorf("pgaccess: %w", err)
	}
	if err := o.listen(ctx); err != nil {
		return err
	}
	return o.sync(ctx)
}

// What points that crashed have left is dropped when nobody can be waiting for
// what became of a batch.
const (
	dropPoints = `delete from muster_access_point where changed < statement_timestamp() - $1::interval`
	pointLife  = 30 * 24 * time.Hour
)

func (o *owner) connect(ctx context.Context) error {
	if o.db != nil && !o.db.IsClosed() {
		return nil
	}
	err := o.dial(ctx)
	if err == nil {
		err = o.listen(ctx)
	}
	if err != nil {
		o.note(err)
	}
	return err
}

func (o *owner) dial(ctx context.Context) error {
	cfg := o.conn.Copy()
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "muster access"
	}
	db, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("pgaccess: connect: %w", err)
	}
	o.db = db
	return nil
}

// listen has the database tell of changes. Before what is known is read: what
// changes from now on is told.
func (o *owner) listen(ctx context.Context) error {
	if _, err := o.db.Exec(ctx, "listen "+channel); err != nil {
		return fmt.Errorf("pgaccess: listen: %w", err)
	}
	return nil
}

func (o *owner) hangUp() {
	if o.db == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = o.db.Close(ctx) // it is given up either way
	o.db = nil
}

// run follows the others, adds, and does what callers want, until Close.
func (o *owner) run() {
	defer close(o.ran)
	defer o.hangUp()
	defer o.last()
	pause := time.Duration(0)
	for o.ctx.Err() == nil {
		job := o.wait(pause)
		if job != nil {
			job(o)
			continue
		}
		if o.ctx.Err() != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(o.ctx), o.cfg.Timeout)
		err := o.connect(ctx)
		if err == nil {
			err = o.sync(ctx)
		}
		cancel()
		if err == nil {
			pause = 0
			continue
		}
		o.hangUp()
		// Half of the pause is chance: points that lost the database together
		// do not come back together.
		limit := min(max(2*pause, minPause), maxPause)
		pause = limit/2 + rand.N(limit/2)
	}
}

// wait returns a caller's job, or nil when it is time to look: after a
// notification, after Interval, or after the pause if the database is away.
func (o *owner) wait(pause time.Duration) (job func(*owner)) {
	away := o.db == nil || o.db.IsClosed()
	limit := o.cfg.Interval
	if away {
		limit = pause
	}
	ctx, cancel := context.WithTimeout(o.ctx, limit)
	defer cancel()
	if away {
		select {
		case job = <-o.jobs:
		case <-ctx.Done():
		}
		return job
	}
	got := make(chan func(*owner), 1)
	go func() {
		defer close(got)
		select {
		case job := <-o.jobs:
			got <- job
			cancel()
		case <-ctx.Done():
		}
	}()
	// Whoever has notified is told as well, and looks in vain.
	err := o.db.PgConn().WaitForNotification(ctx)
	cancel()
	job = <-got
	if err != nil && !pgconn.Timeout(err) && ctx.Err() == nil {
		o.hangUp()
	}
	return job
}

// last adds what is left.
func (o *owner) last() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if o.db == nil || o.db.IsClosed() {
		return
	}
	_ = o.sync(ctx) // lost, as in a crash
	_, _ = o.db.Exec(ctx, "delete from muster_access_point where id = $1", o.point)
}

const (
	// addUsage adds a batch, unless it is there: then the connection broke
	// after it was committed.
	addUsage = `
		with news as (
			insert into muster_access_point as p (id, batch) values ($1, $2)
			on conflict (id) do update set batch = excluded.batch, changed = statement_timestamp() where p.batch < excluded.batch returning 1
		)
		insert into muster_access_usage as u (id, bytes)
		select t.id, t.bytes from unnest($3::text[], $4::bigint[]) as t (id, bytes) where exists (select from news) order by t.id
		on conflict (id) do update set bytes = u.bytes + excluded.bytes, changed = statement_timestamp()`

	selectUsage = `select id, bytes from muster_access_usage where changed >= $1`
	selectState = `select version, statement_timestamp() from muster_access`
)

// sync adds what was relayed here, and reads what is new: in one round trip, and
// one more if tokens have changed.
func (o *owner) sync(ctx context.Context) error {
	err := o.exchange(ctx)
	o.note(err)
	return err
}

// note keeps why the database is away, or with nil that it is there.
func (o *owner) note(err error) {
	o.mu.Lock()
	was := o.away
	o.away = err
	o.mu.Unlock()
	switch {
	case err != nil && was == nil:
		o.log.Error("access: database away, tokens are those of before", "err", err)
	case err == nil && was != nil:
		o.log.Info("access: database back")
	}
}

func (o *owner) exchange(ctx context.Context) error {
	if o.sending == nil {
		if o.sending = o.usage.TakePending(); len(o.sending) > 0 {
			o.batch++
		}
	}
	send := &pgx.Batch{}
	if len(o.sending) > 0 {
		ids, bytes := make([]string, 0, len(o.sending)), make([]int64, 0, len(o.sending))
		for id, n := range o.sending {
			ids, bytes = append(ids, id), append(bytes, n)
		}
		send.Queue(addUsage, o.point, o.batch, ids, bytes)
	}
	totals := map[string]int64{}
	since := time.Unix(0, 0)
	if !o.looked.IsZero() {
		since = o.looked.Add(-overlap)
	}
	send.Queue(selectUsage, since).Query(func(rows pgx.Rows) error {
		var id string
		var n int64
		_, err := pgx.ForEachRow(rows, []any{&id, &n}, func() error { totals[id] = n; return nil })
		return err
	})
	var version int64
	var looked time.Time
	send.Queue(selectState).QueryRow(func(row pgx.Row) error { return row.Scan(&version, &looked) })
	if err := o.db.SendBatch(ctx, send).Close(); err != nil {
		return fmt.Errorf("pgaccess: %w", err)
	}
	o.sending = nil
	o.usage.Merge(totals)
	if version != o.version {
		if err := o.load(ctx, version); err != nil {
			return err
		}
	}
	o.looked = looked
	return nil
}

// load reads all tokens. They are at least those of the version.
func (o *owner) load(ctx context.Context, version int64) error {
	rows, err := o.db.Query(ctx, "select id, left(token, $1), revoked from muster_access_token", access.MaxTokenSize+1)
	if err != nil {
		return fmt.Errorf("pgaccess: %w", err)
	}
	var kept []access.KeptToken
	var k access.KeptToken
	var text string
	_, err = pgx.ForEachRow(rows, []any{&k.ID, &text, &k.Revoked}, func() error {
		k.JSON = []byte(text)
		kept = append(kept, k)
		return nil
	})
	if err != nil {
		return fmt.Errorf("pgaccess: read tokens: %w", err)
	}
	set := access.ReadTokens(kept)
	if err := set.Health(); err != nil && !slices.Equal(set.Damaged(), o.set.Load().Damaged()) {
		o.log.Error("tokens are damaged and left out: revoke them", "ids", set.Damaged(), "err", err)
	}
	o.set.Store(set)
	o.version = version
	return nil
}

// errFull is returned where there are too many tokens.
var errFull = fmt.Errorf("pgaccess: there are %d tokens already", access.MaxTokens)

// change runs f under the lock of the tokens, and tells the points.
func (o *owner) change(ctx context.Context, f func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, o.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "update muster_access set version = version + 1"); err != nil {
			return fmt.Errorf("pgaccess: %w", err)
		}
		if err := f(tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "select pg_notify($1, '')", channel)
		return err
	})
}

func (o *owner) issue(ctx context.Context, k access.KeptToken) error {
	return o.change(ctx, func(tx pgx.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, "select count(*) from muster_access_token where not revoked").Scan(&n); err != nil {
			return fmt.Errorf("pgaccess: issue: %w", err)
		}
		if n >= access.MaxTokens {
			return errFull
		}
		if _, err := tx.Exec(ctx, "insert into muster_access_token (id, token) values ($1, $2)", k.ID, string(k.JSON)); err != nil {
			return fmt.Errorf("pgaccess: issue: %w", err)
		}
		return nil
	})
}

func (o *owner) revoke(ctx context.Context, id string) error {
	return o.change(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "update muster_access_token set revoked = true, token = '', changed = statement_timestamp() where id = $1 and not revoked", id)
		if err != nil {
			return fmt.Errorf("pgaccess: revoke: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("%w: %s", access.ErrNoToken, id)
		}
		return nil
	})
}

// take imports. A token that was revoked here stays so; one that was revoked
// there is.
func (o *owner) take(ctx context.Context, kept []access.KeptToken, used func(string) int64) (taken int, err error) {
	err = o.change(ctx, func(tx pgx.Tx) error {
		changed := int64(0)
		for _, k := range kept {
			text := string(k.JSON)
			if k.Revoked {
				text = ""
			}
			tag, err := tx.Exec(ctx, `insert into muster_access_token as t (id, token, revoked) values ($1, $2, $3)
				on conflict (id) do update set revoked = true, token = '' where excluded.revoked and not t.revoked`, k.ID, text, k.Revoked)
			if err != nil {
				return fmt.Errorf("pgaccess: import: %w", err)
			}
			changed += tag.RowsAffected()
			if tag.RowsAffected() == 0 || k.Revoked {
				continue
			}
			taken++
			if _, err := tx.Exec(ctx, "insert into muster_access_usage (id, bytes) values ($1, $2) on conflict do nothing", k.ID, used(k.ID)); err != nil {
				return fmt.Errorf("pgaccess: import: %w", err)
			}
		}
		if changed == 0 {
			return errNothing
		}
		return nil
	})
	if errors.Is(err, errNothing) {
		err = nil
	}
	return taken, err
}

// errNothing ends an import that changes nothing, so that nobody is told.
var errNothing = errors.New("pgaccess: nothing to import")
