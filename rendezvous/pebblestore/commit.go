package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/muster-p2p/muster/internal/groupcommit"
	"github.com/muster-p2p/muster/rendezvous"
)

// work is what one caller wants committed: changes, or rows dropped.
type work struct {
	changes []rendezvous.Change
	drop    []doomed
	dropped *int // how many of drop were still what they had been
}

// doomed is a row that had expired when it was looked at.
type doomed struct {
	key []byte
	pos uint64
}

// run owns the history: positions, the database's writes, and apply. It ends
// when the queue is closed.
func (s *Store) run() {
	limit := groupLimit
	if s.cfg.Durability == Sync {
		limit = 1
	}
	w := writer{Store: s}
	gatherer := groupcommit.NewGatherer(s.queue, gatherLimit)
	var group []*groupcommit.Call[work]
	for {
		group = gatherer.Next(group[:0], limit)
		if len(group) == 0 {
			break
		}
		start, callers := time.Now(), len(group)
		w.commit(group)
		gatherer.Observe(callers, time.Since(start))
	}
	s.queue.Done()
	close(s.ran)
}

// writer holds what run uses again from group to group.
type writer struct {
	*Store
	batch    *pebble.Batch
	changes  []rendezvous.Change
	key, row []byte

	looked         time.Time // at the space on the disk
	spare, written uint64    // what there was, above the reserve, and what was written since
}

// commit commits a group, applies it and answers its callers. If the disk
// fails it does not return.
func (w *writer) commit(group []*groupcommit.Call[work]) {
	group = w.admit(group)
	if len(group) == 0 {
		return
	}
	next, err := w.build(group)
	if err == nil {
		opt := pebble.Sync
		if w.cfg.Durability == None {
			opt = pebble.NoSync
		}
		w.written += uint64(w.batch.Len())
		err = w.batch.Commit(opt)
	}
	if closeErr := w.batch.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		w.cursor = next
		w.counts.commits.Add(1)
		w.counts.changes.Add(uint64(len(w.changes)))
		if len(w.changes) > 0 {
			w.apply(w.changes)
		}
	} else {
		err = fmt.Errorf("pebblestore: commit: %w", err)
	}
	for _, c := range group {
		c.Finish(err)
	}
	clear(w.changes) // the records are not ours
	w.changes = w.changes[:0]
}

// admit refuses changes while the disk is full. Drops may use the reserve:
// they free space.
func (w *writer) admit(group []*groupcommit.Call[work]) []*groupcommit.Call[work] {
	err := w.look()
	if full := err != nil; w.full.Swap(full) != full {
		if full {
			w.log.Error("rendezvous store: disk full, changes are refused", "dir", w.cfg.Dir, "err", err)
		} else {
			w.log.Info("rendezvous store: disk has space again, changes are taken", "dir", w.cfg.Dir)
		}
	}
	if err == nil {
		return group
	}
	admitted := group[:0]
	for _, c := range group {
		if len(c.Value.changes) == 0 {
			admitted = append(admitted, c)
			continue
		}
		w.counts.refusedDisk.Add(1)
		c.Finish(err)
	}
	return admitted
}

// lookInterval and a quarter of the space there was are how long, and for how
// many bytes, the disk is not asked again: asking costs a tenth of a commit.
const lookInterval = 100 * time.Millisecond

// look is room, or what it said moments ago.
func (w *writer) look() error {
	if w.fs.waiting.Load() > 0 {
		return errWaiting
	}
	now := time.Now()
	if w.written < w.spare/4 && now.Sub(w.looked) < lookInterval {
		return nil
	}
	w.counts.held.Store(w.db.Metrics().DiskSpaceUsage())
	var err error
	w.spare, err = w.room()
	w.looked, w.written = now, 0
	return err
}

// build fills w.batch and w.changes and returns where the history then stands.
func (w *writer) build(group []*groupcommit.Call[work]) (cursor, error) {
	w.batch = w.db.NewBatch()
	now := time.Now()
	next := cursor{pos: w.cursor.pos, time: w.clock.at(now), wall: now.UnixMilli()}
	// Drops first: they are of rows as they were before this group.
	for _, c := range group {
		if err := w.buildDrops(&c.Value); err != nil {
			return next, err
		}
	}
	for _, c := range group {
		for i := range c.Value.changes {
			next.pos++
			change := c.Value.changes[i]
			change.Pos = next.pos
			if err := w.buildChange(&change); err != nil {
				return next, err
			}
			w.changes = append(w.changes, change)
		}
	}
	w.row = next.append(w.row[:0])
	return next, w.batch.Set(cursorKey, w.row, nil)
}

func (w *writer) buildChange(c *rendezvous.Change) error {
	w.key = appendRowKey(w.key[:0], c.Key)
	if c.Removed {
		return w.batch.Delete(w.key, nil)
	}
	w.row = appendRow(w.row[:0], c, w.clock.at(c.Expires))
	return w.batch.Set(w.key, w.row, nil)
}

// buildDrops deletes the doomed rows that nobody has written since.
func (w *writer) buildDrops(v *work) error {
	for _, d := range v.drop {
		value, closer, err := w.db.Get(d.key)
		if errors.Is(err, pebble.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		pos, _, err := parseRowHead(value)
		if err := errors.Join(err, closer.Close()); err != nil {
			return err
		}
		if pos != d.pos {
			continue
		}
		if err := w.batch.Delete(d.key, nil); err != nil {
			return err
		}
		*v.dropped++
	}
	return nil
}

// The bounds of one call of Expire: what it looks at (some 50 ms, beside the
// commits), and what it drops (some 5 ms, within one).
const (
	expireScan = 50_000
	expireDrop = 1_000
)

// Expire implements [rendezvous.Store]. A call looks at a part of the rows and
// the next one goes on where it ended.
func (s *Store) Expire(ctx context.Context, before time.Time) (int, error) {
	s.expire.Lock()
	defer s.expire.Unlock()
	select {
	case <-s.queue.Closing():
		return 0, fmt.Errorf("pebblestore: %w", rendezvous.ErrClosed)
	default:
	}
	drop, err := s.findExpired(ctx, s.clock.at(before))
	if err != nil || len(drop) == 0 {
		return 0, err
	}
	var dropped int
	if err := s.do(ctx, work{drop: drop, dropped: &dropped}); err != nil {
		return 0, err
	}
	s.counts.dropped.Add(uint64(dropped))
	return dropped, nil
}

// findExpired looks at the next rows.
func (s *Store) findExpired(ctx context.Context, before int64) (drop []doomed, err error) {
	from := rowsFrom
	if s.expireAt != nil {
		from = s.expireAt
	}
	it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: from, UpperBound: rowsTo})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	s.expireAt = nil
	scanned := 0
	for ok := it.First(); ok; ok = it.Next() {
		if scanned == expireScan || len(drop) == expireDrop {
			s.expireAt = bytes.Clone(it.Key())
			return drop, nil
		}
		scanned++
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		pos, expires, err := parseRowHead(value)
		if err != nil {
			return nil, err
		}
		if expires < before {
			drop = append(drop, doomed{bytes.Clone(it.Key()), pos})
		}
	}
	return drop, it.Error()
}
