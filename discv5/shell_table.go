package discv5

import (
	"errors"
	"net/netip"
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
)

// UpdateRecord changes the local record: f gets a copy of its content to
// edit. The record gets a higher number if f has changed anything, and nodes
// in the table are told of it in the seconds that follow. The error is
// enr.ErrTooLarge if the record would not fit; then it stays as it was.
func (n *Node) UpdateRecord(f func(*enr.Content)) (*enr.Record, error) {
	n.recordMu.Lock()
	defer n.recordMu.Unlock()
	old := n.LocalRecord()
	content := old.Content()
	f(&content)
	before := old.Content()
	if content.SameEntries(&before) {
		return old, nil
	}
	content.Seq = enr.NextSeq(old.Seq(), time.Now())
	local, err := content.Sign(n.cfg.Key)
	if err != nil {
		return nil, err
	}
	if err := n.db.saveSeq(local.Seq()); err != nil {
		return nil, err
	}
	out := n.outbox()
	n.mu.Lock()
	n.core.replaceLocal(time.Now(), local, out)
	n.mu.Unlock()
	n.done(out)
	return local, nil
}

// AddNode offers a record to the table and reports whether its node is in
// there now. It is not relayed to others before it has answered.
func (n *Node) AddNode(r *enr.Record) bool {
	return n.offer([]*enr.Record{r}) == 1
}

// AddText is AddNode with a record in its text form.
func (n *Node) AddText(text string) error {
	r, err := enr.ParseText(text)
	if err != nil {
		return err
	}
	if !n.AddNode(r) {
		return errors.New("discv5: no place for this node in the table")
	}
	return nil
}

// SeedTable offers the bootnodes to the table and returns how many of them
// are in there. The node does so itself at the start, and when few are left.
func (n *Node) SeedTable() int { return n.offer(n.cfg.Bootnodes) }

// offer puts records into the table, where there is room.
func (n *Node) offer(records []*enr.Record) (in int) {
	if len(records) == 0 {
		return 0
	}
	out := n.outbox()
	now := time.Now()
	n.mu.Lock()
	n.core.out = out
	for _, r := range records {
		if e, _ := n.core.table.add(now, r); e != nil {
			in++
		}
	}
	n.core.checkSoon(now)
	n.mu.Unlock()
	n.done(out)
	return in
}

// A TableEntry describes a node in the table.
type TableEntry struct {
	Record   *enr.Record
	Addr     netip.AddrPort // where it is reached
	Distance int
	Alive    bool      // it has answered there
	Added    time.Time // into the table
	Seen     time.Time // last answer, zero if none
	Checks   int       // answers in all
}

// Table lists the nodes in the table, the nearest buckets first.
func (n *Node) Table() []TableEntry {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]TableEntry, 0, n.core.table.n)
	n.core.table.all(func(e *entry) {
		out = append(out, TableEntry{
			Record: e.record, Addr: e.addr, Distance: enr.LogDistance(n.id, e.id()),
			Alive: e.live, Added: e.added, Seen: e.seen, Checks: int(e.checks),
		})
	})
	return out
}

// Neighbours returns up to k nodes of the table nearest to id, nearest first;
// with seenOnly only those that have answered.
func (n *Node) Neighbours(id enr.ID, k int, seenOnly bool) []*enr.Record {
	n.mu.Lock()
	defer n.mu.Unlock()
	return recordsOf(n.core.table.closest(id, max(k, 0), seenOnly))
}

// NeighboursAtDistances returns up to k nodes of the table at exactly these
// distances from this node; with seenOnly only those that have answered.
func (n *Node) NeighboursAtDistances(distances []int, k int, seenOnly bool) []*enr.Record {
	ds := make([]uint16, 0, len(distances))
	for _, d := range distances {
		if d >= 0 && d <= wire.MaxDistance {
			ds = append(ds, uint16(d))
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return recordsOf(n.core.table.atDistances(nil, ds, max(k, 0), func(e *entry) bool { return e.live || !seenOnly }))
}

// RandomNodes returns up to limit nodes of the table that pred accepts, in
// random order. A nil pred accepts all. pred must not call the node.
func (n *Node) RandomNodes(limit int, pred func(*enr.Record) bool) []*enr.Record {
	n.mu.Lock()
	all := recordsOf(n.core.table.random(n.core.table.n, func(*entry) bool { return true }))
	n.mu.Unlock()
	var out []*enr.Record
	for _, r := range all {
		if len(out) >= limit {
			break
		}
		if pred == nil || pred(r) {
			out = append(out, r)
		}
	}
	return out
}

func recordsOf(l []*entry) []*enr.Record {
	out := make([]*enr.Record, len(l))
	for i, e := range l {
		out[i] = e.record
	}
	return out
}

// Stats returns what the node has counted.
func (n *Node) Stats() Stats {
	n.mu.Lock()
	s := n.core.snapshot()
	n.mu.Unlock()
	s.PacketsOut, s.BytesOut = n.packetsOut.Load(), n.bytesOut.Load()
	s.PacketsUnsent, s.HandshakesDropped = n.unsent.Load(), n.dropped.Load()
	s.NodesRefusedUnrelayable = n.unrelayable.Load()
	s.EventsDropped = n.subs.dropped.Load()
	return s
}
