package link

import (
	"context"
	"errors"
	"time"

	"github.com/muster-p2p/muster/internal/netwatch"
)

// errMoved is what a path is lost with whose address this machine has no more.
var errMoved = errors.New("link: this machine has another address now")

// A wanderer wants to hear that the network has changed.
type wanderer interface {
	networkChanged(ch netwatch.Change)
}

// enroll has w told of changes of the network until leave is called. The
// network is watched while there is anybody to tell.
func (e *Endpoint) enroll(w wanderer) (leave func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.wanderers[w] = struct{}{}; len(e.wanderers) == 1 && e.ctx.Err() == nil {
		var ctx context.Context
		ctx, e.unwatch = context.WithCancel(e.ctx)
		e.wg.Go(func() { netwatch.Watch(ctx, e.look, e.networkChanged) })
	}
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if delete(e.wanderers, w); len(e.wanderers) == 0 && e.unwatch != nil {
			e.unwatch()
		}
	}
}

// networkChanged tells everybody.
func (e *Endpoint) networkChanged(ch netwatch.Change) {
	e.log.Debug("the network has changed", "slept", ch.Slept, "addrs", len(ch.After.Addrs), "links", ch.After.Links)
	e.metrics.networks.Inc()
	e.mu.Lock()
	all := make([]wanderer, 0, len(e.wanderers))
	for w := range e.wanderers {
		all = append(all, w)
	}
	e.mu.Unlock()
	for _, w := range all {
		w.networkChanged(ch)
	}
}

// networkChanged gives up the paths from addresses that are gone, and has the
// others asked whether they are there.
func (c *Conn) networkChanged(ch netwatch.Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	var gone []*path
	for _, p := range c.paths {
		if ch.Gone(p.local) {
			gone = append(gone, p)
		}
	}
	for _, p := range gone {
		c.lose(p, errMoved)
	}
	if c.err == nil {
		now := time.Now()
		c.tracks.changed(now)
		c.pump(now)
	}
}

// An epoch is the time between two changes of the network. Its context ends
// with it.
type epoch struct {
	context.Context
	end context.CancelFunc
}

func newEpoch() epoch {
	ctx, end := context.WithCancel(context.Background())
	return epoch{ctx, end}
}

// errOtherNetwork is what an attempt ends with that began before the network
// changed.
var errOtherNetwork = errors.New("the network has changed")

// networkChanged has every visit begin anew that has not got further than to
// its server, and every encounter given up that was from an address that is
// gone.
func (a *approach) networkChanged(ch netwatch.Change) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.epoch.end()
	a.epoch = newEpoch()
	for g := range a.gatherings {
		if ch.Gone(g.local) {
			g.cancel()
		}
	}
}

// now returns the present epoch.
func (a *approach) now() epoch {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.epoch
}

// bound returns ctx, to end with the epoch, too.
func (e epoch) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(e, func() { cancel(errOtherNetwork) })
	return ctx, func() {
		stop()
		cancel(context.Canceled)
	}
}
