package pebblestore

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/muster-p2p/muster/rendezvous"
)

// rows are the registrations in the order of the keys, in chunks so that a
// million of them are not copied while they grow, and where each position is.
type rows struct {
	chunks [][]rendezvous.Change
	order  []place
}

type place struct {
	pos uint64
	row int
}

const chunk = 1 << 12

// readRows reads what has not expired at the store's time now.
func readRows(ctx context.Context, db *pebble.DB, c clock, now int64) (*rows, error) {
	it, err := db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: rowsFrom, UpperBound: rowsTo})
	if err != nil {
		return nil, err
	}
	r := &rows{}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		err = r.read(ctx, it, c, now)
	}
	if err = errors.Join(err, it.Close()); err != nil {
		return nil, err
	}
	slices.SortFunc(r.order, func(a, b place) int { return cmp.Compare(a.pos, b.pos) })
	return r, nil
}

func (r *rows) read(ctx context.Context, it *pebble.Iterator, c clock, now int64) error {
	value, err := it.ValueAndErr()
	if err != nil {
		return err
	}
	n := len(r.order)
	if n%chunk == 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if n/chunk == len(r.chunks) {
			r.chunks = append(r.chunks, make([]rendezvous.Change, 0, chunk))
		}
	}
	var change rendezvous.Change
	ns := ""
	if n > 0 {
		ns = r.at(n - 1).NS
	}
	if change.Key, err = parseRowKey(it.Key(), ns); err != nil {
		return err
	}
	expires, err := parseRow(value, &change)
	if err != nil || expires <= now {
		return err
	}
	change.Expires = c.when(expires)
	last := len(r.chunks) - 1
	r.chunks[last] = append(r.chunks[last], change)
	r.order = append(r.order, place{change.Pos, n})
	return nil
}

func (r *rows) at(n int) *rendezvous.Change { return &r.chunks[n/chunk][n%chunk] }

// replay calls apply with the rows in the order of their positions.
func (r *rows) replay(apply func([]rendezvous.Change)) {
	batch := make([]rendezvous.Change, 0, chunk)
	for i, p := range r.order {
		batch = append(batch, *r.at(p.row))
		if len(batch) == chunk || i == len(r.order)-1 {
			apply(batch)
			batch = batch[:0]
		}
	}
}
