package discv5

import (
	"context"
	"iter"
	"net/netip"
	"sync"
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
)

// Lookup finds the nodes nearest to target: up to 16 that have answered,
// nearest first. It ends early with the context's error and what was found
// until then.
func (n *Node) Lookup(ctx context.Context, target enr.ID) ([]*enr.Record, error) {
	l, err := n.lookup(ctx, target)
	return l.result(), err
}

// LookupRandom is a Lookup for a random target.
func (n *Node) LookupRandom(ctx context.Context) ([]*enr.Record, error) {
	return n.Lookup(ctx, n.randomID())
}

// Query is a lookup that returns all nodes it met, whether they answered or
// not, nearest to target first.
func (n *Node) Query(ctx context.Context, target enr.ID) ([]*enr.Record, error) {
	l, err := n.lookup(ctx, target)
	out := make([]*enr.Record, 0, len(l.near))
	for _, c := range l.near {
		out = append(out, c.record)
	}
	return out, err
}

// QueryRandom is a Query for a random target that returns the nodes that pred
// accepts. A nil pred accepts all.
func (n *Node) QueryRandom(ctx context.Context, pred func(*enr.Record) bool) ([]*enr.Record, error) {
	all, err := n.Query(ctx, n.randomID())
	if pred == nil {
		return all, err
	}
	var out []*enr.Record
	for _, r := range all {
		if pred(r) {
			out = append(out, r)
		}
	}
	return out, err
}

// Resolve returns the newest record of the node id that can be had: from that
// node, if it is known and answers, or from a lookup. It is nil with a nil
// error if there is none.
func (n *Node) Resolve(ctx context.Context, id enr.ID) (*enr.Record, error) {
	if id == n.id {
		return n.LocalRecord(), nil
	}
	n.mu.Lock()
	best := n.core.table.record(id)
	n.mu.Unlock()
	if best != nil {
		if own, err := n.FindNode(ctx, best, 0); err == nil && len(own) > 0 {
			n.offer(own[:1])
			return newer(best, own[0]), nil
		}
	}
	l, err := n.lookup(ctx, id)
	for _, c := range l.near {
		if c.record.ID() == id {
			best = newer(best, c.record)
		}
	}
	if best == nil {
		return nil, err
	}
	// The lookup's copies may be old: the node itself knows best.
	if own, err := n.FindNode(ctx, best, 0); err == nil && len(own) > 0 {
		best = newer(best, own[0])
	}
	return best, nil
}

func newer(a, b *enr.Record) *enr.Record {
	if a == nil || b != nil && b.Seq() > a.Seq() {
		return b
	}
	return a
}

const (
	// iteratorMemory is how many nodes an iterator remembers not to return
	// again.
	iteratorMemory = 10_000
	// iteratorPause is how long an iterator waits after a lookup that found
	// nobody new; it doubles up to the refresh interval.
	iteratorPause = time.Second
)

// Nodes goes through the nodes of the network, by one random lookup after the
// other, until ctx ends or the caller breaks. A node comes again only with a
// newer record, or after ten thousand others. It begins with the table.
func (n *Node) Nodes(ctx context.Context) iter.Seq[*enr.Record] {
	return func(yield func(*enr.Record) bool) {
		seen := make(map[enr.ID]uint64)
		found := n.RandomNodes(tableBuckets*bucketSize, nil)
		pause := iteratorPause
		for {
			fresh := 0
			for _, r := range found {
				if seq, ok := seen[r.ID()]; ok && seq >= r.Seq() {
					continue
				}
				if len(seen) >= iteratorMemory {
					clear(seen)
				}
				seen[r.ID()] = r.Seq()
				fresh++
				if !yield(r) {
					return
				}
			}
			if pause = min(2*pause, n.cfg.RefreshInterval); fresh > 0 {
				pause = iteratorPause
			} else if !n.sleep(ctx, pause) {
				return
			}
			var err error
			if found, err = n.QueryRandom(ctx, nil); err != nil {
				return
			}
			// In a small network lookups miss the nodes at unlikely
			// distances, which the upkeep of the table finds.
			found = append(found, n.RandomNodes(tableBuckets*bucketSize, nil)...)
		}
	}
}

// sleep waits and reports whether to go on.
func (n *Node) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-n.ctx.Done():
		return false
	}
}

func (n *Node) randomID() (id enr.ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, _ = n.core.bytes.Read(id[:]) // never fails
	return id
}

// A query is a FINDNODE of a lookup under way.
type query struct {
	candidate *candidate
	addr      netip.AddrPort
}

// lookup runs a lookup: queries go out as the machine says, answers come back
// through one channel. The nodes found are offered to the table.
func (n *Node) lookup(ctx context.Context, target enr.ID) (*lookup, error) {
	l := newLookup(n.id, target, bucketSize)
	for _, r := range n.Neighbours(target, bucketSize, false) {
		l.add(r)
	}
	queries := make(map[*request]query)
	// Room for every query that can be under way.
	// Those still slow at the end run on: their answers are signs of life.
	done := make(chan *request, lookupMaxOpen)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wake := n.sendQueries(l, queries, done)
		if l.done() {
			return l, nil
		}
		if !wake.IsZero() {
			timer.Reset(max(time.Until(wake), 0))
		}
		select {
		case r := <-done:
			q := queries[r]
			delete(queries, r)
			if r.err != nil {
				l.failed(q.candidate)
			} else {
				n.offer(l.answered(q.candidate, n.recordsIn(r.answer, q.candidate.record.ID(), q.addr, r.distances)))
			}
		case <-timer.C:
		case <-ctx.Done():
			return l, ctx.Err()
		case <-n.ctx.Done():
			return l, ErrClosed
		}
	}
}

// sendQueries sends what the lookup wants sent now and returns when to look
// again if nothing comes.
func (n *Node) sendQueries(l *lookup, queries map[*request]query, done chan *request) time.Time {
	for {
		c, wake := l.next(time.Now())
		if c == nil {
			return wake
		}
		addr, err := n.reach(c.record)
		if err != nil {
			l.failed(c)
			continue
		}
		r := &request{kind: wire.KindFindNode, distances: distancesTo(l.target, c.record.ID()), done: done}
		if err := n.start(c.record, addr, r); err != nil {
			l.failed(c)
			continue
		}
		queries[r] = query{c, addr}
	}
}

// maintain fills the table at the start and keeps it filled, and has the
// local record follow the vote of the peers.
func (n *Node) maintain() {
	n.populate()
	for {
		select {
		case <-n.refreshes:
			n.refreshTable()
		case ap := <-n.voted:
			n.follow(ap)
		case <-n.ctx.Done():
			return
		}
	}
}

// populate looks for ourselves, which finds our neighbours, and for somebody
// else. After that those who contact us may come into the table.
func (n *Node) populate() {
	n.askAround()
	for _, target := range [...]enr.ID{n.id, n.randomID()} {
		if len(n.RandomNodes(1, nil)) == 0 {
			break
		}
		if _, err := n.lookup(n.ctx, target); err != nil {
			return
		}
	}
	out := n.outbox()
	n.mu.Lock()
	n.core.populated(time.Now(), out)
	n.mu.Unlock()
	n.done(out)
	n.log.Info("table populated", "nodes", n.Stats().TableNodes)
}

// askAround asks a few nodes of a table that is nearly empty for all they
// know. Lookups ask for the likely distances of many nodes, and in a network
// of ten many of the others are at unlikely ones.
func (n *Node) askAround() {
	if n.Stats().TableNodes >= bucketSize {
		return
	}
	var all []int
	for d := wire.MaxDistance; d >= lowDistance; d-- {
		all = append(all, d)
	}
	var wg sync.WaitGroup
	for _, r := range n.RandomNodes(lookupWidth, nil) {
		wg.Go(func() {
			if found, err := n.FindNode(n.ctx, r, all...); err == nil {
				n.offer(found)
			}
		})
	}
	wg.Wait()
}

// refreshTable looks for ourselves and in the least recently refreshed bucket.
func (n *Node) refreshTable() {
	if n.Stats().TableNodes < bucketSize {
		n.SeedTable()
	}
	n.askAround()
	n.mu.Lock()
	target := n.core.table.refreshTarget(time.Now())
	n.mu.Unlock()
	for _, id := range [...]enr.ID{n.id, target} {
		if _, err := n.lookup(n.ctx, id); err != nil {
			return
		}
	}
	if err := n.saveNodes(); err != nil {
		n.log.Info("nodes not saved", "err", err)
	}
}

// follow puts the endpoint that the peers agree on into the local record.
func (n *Node) follow(ap netip.AddrPort) {
	if static := n.static4 && ap.Addr().Is4() || n.static6 && ap.Addr().Is6(); static {
		return
	}
	r, err := n.UpdateRecord(func(c *enr.Content) { c.SetUDPEndpoint(ap) })
	if err != nil {
		n.log.Info("record not updated", "err", err)
		return
	}
	n.log.Info("record updated by the vote of peers", "endpoint", ap, "seq", r.Seq())
}
