package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/muster-p2p/muster/internal/groupcommit"
	"github.com/muster-p2p/muster/rendezvous"
)

// A transaction is a group of callers whose changes are committed together.
type transaction struct {
	calls   []*groupcommit.Call[work]
	changes []rendezvous.Change // numbered; none before the transaction has its place
	xid     string              // the database's number for it, once it has its place
}

func (t *transaction) finish(err error) {
	for _, c := range t.calls {
		c.Finish(err)
	}
}

// errLost says that the connection broke, or was given up, at a point where the
// transaction is certain not to be committed.
var errLost = errors.New("pgstore: connection lost")

// commit commits the pending transaction and applies it. An error means that
// the connection is lost and the transaction is still pending.
func (o *owner) commit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Timeout)
	defer cancel()
	t := o.pending
	t.changes, t.xid = nil, ""
	base, err := o.begin(ctx, t)
	if err == nil && base > o.last {
		err = o.followTo(ctx, base) // under the lock: nobody writes meanwhile
	}
	if err == nil {
		t.number(base)
		err = o.write(ctx, t)
	}
	switch {
	case err == nil:
		o.succeed(t)
		return nil
	case o.db.IsClosed():
		return err
	}
	// The database refused, and the connection stands.
	o.pending = nil
	t.finish(fmt.Errorf("pgstore: commit: %w", refusal(err)))
	if _, err := o.db.Exec(ctx, "rollback"); err != nil {
		return err
	}
	return nil
}

// begin begins a transaction and gives it its place in the history: behind the
// position it returns. From here to the commit all other points wait.
func (o *owner) begin(ctx context.Context, t *transaction) (base uint64, err error) {
	n := 0
	for _, c := range t.calls {
		n += len(c.Value.changes)
	}
	var b pgx.Batch
	b.Queue("begin isolation level read committed")
	b.Queue("update muster_rendezvous set pos = pos + $1 where epoch = $2 returning pos, pg_current_xact_id()::text",
		int64(n), int64(o.meta.Epoch))
	results := o.db.SendBatch(ctx, &b)
	var pos int64
	_, err = results.Exec()
	if err == nil {
		err = results.QueryRow().Scan(&pos, &t.xid)
	}
	err = errors.Join(err, results.Close())
	if errors.Is(err, pgx.ErrNoRows) {
		o.fail(errEpoch)
		return 0, errEpoch
	}
	if err != nil {
		t.xid = "" // it has not been asked to commit
		return 0, err
	}
	base = uint64(pos) - uint64(n)
	if base < o.last {
		return 0, o.wentBack(ctx, base)
	}
	return base, nil
}

// errEpoch is the answer when the history is not the one that was loaded.
var errEpoch = errors.New("pgstore: the database holds another history than the one that was loaded (restored from a backup?): restart")

// wentBack begins a new epoch: the history has lost changes that were applied,
// and clients hold cookies behind its end.
func (o *owner) wentBack(ctx context.Context, base uint64) error {
	o.log.Error("rendezvous store: the history ends before what was applied", "database", base, "applied", o.last)
	var b pgx.Batch
	b.Queue("rollback")
	b.Queue("update muster_rendezvous set epoch = $1 where epoch = $2", int64(rand.Uint64()), int64(o.meta.Epoch))
	if err := o.db.SendBatch(ctx, &b).Close(); err != nil {
		return err
	}
	o.fail(errEpoch)
	return errEpoch
}

// number gives the changes their positions.
func (t *transaction) number(base uint64) {
	for _, c := range t.calls {
		for i := range c.Value.changes {
			base++
			change := c.Value.changes[i]
			change.Pos = base
			t.changes = append(t.changes, change)
		}
	}
}

// write writes the changes and commits.
func (o *owner) write(ctx context.Context, t *transaction) error {
	up, gone := build(t.changes, time.Now())
	var b pgx.Batch
	if len(up.pos) > 0 {
		b.Queue(upsert, up.upsertArgs()...)
	}
	if len(gone.pos) > 0 {
		b.Queue(remove, gone.removeArgs()...)
	}
	b.Queue("select pg_notify($1, '')", channel)
	b.Queue("commit")
	results := o.db.SendBatch(ctx, &b)
	for range b.Len() - 1 {
		if _, err := results.Exec(); err != nil {
			return errors.Join(err, results.Close())
		}
	}
	tag, err := results.Exec()
	if err == nil && tag.String() != "COMMIT" {
		err = fmt.Errorf("pgstore: commit answered %s", tag)
	}
	return errors.Join(err, results.Close())
}

// succeed applies a transaction that is committed and answers its callers.
func (o *owner) succeed(t *transaction) {
	o.pending = nil
	o.counts.commits.Add(1)
	o.counts.changes.Add(uint64(len(t.changes)))
	o.last = t.changes[len(t.changes)-1].Pos
	o.apply(t.changes)
	t.finish(nil)
}

// settle finds out what became of a transaction when the connection broke, and
// commits it again if it was not committed. Those who no longer wait are left
// out then.
func (o *owner) settle(ctx context.Context) error {
	t := o.pending
	status := "aborted"
	if t.xid != "" {
		o.counts.settled.Add(1)
		var err error
		if status, err = o.status(ctx, t.xid); err != nil {
			return err
		}
	}
	switch status {
	case "committed":
		return o.adopt(ctx, t)
	case "aborted":
		t.xid = ""
		t.calls = waiting(t.calls)
		if len(t.calls) == 0 {
			o.pending = nil
			return nil
		}
		return o.commit(ctx)
	default: // in progress: the old connection's end has not been noticed there
		timer := time.NewTimer(minPause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-o.queue.Closing():
		}
		return nil
	}
}

// unknownXID is the SQLSTATE (invalid_parameter_value) of asking for a
// transaction that the database has not begun yet.
const unknownXID = "22023"

// status asks what became of a transaction.
func (o *owner) status(ctx context.Context, xid string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Timeout)
	defer cancel()
	var status *string
	err := o.db.QueryRow(ctx, "select pg_xact_status($1::text::xid8)", xid).Scan(&status)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == unknownXID {
		return "aborted", nil // a replica took over that had not heard of it
	}
	if err != nil {
		return "", err
	}
	if status == nil { // hundreds of millions of transactions came in between
		return "aborted", nil
	}
	return *status, nil
}

// adopt applies a transaction that turned out to be committed: first what was
// there before it.
func (o *owner) adopt(ctx context.Context, t *transaction) error {
	if base := t.changes[0].Pos - 1; base > o.last {
		if err := o.followTo(ctx, base); err != nil {
			return err
		}
	}
	o.succeed(t)
	return nil
}

// waiting returns the calls whose callers still wait. The others are answered,
// though nobody hears it.
func waiting(calls []*groupcommit.Call[work]) []*groupcommit.Call[work] {
	kept := calls[:0]
	for _, c := range calls {
		if c.Left() {
			c.Finish(errLost)
			continue
		}
		kept = append(kept, c)
	}
	return kept
}

// drop serves a call of Expire. An error means that the connection is lost.
func (o *owner) drop(ctx context.Context, c *groupcommit.Call[work]) error {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Timeout)
	defer cancel()
	ahead := time.Until(c.Value.before).Milliseconds()
	tag, err := o.db.Exec(ctx, dropExpired, ahead, expireDrop)
	if err != nil {
		c.Finish(fmt.Errorf("pgstore: expire: %w", errors.Join(rendezvous.ErrUnavailable, err)))
		if o.db.IsClosed() {
			return err
		}
		return nil
	}
	*c.Value.dropped = int(tag.RowsAffected())
	c.Finish(nil)
	return nil
}
