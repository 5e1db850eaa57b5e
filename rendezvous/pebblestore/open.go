package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/muster-p2p/muster/rendezvous"
)

// errNewer says that a later version wrote the store. It is not corruption.
var errNewer = errors.New("pebblestore: written by a later version of muster: run that, or give another directory")

// dirs of a store: one directory holds all of it.
//
//	DIR/lock                  held while the store is open
//	DIR/history               says that there is a store, see marker.go
//	DIR/db/                   Pebble's files
//	DIR/corrupt-20261120T…/   what db/ was when it could not be read
const (
	lockName = "lock"
	dbName   = "db"
)

// formatVersion of Pebble's files is pinned: a later Pebble reads it, and a
// muster that is rolled back reads what the later one wrote. From this one on
// a write-ahead log tells a torn end from damage in its middle.
const formatVersion = pebble.FormatTableFormatV6

// The bounds of a memtable. A large one writes few, large tables. Its log is
// freed after its table is written, so on a small disk it is small against the
// reserve.
const (
	maxMemTable = 8 << 20
	minMemTable = 256 << 10
)

// options are sized for rows of 300 bytes. An idle store takes little memory:
// memtables begin at 256 KiB and grow with the load.
func (s *Store) options() *pebble.Options {
	opts := &pebble.Options{
		FS:                 s.fs,
		FormatMajorVersion: formatVersion,
		MemTableSize:       s.memTable(),
		CacheSize:          4 << 20, // rows are read at Open only
		MaxOpenFiles:       256,
		Logger:             pebbleLogger{s},
	}
	opts.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) { s.log.Error("rendezvous store: background error", "err", err) },
		// Whoever reads gets the error too. Without this Pebble ends the process.
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.log.Error("rendezvous store: damaged file", "path", info.Path, "err", info.Details)
		},
	}
	return opts
}

// memTable returns the size of a memtable for the disk there is.
func (s *Store) memTable() uint64 {
	usage, err := s.fs.GetDiskUsage(s.cfg.Dir)
	if err != nil {
		return maxMemTable
	}
	return min(maxMemTable, max(minMemTable, usage.TotalBytes/64))
}

// openAside runs openDB beside its caller: Pebble may wait for space, and ends a
// goroutine whose writes fail. When ctx ends nothing waits for space any more.
func (s *Store) openAside(ctx context.Context, proposal rendezvous.Meta) (loaded, error) {
	type result struct {
		loaded
		err error
	}
	done := make(chan result, 1)
	go func() {
		l, err := s.openDB(ctx, proposal)
		done <- result{l, err}
	}()
	select {
	case r := <-done:
		return r.loaded, r.err
	case <-s.broken:
		return loaded{}, s.failed()
	case <-ctx.Done():
		s.fs.giveUp()
	}
	select {
	case r := <-done:
		return r.loaded, r.err
	case <-s.broken:
		return loaded{}, s.failed()
	}
}

// openDB opens the database under dir, and if it is damaged moves it aside and
// begins an empty one: a registration is soft state that its peer renews, and
// a point that does not start serves nobody.
func (s *Store) openDB(ctx context.Context, proposal rendezvous.Meta) (loaded, error) {
	path := s.fs.PathJoin(s.cfg.Dir, dbName)
	l, err := s.tryDB(ctx, path, proposal)
	if err == nil || !damaged(err) {
		return l, err
	}
	if s.failed() != nil {
		return l, err // what is damaged cannot be told from what was not written
	}
	aside := s.fs.PathJoin(s.cfg.Dir, "corrupt-"+time.Now().UTC().Format("20060102T150405.000"))
	if moveErr := s.moveAside(path, aside); moveErr != nil {
		return loaded{}, fmt.Errorf("pebblestore: %s is damaged (%w) and cannot be moved aside: %w", path, err, moveErr)
	}
	s.log.Error("rendezvous store: damaged, moved aside and begun anew: registrations are lost until peers renew them",
		"dir", path, "moved", aside, "err", err)
	s.setQuarantined(fmt.Sprintf("%s was damaged (%v) and is kept as %s", path, err, aside))
	return s.tryDB(ctx, path, proposal)
}

func (s *Store) moveAside(path, aside string) error {
	if err := s.fs.Rename(path, aside); err != nil {
		return err
	}
	if err := s.fs.Remove(s.fs.PathJoin(s.cfg.Dir, markerName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.syncDir(s.cfg.Dir)
}

// damaged reports whether err says that the files are not what was written, as
// opposed to files that cannot be reached or must not be touched.
func damaged(err error) bool {
	switch {
	case errors.Is(err, errNewer), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, fs.ErrPermission), vfs.IsNoSpaceError(err), isIOError(err):
		return false
	case strings.Contains(err.Error(), "unknown format major version"):
		return false
	default:
		return true
	}
}

// loaded is what is found at Open.
type loaded struct {
	db     *pebble.DB
	id     identity
	cursor cursor
	clock  clock
	rows   *rows
	fresh  bool // there was nothing
}

// tryDB opens the database and reads all of it. Whatever is damaged in it
// shows here, since all blocks that hold live rows are read and have checksums.
func (s *Store) tryDB(ctx context.Context, path string, proposal rendezvous.Meta) (l loaded, err error) {
	defer func() { // Pebble does not promise that damaged files never panic
		if r := recover(); r != nil {
			err = fmt.Errorf("pebblestore: reading %s: %v", path, r)
		}
	}()
	if err := s.makeDir(path); err != nil {
		return l, err
	}
	l.db, err = pebble.Open(path, s.options())
	if err != nil {
		return loaded{}, fmt.Errorf("pebblestore: open %s: %w", path, err)
	}
	err = l.read(ctx, proposal)
	if err == nil {
		err = s.checkMarker(l)
	}
	if err != nil {
		return loaded{}, errors.Join(fmt.Errorf("pebblestore: read %s: %w", path, err), l.db.Close())
	}
	return l, nil
}

// makeDir makes a directory, and those above it that are missing, and syncs the
// entries: Pebble syncs what is in its directory, not that there is one.
func (s *Store) makeDir(path string) error {
	if _, err := s.fs.Stat(path); err == nil {
		return nil
	}
	above := s.fs.PathDir(path)
	if above != path {
		if err := s.makeDir(above); err != nil {
			return err
		}
	}
	if err := s.fs.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("pebblestore: %w", err)
	}
	return s.syncDir(above)
}

func (s *Store) syncDir(path string) error {
	d, err := s.fs.OpenDir(path)
	if err != nil {
		return fmt.Errorf("pebblestore: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// read fills in what the database holds, or writes down who a new one is.
func (l *loaded) read(ctx context.Context, proposal rendezvous.Meta) error {
	now := time.Now()
	id, err := get(l.db, identityKey, parseIdentity)
	if errors.Is(err, pebble.ErrNotFound) {
		l.id, l.clock, l.fresh = identity{Meta: proposal}, begin(now), true
		l.rows = &rows{}
		l.cursor = cursor{time: l.clock.at(now), wall: now.UnixMilli()}
		return l.writeIdentity()
	}
	if err != nil {
		return err
	}
	l.id = id
	if l.cursor, err = get(l.db, cursorKey, parseCursor); err != nil {
		return err
	}
	l.clock = resume(l.cursor, now)
	l.rows, err = readRows(ctx, l.db, l.clock, l.clock.at(now))
	return err
}

func (l *loaded) writeIdentity() error {
	b := l.db.NewBatch()
	defer func() { _ = b.Close() }()
	if err := b.Set(identityKey, l.id.encode(), nil); err != nil {
		return err
	}
	if err := b.Set(cursorKey, l.cursor.append(nil), nil); err != nil {
		return err
	}
	return b.Commit(pebble.Sync)
}

func get[T any](db *pebble.DB, key []byte, parse func([]byte) (T, error)) (T, error) {
	value, closer, err := db.Get(key)
	if err != nil {
		var zero T
		return zero, err
	}
	v, err := parse(value)
	return v, errors.Join(err, closer.Close())
}
