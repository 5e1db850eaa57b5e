package pgstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/muster-p2p/muster/internal/groupcommit"
	"github.com/muster-p2p/muster/rendezvous"
)

// owner is the one goroutine that holds the connection, knows how far the
// history has been applied, and calls apply. All of what others wrote and what
// this store commits passes through it, so the order of positions is the order
// in which it does its work.
type owner struct {
	*Store
	apply   func([]rendezvous.Change)
	meta    rendezvous.Meta
	id      int64     // of this store's note in muster_writer
	db      *pgx.Conn // nil while the database is away
	last    uint64    // the highest position that was applied
	told    bool      // a notification of another point came
	batch   []rendezvous.Change
	pending []*transaction // taken, and neither committed nor given up; the first may be in doubt

	gatherer *groupcommit.Gatherer[work]
}

// run commits, follows and connects again until the queue is closed.
func (o *owner) run(ctx context.Context) {
	defer close(o.ran)
	defer o.queue.Done()
	defer o.hangUp()
	for o.running() {
		if o.db == nil && !o.reconnect(ctx) {
			break
		}
		if err := o.step(ctx); err != nil {
			o.hangUp()
			o.setAway(err)
		}
	}
	for _, t := range o.pending {
		t.finish(o.lastWord())
	}
}

// lastWord is the answer to calls that were taken and cannot be answered.
func (o *owner) lastWord() error {
	if err := o.failed(); err != nil {
		return err
	}
	return rendezvous.ErrClosed
}

func (o *owner) running() bool {
	select {
	case <-o.queue.Closing():
		return false
	default:
		return true
	}
}

// step does one thing: settles what is pending, takes a group, or follows. An
// error means that the connection is lost.
func (o *owner) step(ctx context.Context) error {
	if len(o.pending) > 0 {
		return o.settle(ctx)
	}
	if o.queue.Len() > 0 {
		group := o.gatherer.Take(nil, groupLimit)
		if len(group) == 0 {
			return nil
		}
		start := time.Now()
		err := o.work(ctx, group)
		o.gatherer.Observe(len(group), time.Since(start))
		return err
	}
	if err := o.wait(ctx); err != nil {
		return err
	}
	if o.queue.Len() > 0 && !o.told { // a commit reads what others wrote
		return nil
	}
	o.told = false
	return o.follow(ctx)
}

// wait returns when there is work, when another point has written, or when it
// is time to look.
func (o *owner) wait(ctx context.Context) error {
	if o.told {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, o.cfg.PollInterval)
	defer cancel()
	woken := make(chan struct{})
	go func() {
		defer close(woken)
		o.queue.Wait(ctx)
		cancel()
	}()
	for {
		err := o.db.PgConn().WaitForNotification(ctx)
		if err == nil && !o.told {
			continue // our own
		}
		cancel()
		<-woken
		if err == nil || pgconn.Timeout(err) || ctx.Err() != nil && !o.db.IsClosed() {
			return nil
		}
		return err
	}
}

// work does what a group of callers wants.
func (o *owner) work(ctx context.Context, group []*groupcommit.Call[work]) error {
	var drops []*groupcommit.Call[work]
	size := 0
	for _, c := range group {
		n := len(c.Value.changes)
		switch {
		case n == 0:
			drops = append(drops, c)
			continue
		case len(o.pending) == 0 || size+n > changeLimit:
			o.pending, size = append(o.pending, &transaction{}), 0
		}
		t := o.pending[len(o.pending)-1]
		t.calls = append(t.calls, c)
		size += n
	}
	for len(o.pending) > 0 {
		if err := o.commit(ctx); err != nil {
			refuse(drops)
			return err
		}
	}
	for i, c := range drops {
		if err := o.drop(ctx, c); err != nil {
			refuse(drops[i+1:])
			return err
		}
	}
	return nil
}

// refuse answers calls of Expire, which comes again.
func refuse(calls []*groupcommit.Call[work]) {
	for _, c := range calls {
		c.Finish(rendezvous.ErrUnavailable)
	}
}

// reconnect connects again, with pauses that grow. It returns false when the
// queue is closed.
func (o *owner) reconnect(ctx context.Context) bool {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := o.connect(ctx)
		if err == nil && len(o.pending) == 0 { // else that is settled first: it may be among the others
			err = o.follow(ctx)
		}
		if err == nil {
			o.counts.reconnects.Add(1)
			o.setAway(nil)
			return true
		}
		o.hangUp()
		o.setAway(err)
		// Half of the pause is chance: points that lost the database together
		// do not come back together.
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-timer.C:
		case <-o.queue.Closing():
			timer.Stop()
			return false
		}
		if !o.running() {
			return false
		}
	}
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

// refusal turns an error of the database, over a connection that still stands,
// into one for callers: what may pass is ErrUnavailable.
func refusal(err error) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err
	}
	for _, class := range transient {
		if strings.HasPrefix(pgErr.Code, class) {
			return errors.Join(rendezvous.ErrUnavailable, err)
		}
	}
	return err
}

// transient are SQLSTATEs, or classes of them, that pass by themselves or by an
// operator's hand.
// https://www.postgresql.org/docs/15/errcodes-appendix.html
var transient = []string{
	"25006", // read only: a replica, or about to be none
	"55P03", // lock timeout
	"40",    // rolled back: serialization, deadlock
	"53",    // no space, no memory, too many connections
	"57",    // statement timeout, going down, starting up
	"58",    // an I/O error of the server
}
