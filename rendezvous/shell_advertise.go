package rendezvous

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

// An advertiser keeps one name registered.
type advertiser struct {
	ns     string
	ttl    time.Duration
	stop   context.CancelFunc
	wake   chan struct{} // the plan has changed
	unbind func() bool   // from the context of the last Advertise

	turn chan struct{} // holds a token while somebody registers

	// Guarded by Discovery.mu.
	plan   *advert
	record []byte // what was registered last
}

// Advertise registers this host under ns at all points and keeps it registered
// until ctx ends: it refreshes in time, and registers again when the host's
// addresses change or a point is new. Calling it again before the returned time is over
// costs nothing. It succeeds if one point has taken the registration.
//
// The returned duration is positive, also beside an error: when to call again.
// The option discovery.TTL asks for a lifetime.
func (d *Discovery) Advertise(ctx context.Context, ns string, opts ...discovery.Option) (time.Duration, error) {
	var o discovery.Options
	if err := o.Apply(opts...); err != nil {
		return firstRetry, err
	}
	if err := d.client.checkNS(ns); err != nil {
		return lastRetry, err
	}
	if err := ctx.Err(); err != nil {
		return firstRetry, err
	}
	a, err := d.advertiser(ctx, ns, o.Ttl)
	if err != nil {
		return firstRetry, err
	}
	both, cancel := d.bound(ctx)
	defer cancel()
	d.refresh(both, a)
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return d.outcome(a)
}

// outcome says how an advertiser stands after a turn, whoever's that was.
func (d *Discovery) outcome(a *advertiser) (time.Duration, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if until := a.plan.until(now); !until.IsZero() {
		return max(until.Sub(now)*3/4, time.Second), nil
	}
	if len(a.plan.points) == 0 {
		return firstRetry, ErrNoPoints
	}
	errs := a.plan.failures()
	if len(errs) == 0 {
		errs = append(errs, errors.New("rendezvous: no point has taken the registration yet"))
	}
	return max(a.plan.next().Sub(now), time.Second), errors.Join(errs...)
}

// advertiser returns the one for ns, started if need be, and ties it to ctx.
func (d *Discovery) advertiser(ctx context.Context, ns string, ttl time.Duration) (*advertiser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, ErrClosed
	}
	a := d.adverts[ns]
	if a == nil || a.ttl != ttl {
		if a != nil {
			a.stop()
		}
		a = &advertiser{ns: ns, ttl: ttl, plan: newAdvert(), wake: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
		var loop context.Context
		loop, a.stop = context.WithCancel(d.ctx)
		d.adverts[ns] = a
		d.wg.Go(func() { d.advertiseLoop(loop, a) })
	} else {
		a.unbind()
	}
	a.unbind = context.AfterFunc(ctx, func() { d.cancelled(a) })
	return a, nil
}

// cancelled ends an advertiser whose caller has lost interest.
func (d *Discovery) cancelled(a *advertiser) {
	a.stop()
	d.mu.Lock()
	last := d.adverts[a.ns] == a
	if last {
		delete(d.adverts, a.ns)
	}
	d.mu.Unlock()
	if last && d.cfg.UnregisterOnCancel {
		d.start(func() { d.leave(a.ns) })
	}
}

// leave unregisters ns, unless it is advertised again by now.
func (d *Discovery) leave(ns string) {
	ctx, cancel := context.WithTimeout(d.ctx, d.client.cfg.Timeout)
	defer cancel()
	d.mu.Lock()
	again := d.adverts[ns] != nil
	d.mu.Unlock()
	if again {
		return
	}
	if err := d.Unsubscribe(ctx, ns); err != nil {
		d.cfg.Logger.Debug("unregister", "err", err)
	}
}

// advertiseLoop refreshes until ctx ends.
func (d *Discovery) advertiseLoop(ctx context.Context, a *advertiser) {
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.adverts[a.ns] == a {
			delete(d.adverts, a.ns)
		}
		if a.unbind != nil {
			a.unbind()
		}
	}()
	events, closeEvents := d.addressEvents()
	defer closeEvents()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(d.untilTurn(a))
		select {
		case <-ctx.Done():
			return
		case <-events:
			d.addressesChanged(a)
		case <-a.wake:
			continue
		case <-timer.C:
		}
		d.refresh(ctx, a)
	}
}

// addressesChanged makes a register again if its record is another one now.
func (d *Discovery) addressesChanged(a *advertiser) {
	rec, err := d.client.ownRecord(a.ns, specForm)
	if err != nil {
		return // no address at the moment: the old ones may come back
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !bytes.Equal(rec, a.record) {
		a.plan.changed(time.Now())
	}
}

// lookAround bounds how long a new point waits to be noticed.
const lookAround = 30 * time.Second

func (d *Discovery) untilTurn(a *advertiser) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := a.plan.next()
	if at.IsZero() {
		return firstRetry
	}
	return min(max(time.Until(at), 0), lookAround)
}

// addressEvents returns a channel that says when the host's addresses change.
func (d *Discovery) addressEvents() (<-chan any, func()) {
	sub, err := d.host.EventBus().Subscribe(new(event.EvtLocalAddressesUpdated), eventbus.BufSize(4))
	if err != nil {
		d.cfg.Logger.Warn("address changes are not noticed", "err", err)
		return nil, func() {}
	}
	return sub.Out(), func() { _ = sub.Close() }
}

// refresh registers wherever it is time to.
func (d *Discovery) refresh(ctx context.Context, a *advertiser) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return
	}
	points := d.points()
	if d.cfg.Point != nil {
		points = append(points, d.host.ID())
	}
	rec, _ := d.client.ownRecord(a.ns, specForm)
	d.mu.Lock()
	due := a.plan.due(time.Now(), points)
	if len(due) > 0 {
		a.record = rec
	}
	d.mu.Unlock()
	if len(due) == 0 {
		return
	}
	results := d.registerAt(ctx, due, a.ns, a.ttl)
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for _, r := range results {
		a.plan.done(now, r.Point, r.TTL, r.Err, d.rng)
		if r.Err != nil {
			d.cfg.Logger.Debug("register", "point", r.Point, "err", r.Err)
		}
	}
}
