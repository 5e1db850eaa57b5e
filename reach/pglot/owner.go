package pglot

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/internal/pgmigrate"
)

// owner is the one goroutine that holds the connection.
type owner struct {
	*Directory
	db   *pgx.Conn // nil while the database is away
	said time.Time // when the point was last said to run
	anew bool      // what the database has of this point may be wrong
}

// open connects for the first time.
func (o *owner) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Timeout)
	defer cancel()
	if err := o.connect(ctx); err != nil {
		return err
	}
	if err := pgmigrate.Run(ctx, o.db, migrations, "muster_reach_migration", migrationLock); err != nil {
		return fmt.Errorf("pglot: make tables: %w", err)
	}
	if _, err := o.db.Exec(ctx, "delete from muster_reach_point where url = $1", o.cfg.Point); err != nil {
		return fmt.Errorf("pglot: drop an earlier run: %w", err)
	}
	return o.exchange(ctx)
}

func (o *owner) connect(ctx context.Context) error {
	if o.db != nil && !o.db.IsClosed() {
		return nil
	}
	cfg := o.conn.Copy()
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "muster reach"
	}
	db, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("pglot: connect: %w", err)
	}
	o.db = db
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

// run writes and asks until Close.
func (o *owner) run() {
	defer close(o.ran)
	defer o.hangUp()
	defer o.leave()
	defer o.giveUp(ErrClosed)
	refresh := time.NewTicker(o.cfg.Refresh)
	defer refresh.Stop()
	pause := time.Duration(0)
	for {
		select {
		case <-o.wake:
		case <-refresh.C:
		case <-o.ctx.Done():
			return
		}
		err := o.step()
		if err == nil {
			pause = 0
			continue
		}
		o.hangUp()
		o.giveUp(err)
		// Half of the pause is chance: points that lost the database together
		// do not come back together.
		pause = min(max(2*pause, minPause), maxPause)
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
			o.rouse()
		case <-o.ctx.Done():
			return
		}
	}
}

// step does all there is to do.
func (o *owner) step() error {
	for o.ctx.Err() == nil {
		// Close waits for what is under way, so that the connection is still
		// there to say goodbye.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(o.ctx), o.cfg.Timeout)
		err := o.connect(ctx)
		if err == nil {
			err = o.exchange(ctx)
		}
		cancel()
		if err != nil {
			return err
		}
		if !o.more() {
			break
		}
	}
	return nil
}

func (o *owner) more() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.news)+len(o.asked) > 0
}

// giveUp answers who waits with an error, now and until the database is back.
// What the database has of this point is written anew then.
func (o *owner) giveUp(err error) {
	o.anew = true
	o.mu.Lock()
	was := o.away
	o.away = err
	noted, asked := o.noted, o.asked
	o.noted, o.asked = nil, nil
	clear(o.news)
	o.mu.Unlock()
	release(noted)
	answer(asked, nil, err)
	if was == nil && o.ctx.Err() == nil {
		o.log.Error("reach directory: database away, callees at other points cannot be called", "err", err)
	}
}

// there notes that the database has answered. If it has nothing of this point,
// all callees are to be written.
func (o *owner) there(nothing bool) {
	o.mu.Lock()
	was := o.away
	o.away = nil
	if nothing {
		for id := range o.here {
			o.news[id] = true
		}
	}
	o.mu.Unlock()
	if was != nil {
		o.log.Info("reach directory: database back")
	}
}

func release(noted []chan struct{}) {
	for _, c := range noted {
		close(c)
	}
}

func answer(asked []*question, found map[peer.ID][]string, err error) {
	for _, q := range asked {
		q.points, q.err = found[q.callee], err
		close(q.done)
	}
}

// A batch is what is written and asked in one round trip.
type batch struct {
	come, gone [][]byte
	noted      []chan struct{}
	asked      []*question
}

// take takes what waits, up to the limit of a batch. Who waits until its news
// is written, waits for the last of them.
func (o *owner) take() (b batch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id := range o.news {
		if o.here[id] {
			b.come = append(b.come, []byte(id))
		} else {
			b.gone = append(b.gone, []byte(id))
		}
		delete(o.news, id)
		if len(b.come)+len(b.gone) == batchLimit {
			break
		}
	}
	if len(o.news) == 0 {
		b.noted, o.noted = o.noted, nil
	}
	n := min(len(o.asked), batchLimit)
	b.asked, o.asked = o.asked[:n:n], o.asked[n:]
	if len(o.asked) == 0 {
		o.asked = nil // lets the array go
	}
	return b
}

const (
	forget = `delete from muster_reach_point where id = $1`

	// sayHere tells whether the point was forgotten: it is inserted then.
	sayHere = `
		insert into muster_reach_point as p (id, url, expires) values ($1, $2, statement_timestamp() + $3::interval)
		on conflict (id) do update set expires = excluded.expires returning xmax = 0`

	// writeCome and writeGone are in the order of peers, though only this point
	// writes rows of its own.
	writeCome = `
		insert into muster_reach_callee (peer, point) select t.peer, $1 from unnest($2::bytea[]) as t (peer) order by t.peer
		on conflict (peer, point) do update set since = excluded.since`
	writeGone = `delete from muster_reach_callee where point = $1 and peer = any ($2::bytea[])`

	selectPoints = `
		select c.peer, p.url from muster_reach_callee c join muster_reach_point p on p.id = c.point
		where c.peer = any ($2::bytea[]) and c.point <> $1 and p.expires > statement_timestamp() order by c.since desc`

	// sweep drops points that have died. Nobody waits for it.
	sweep = `delete from muster_reach_point where id in (
		select id from muster_reach_point where expires < statement_timestamp() for update skip locked)`
)

// exchange writes and asks one batch.
func (o *owner) exchange(ctx context.Context) error {
	b := o.take()
	send := &pgx.Batch{}
	nothing, say := false, o.anew || len(b.come) > 0 || time.Since(o.said) >= o.cfg.Refresh/2
	if o.anew {
		send.Queue(forget, o.point)
	}
	if say {
		send.Queue(sweep)
		send.Queue(sayHere, o.point, o.cfg.Point, lifetimes*o.cfg.Refresh).QueryRow(func(row pgx.Row) error { return row.Scan(&nothing) })
	}
	if len(b.come) > 0 {
		send.Queue(writeCome, o.point, b.come)
	}
	if len(b.gone) > 0 {
		send.Queue(writeGone, o.point, b.gone)
	}
	found := map[peer.ID][]string{}
	if len(b.asked) > 0 {
		send.Queue(selectPoints, o.point, peersOf(b.asked)).Query(func(rows pgx.Rows) error { return scanPoints(rows, found) })
	}
	if send.Len() > 0 {
		if err := o.db.SendBatch(ctx, send).Close(); err != nil {
			err = fmt.Errorf("pglot: %w", err)
			release(b.noted)
			answer(b.asked, nil, err)
			return err
		}
	}
	if say {
		o.said, o.anew = time.Now(), false
	}
	o.there(nothing)
	release(b.noted)
	answer(b.asked, found, nil)
	return nil
}

func peersOf(asked []*question) [][]byte {
	var ids [][]byte
	for _, q := range asked {
		ids = append(ids, []byte(q.callee))
	}
	return ids
}

func scanPoints(rows pgx.Rows, found map[peer.ID][]string) error {
	var id []byte
	var u string
	_, err := pgx.ForEachRow(rows, []any{&id, &u}, func() error {
		at := found[peer.ID(id)]
		if len(at) < findLimit && !slices.Contains(at, u) {
			found[peer.ID(id)] = append(at, u)
		}
		return nil
	})
	return err
}

// leave has the others forget this point.
func (o *owner) leave() {
	if o.db == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = o.db.Exec(ctx, forget, o.point) // else it ends by itself
}
