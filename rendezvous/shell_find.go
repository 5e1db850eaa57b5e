package rendezvous

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/peer"
)

// A round asks all points about one namespace. Callers that want the same at
// the same time share it.
type round struct {
	done chan struct{} // closed at the end

	mu    sync.Mutex // guards what follows
	news  chan struct{}
	found []Found
	errs  []error
	asked int
}

type roundKey struct {
	ns    string
	limit int
}

// add takes what a point said and wakes those who wait.
func (r *round) add(found []Found, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if err != nil {
		r.errs = append(r.errs, err)
	}
	r.found = append(r.found, found...)
	close(r.news)
	r.news = make(chan struct{})
}

// since returns what was found after the first n, and a channel that is closed
// when there is more.
func (r *round) since(n int) ([]Found, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.found[n:], r.news
}

// err is what to report if nobody answered.
func (r *round) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked == 0 {
		return ErrNoPoints
	}
	if len(r.errs) < r.asked {
		return nil
	}
	return errors.Join(r.errs...)
}

// maxFind bounds what a round reads of a namespace: what a book holds.
const maxFind = maxBookEntries

// round returns a running round, or nil if the Discovery is closed. With lazy
// set it returns nil too if the last one is recent and found somebody.
func (d *Discovery) round(ns string, limit int, lazy bool) *round {
	if limit <= 0 || limit > maxFind {
		limit = maxFind
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	k := roundKey{ns, limit}
	if r := d.rounds[k]; r != nil {
		return r
	}
	if d.closed || lazy && time.Since(d.last[ns]) < d.cfg.Interval {
		return nil
	}
	r := &round{done: make(chan struct{}), news: make(chan struct{})}
	d.rounds[k] = r
	d.wg.Go(func() { d.run(k, r) })
	return r
}

// run asks all points. Callers may leave earlier; each point has its timeout.
func (d *Discovery) run(k roundKey, r *round) {
	defer close(r.done)
	d.each(d.ctx, d.points(), func(p peer.ID) { r.add(d.readPoint(p, k.ns, k.limit)) })
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.rounds, k)
	if len(d.last) > maxBookmarks {
		clear(d.last)
	}
	if len(d.book.live(time.Now(), k.ns)) > 0 {
		d.last[k.ns] = time.Now()
	}
}

// readTimeouts is how many times the timeout of a request the reading of all
// of a point's pages may take: a point that drips holds nobody up for long.
const readTimeouts = 3

// readPoint reads from where the last reading of the point ended, to the end,
// to limit records, or until its time is up, and puts into the book what it
// finds.
func (d *Discovery) readPoint(point peer.ID, ns string, limit int) (found []Found, err error) {
	ctx, cancel := context.WithTimeout(d.ctx, readTimeouts*d.client.cfg.Timeout)
	defer cancel()
	d.mu.Lock()
	cookie := d.book.cookie(time.Now(), point, ns)
	d.mu.Unlock()
	full := cookie == nil
	q := Query{Limit: limit, Cookie: cookie}
	cookie, err = d.client.Pages(ctx, point, ns, q, func(page Page) error {
		full = full || page.Restarted
		found = append(found, d.notSelf(page.Records)...)
		return nil
	})
	if ctx.Err() != nil && len(found) > 0 {
		err = nil // the next reading goes on there
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.book.add(now, found)
	if err != nil {
		d.book.unsave(point) // it may have lost what the cookies stand for
		d.cfg.Logger.Debug("discover", "point", point, "err", err)
	} else if cookie != nil {
		d.book.save(now, point, ns, cookie, full)
	}
	return found, err
}

func (d *Discovery) notSelf(found []Found) []Found {
	out := found[:0]
	for _, f := range found {
		if f.ID != d.host.ID() {
			out = append(out, f)
		}
	}
	return out
}

// known returns what is known of ns: in the book, and at the own point.
func (d *Discovery) known(ns string) []Found {
	d.mu.Lock()
	found := d.book.live(time.Now(), ns)
	d.mu.Unlock()
	if d.cfg.Point != nil {
		found = Merge(append(found, d.notSelf(d.cfg.Point.Local(d.realm(), ns, maxFind))...))
	}
	return found
}

// RequestLocally returns the peers under ns, or under any name if ns is empty,
// that are known without asking: found earlier and not run out, or registered
// at this host's own point.
func (d *Discovery) RequestLocally(ns string) []Found { return d.known(ns) }

// Request asks all points at once and returns up to limit peers under ns, or
// under any name if ns is empty; zero is no limit. Each peer and namespace
// comes once, with its best record. Points are read on from where the last
// reading ended, and peers known from earlier readings are among the answer.
// It returns an error only if no point answered and nobody is known.
func (d *Discovery) Request(ctx context.Context, ns string, limit int) ([]Found, error) {
	if ns != "" {
		if err := d.client.checkNS(ns); err != nil {
			return nil, err
		}
	}
	var err error
	if r := d.round(ns, limit, false); r != nil {
		select {
		case <-r.done:
			err = r.err()
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	found := d.known(ns)
	if limit > 0 && len(found) > limit {
		found = found[:limit]
	}
	if len(found) > 0 {
		err = nil
	}
	return found, err
}

// FindPeers sends the peers under ns: those that are known at once, others as
// points answer. The channel is closed when all points have answered, when
// ctx ends, or after as many peers as the option discovery.Limit says; it must
// be read until then, or ctx ended. Points that fail are passed over.
func (d *Discovery) FindPeers(ctx context.Context, ns string, opts ...discovery.Option) (<-chan peer.AddrInfo, error) {
	var o discovery.Options
	if err := o.Apply(opts...); err != nil {
		return nil, err
	}
	if err := d.client.checkNS(ns); err != nil {
		return nil, err
	}
	ctx, cancel := d.bound(ctx)
	ch := make(chan peer.AddrInfo)
	ok := d.start(func() {
		defer cancel()
		defer close(ch)
		d.find(ctx, ns, o.Limit, ch)
	})
	if !ok {
		cancel()
		close(ch)
	}
	return ch, nil
}

func (d *Discovery) find(ctx context.Context, ns string, limit int, ch chan<- peer.AddrInfo) {
	sent := map[peer.ID]bool{}
	send := func(found []Found) bool {
		for _, f := range found {
			if sent[f.ID] {
				continue
			}
			select {
			case ch <- f.AddrInfo:
				sent[f.ID] = true
			case <-ctx.Done():
				return false
			}
			if limit > 0 && len(sent) >= limit {
				return false
			}
		}
		return true
	}
	r := d.round(ns, limit, true)
	if !send(d.known(ns)) || r == nil {
		return
	}
	n := 0
	for {
		found, more := r.since(n)
		n += len(found)
		if !send(found) {
			return
		}
		select {
		case <-more:
			continue
		case <-r.done:
		case <-ctx.Done():
			return
		}
		if found, _ = r.since(n); len(found) == 0 {
			return
		}
	}
}
