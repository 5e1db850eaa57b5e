package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/muster-p2p/muster/access"
	"github.com/muster-p2p/muster/access/pgaccess"
)

// tokenSearch is how long the database may take at the start.
const tokenSearch = 10 * time.Second

// openTokens opens the issued tokens and what was used of them: those of the
// data directory or, where points share a database, those that are there. Into
// it go the ones of the directory, from before the point had a database.
func (d *daemon) openTokens() (err error) {
	p := d.plan
	dir, err := access.OpenTokens(filepath.Join(p.dataDir, tokensDir), d.log)
	if err != nil {
		return usageError(err, "check the data directory")
	}
	usage, err := access.OpenUsage(filepath.Join(p.dataDir, usageFile))
	if err != nil {
		return usageError(err, "restore the file from a backup, or remove it: quotas begin anew then")
	}
	d.tokens, d.usage = dir, usage
	if kindOfStore(p.store) != "postgres" {
		return mark(filepath.Join(p.dataDir, sharedMark), false)
	}
	ctx, cancel := context.WithTimeout(d.ctx, tokenSearch)
	defer cancel()
	if d.shared, err = pgaccess.Open(ctx, pgaccess.Config{URL: p.store, Logger: d.log}); err != nil {
		return fail(exitLocal, err, "check --store")
	}
	kept, err := dir.Kept()
	if err != nil {
		return fail(exitLocal, err, "")
	}
	taken, err := d.shared.Import(ctx, kept, usage.Bytes)
	if err != nil {
		return fail(exitLocal, err, "check --store")
	}
	if taken > 0 {
		d.log.Info("tokens of the data directory are in the database now", "tokens", taken)
	}
	d.tokens, d.usage = d.shared, d.shared.Usage()
	return mark(filepath.Join(p.dataDir, sharedMark), true)
}

// mark leaves a file for 'muster token', which may not know the daemon's flags,
// or removes it.
func mark(file string, there bool) error {
	var err error
	if there {
		err = access.WriteFile(file, nil)
	} else if err = os.Remove(file); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return fail(exitLocal, err, "")
	}
	return nil
}

// closeTokens keeps what was counted.
func (d *daemon) closeTokens() error {
	if d.shared != nil {
		return d.shared.Close()
	}
	if d.usage == nil {
		return nil
	}
	return d.usage.Save()
}
