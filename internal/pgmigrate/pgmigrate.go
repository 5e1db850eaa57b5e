// Package pgmigrate brings the tables of one room in a PostgreSQL database up to
// date: numbered SQL files, each run once, in one transaction.
//
// It does not go back: a database that a later muster has migrated is refused.
package pgmigrate

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
)

// A DB begins transactions: a connection or a pool of pgx.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// Run runs those files of migrations/*.sql, in the order of their names, that
// have not been run. Table holds which have: a name of letters and underscores,
// which the caller does not take from anybody. Lock is the key of the advisory
// lock that keeps others who migrate out meanwhile.
func Run(ctx context.Context, db DB, files embed.FS, table string, lock int64) error {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", lock); err != nil {
			return err
		}
		done, err := version(ctx, tx, table)
		if err != nil {
			return err
		}
		if done > len(names) {
			return fmt.Errorf("the tables are of version %d, this muster knows %d: run the later one", done, len(names))
		}
		for i, name := range names[done:] {
			sql, err := files.ReadFile(name)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, string(sql)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if _, err := tx.Exec(ctx, "insert into "+table+" (version) values ($1)", done+i+1); err != nil {
				return err
			}
		}
		return nil
	})
}

// version returns how many migrations have been run.
func version(ctx context.Context, tx pgx.Tx, table string) (done int, err error) {
	// Asked rather than "if not exists", for which the role would need the
	// right to make tables at each start.
	var there bool
	if err := tx.QueryRow(ctx, "select to_regclass($1) is not null", table).Scan(&there); err != nil {
		return 0, err
	}
	if !there {
		_, err := tx.Exec(ctx, "create table "+table+" (version integer primary key, at timestamptz not null default now())")
		return 0, err
	}
	err = tx.QueryRow(ctx, "select coalesce(max(version), 0) from "+table).Scan(&done)
	return done, err
}
