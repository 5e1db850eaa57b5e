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
	at      time.Time           // the database's clock when it got its place
	here    time.Time           // the local one, a little later
	asked   bool                // the database may have been asked to commit it
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
	t.changes, t.asked = nil, false
	base, err := o.begin(ctx, t)
	if err == nil && base > o.last {
		err = o.followTo(ctx, base) // under the lock: nobody writes meanwhile
	}
	if err == nil {
		t.number(base)
		t.asked = true
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
	// Should this process vanish within the transaction, its lock goes soon.
	b.Queue(fmt.Sprintf("set local idle_in_transaction_session_timeout = %d", o.cfg.Timeout.Milliseconds()))
	b.Queue("update muster_rendezvous set pos = pos + $1 where epoch = $2 returning pos, clock_timestamp()",
		int64(n), int64(o.meta.Epoch))
	results := o.db.SendBatch(ctx, &b)
	var pos int64
	_, err = results.Exec()
	if err == nil {
		_, err = results.Exec()
	}
	if err == nil {
		err = results.QueryRow().Scan(&pos, &t.at)
		t.here = time.Now()
	}
	err = errors.Join(err, results.Close())
	if errors.Is(err, pgx.ErrNoRows) {
		o.fail(errEpoch)
		return 0, errEpoch
	}
	if err != nil {
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

func (t *transaction) last() uint64 { return t.changes[len(t.changes)-1].Pos }

// signWriter leaves a note of how far this store has come, by which it knows,
// should the answer be lost, whether it was committed.
const signWriter = `
	insert into muster_writer (id, pos) values ($1, $2)
	on conflict (id) do update set pos = excluded.pos, at = excluded.at`

// write writes the changes and commits.
func (o *owner) write(ctx context.Context, t *transaction) error {
	up, gone := build(t.changes, t.here)
	var b pgx.Batch
	if len(up.pos) > 0 {
		b.Queue(upsert, up.upsertArgs(t.at)...)
	}
	if len(gone.pos) > 0 {
		b.Queue(remove, gone.removeArgs()...)
	}
	b.Queue(signWriter, o.id, int64(t.last()))
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
	o.last = t.last()
	o.apply(t.changes)
	t.finish(nil)
}

// settle finds out what became of a transaction when the connection broke, and
// commits it again if it was not committed. Those who no longer wait are left
// out then.
func (o *owner) settle(ctx context.Context) error {
	t := o.pending
	if t.asked {
		o.counts.settled.Add(1)
		committed, err := o.committed(ctx, t)
		if err != nil {
			return err
		}
		if committed {
			return o.adopt(ctx, t)
		}
	}
	t.calls = waiting(t.calls)
	if len(t.calls) == 0 {
		o.pending = nil
		return nil
	}
	return o.commit(ctx)
}

// committed reports whether the database holds the transaction. It takes the
// lock that the transaction took: while the old connection's end has not been
// noticed there, it waits.
//
// The number of the database's own transaction would not do: after a crash
// PostgreSQL gives numbers that were not yet on its disk to other transactions.
func (o *owner) committed(ctx context.Context, t *transaction) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Timeout)
	defer cancel()
	var b pgx.Batch
	b.Queue("begin isolation level read committed")
	b.Queue("select from muster_rendezvous for update")
	b.Queue("select coalesce(max(pos), 0) from muster_writer where id = $1", o.id)
	b.Queue("rollback")
	results := o.db.SendBatch(ctx, &b)
	var pos int64
	_, err := results.Exec()
	if err == nil {
		_, err = results.Exec()
	}
	if err == nil {
		err = results.QueryRow().Scan(&pos)
	}
	if err = errors.Join(err, results.Close()); err != nil {
		return false, fmt.Errorf("pgstore: ask for a commit: %w", err)
	}
	return uint64(pos) == t.last(), nil
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
	_, err := o.db.Exec(ctx, dropWriters)
	var tag pgconn.CommandTag
	if err == nil {
		tag, err = o.db.Exec(ctx, dropExpired, ahead, expireDrop)
	}
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
