package rendezvous

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// An Event is a change under a name that is watched.
type Event struct {
	Kind EventKind
	Found
}

// An EventKind says what has happened.
type EventKind uint8

// The kinds of events.
const (
	Joined  EventKind = iota + 1 // a peer that was not there
	Updated                      // its record is another one
	Left                         // its registration has run out
)

func (k EventKind) String() string {
	switch k {
	case Joined:
		return "joined"
	case Updated:
		return "updated"
	case Left:
		return "left"
	default:
		return "unknown"
	}
}

// Watch sends the peers under ns and then what changes, until ctx ends; then
// the channel is closed. Points are polled every Interval, with cookies, so
// that they send only what is new. The protocols do not tell of peers that
// unregister: those leave when their time is over.
func (d *Discovery) Watch(ctx context.Context, ns string) (<-chan Event, error) {
	if err := d.client.checkNS(ns); err != nil {
		return nil, err
	}
	ctx, cancel := d.bound(ctx)
	ch := make(chan Event)
	ok := d.start(func() {
		defer cancel()
		defer close(ch)
		d.watch(ctx, ns, ch)
	})
	if !ok {
		cancel()
		return nil, ErrClosed
	}
	return ch, nil
}

func (d *Discovery) watch(ctx context.Context, ns string, ch chan<- Event) {
	seen := map[peer.ID]Found{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		d.watchRound(ctx, ns, func() {
			for _, e := range changes(seen, d.known(ns)) {
				if ctx.Err() != nil {
					return
				}
				select {
				case ch <- e:
				case <-ctx.Done():
					return
				}
			}
		})
		d.mu.Lock()
		pause := jitter(d.cfg.Interval, d.rng)
		d.mu.Unlock()
		timer.Reset(pause)
	}
}

// watchRound asks all points and calls report whenever one has answered: none
// waits for a slower one.
func (d *Discovery) watchRound(ctx context.Context, ns string, report func()) {
	r := d.round(ns, 0, false)
	if r == nil {
		return
	}
	for {
		_, news := r.since(0)
		report()
		select {
		case <-news:
		case <-r.done:
			report()
			return
		case <-ctx.Done():
			return
		}
	}
}
