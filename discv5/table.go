package discv5

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/muster-p2p/muster/enr"
)

const (
	// bucketSize is k: "The Node Discovery Protocol uses k = 16".
	bucketSize = 16
	// bucketSpares is how many wait for a place in a full bucket.
	bucketSpares = 10
	// tableBuckets is how many buckets there are. "Neighbors of very low
	// distance are unlikely to occur in practice. Implementations may omit
	// buckets for low distances": the first bucket holds all below 241, where
	// a network of 65,000 nodes expects one.
	tableBuckets = 17
	lowDistance  = 256 - tableBuckets + 1 // the largest distance in the first bucket

	// maxFails is after how many pings in a row without an answer a node that
	// has been alive leaves the table, and newFails a newcomer; any packet
	// may be lost.
	maxFails = 3
	newFails = 2

	// recheckEvery is how long a node that has not been seen alive, or did
	// not answer last time, is left alone after a ping.
	recheckEvery = 3 * time.Second

	// maxLost is how many nodes that were alive and fell silent are
	// remembered, for lostLife after their last answer, to be tried again:
	// what looked like their death may have been a partition.
	maxLost  = 16
	lostLife = time.Hour
)

// An entry is a node in the table.
type entry struct {
	record  *enr.Record
	addr    netip.AddrPort // where we reach it
	added   time.Time
	seen    time.Time // last answer from addr, zero if never
	pinged  time.Time
	checks  uint32 // answers in all
	fails   uint8  // pings in a row without an answer
	live    bool   // it has answered at addr
	pinging bool
	wanted  uint64 // the newest record number that was asked for
	due     bool   // check it soon
}

func (e *entry) id() enr.ID { return e.record.ID() }

type bucket struct {
	entries   []*entry // least recently seen first
	spares    []*entry // newest last
	refreshed time.Time
}

// A table holds the nodes we know of, by distance. It is one bucket for each
// distance, not a tree that splits: FINDNODE asks for exact distances, which
// are then a look at one bucket (docs/adr/0031).
//
// https://github.com/ethereum/devp2p/blob/master/discv5/discv5-theory.md#node-table
type table struct {
	self      enr.ID
	fam       families
	perBucket int // nodes of one network, negative for no limit
	perTable  int
	buckets   [tableBuckets]bucket
	subnets   map[netip.Addr]int
	n         int      // entries, without spares
	unchecked int      // entries with due set
	lost      []*entry // were alive and left; the last to leave is last
	rnd       *rand.Rand
	limited   uint64             // nodes refused for their network's number
	onMember  func(*entry, bool) // told of who comes and goes
	onLive    func(*entry)       // told when a node is first seen alive
}

func newTable(self enr.ID, fam families, perBucket, perTable int, rnd *rand.Rand) *table {
	return &table{
		self: self, fam: fam, perBucket: perBucket, perTable: perTable,
		subnets: make(map[netip.Addr]int), rnd: rnd,
		onMember: func(*entry, bool) {}, onLive: func(*entry) {},
	}
}

func (t *table) bucketOf(id enr.ID) *bucket {
	d := enr.LogDistance(t.self, id)
	return &t.buckets[max(d-lowDistance, 0)]
}

// get returns the entry of id, not one of the spares.
func (t *table) get(id enr.ID) *entry {
	for _, e := range t.bucketOf(id).entries {
		if e.id() == id {
			return e
		}
	}
	return nil
}

// record returns the newest record we have of id, among the spares too.
func (t *table) record(id enr.ID) *enr.Record {
	b := t.bucketOf(id)
	for _, l := range [...][]*entry{b.entries, b.spares} {
		for _, e := range l {
			if e.id() == id {
				return e.record
			}
		}
	}
	return nil
}

// add puts the node that r describes into the table, as a spare if its bucket
// is full, or takes r as the newer record of a node that is there. It returns
// the entry if the node is in the table now.
func (t *table) add(now time.Time, r *enr.Record) (e *entry, added bool) {
	if r.ID() == t.self {
		return nil, false
	}
	addr, ok := t.fam.endpointOf(r)
	if !ok {
		return nil, false
	}
	b := t.bucketOf(r.ID())
	if e := find(b.entries, r.ID()); e != nil {
		t.update(b, e, r, addr)
		return e, false
	}
	if s := find(b.spares, r.ID()); s != nil {
		if r.Seq() <= s.record.Seq() {
			return nil, false
		}
		t.dropSpare(b, s) // and come back below, perhaps at another address
	}
	if !t.room(b, addr.Addr()) {
		t.limited++
		return nil, false
	}
	e = &entry{record: r, addr: addr, added: now}
	t.count(addr.Addr(), 1)
	if len(b.entries) >= bucketSize {
		if len(b.spares) >= bucketSpares {
			t.dropSpare(b, b.spares[0])
		}
		b.spares = append(b.spares, e)
		return nil, false
	}
	t.enter(b, e)
	return e, true
}

func find(l []*entry, id enr.ID) *entry {
	for _, e := range l {
		if e.id() == id {
			return e
		}
	}
	return nil
}

// enter makes e a member of b.
func (t *table) enter(b *bucket, e *entry) {
	b.entries = append(b.entries, e)
	t.n++
	t.setDue(e, true)
	t.onMember(e, true)
}

// update takes r as e's record if it is newer. A node at a new endpoint is
// one that has not been seen alive.
func (t *table) update(b *bucket, e *entry, r *enr.Record, addr netip.AddrPort) {
	if r.Seq() <= e.record.Seq() {
		return
	}
	if addr == e.addr {
		e.record = r
		return
	}
	t.onMember(e, false)
	t.count(e.addr.Addr(), -1)
	old := e.addr
	e.addr = netip.AddrPort{} // not in its own way
	if !t.room(b, addr.Addr()) {
		t.limited++
		e.addr = old
		t.count(old.Addr(), 1)
		t.onMember(e, true)
		t.remove(e)
		return
	}
	// It has one chance there: a record may name a victim's address.
	e.record, e.addr, e.live, e.fails, e.checks = r, addr, false, newFails-1, 0
	e.pinging, e.pinged = false, time.Time{}
	t.count(addr.Addr(), 1)
	t.setDue(e, true)
	t.onMember(e, true)
}

// room reports whether one more node of a's network may come: "limiting
// Kademlia table buckets to two nodes from every /24 IP subnetwork and the
// whole table to 10 nodes per /24 IP subnetwork significantly increases the
// number of hosts an attacker must control". Spares count as well, and
// addresses that are free for all to use on their own networks do not.
// https://github.com/ethereum/devp2p/blob/master/discv5/discv5-rationale.md#sybil-and-eclipse-attacks
func (t *table) room(b *bucket, a netip.Addr) bool {
	if spaceOf(a) != spacePublic {
		return true
	}
	net := subnetOf(a)
	if t.perTable >= 0 && t.subnets[net] >= t.perTable {
		return false
	}
	if t.perBucket < 0 {
		return true
	}
	n := 0
	for _, l := range [...][]*entry{b.entries, b.spares} {
		for _, e := range l {
			if e.addr.IsValid() && subnetOf(e.addr.Addr()) == net {
				n++
			}
		}
	}
	return n < t.perBucket
}

func (t *table) count(a netip.Addr, by int) {
	if spaceOf(a) != spacePublic {
		return
	}
	net := subnetOf(a)
	if t.subnets[net] += by; t.subnets[net] <= 0 {
		delete(t.subnets, net)
	}
}

func (t *table) dropSpare(b *bucket, e *entry) {
	t.count(e.addr.Addr(), -1)
	b.spares = slices.DeleteFunc(b.spares, func(o *entry) bool { return o == e })
}

// seen records that e has answered at its address, which makes it the most
// recently seen of its bucket. Only the answer to a PING makes it alive, for
// others to be told of: "tracking whether the node has ever successfully
// responded to a PING request".
func (t *table) seen(now time.Time, e *entry, pong bool) {
	e.seen, e.fails = now, 0
	e.checks++
	if pong {
		e.pinging = false
		t.setDue(e, false)
	}
	b := t.bucketOf(e.id())
	if i := slices.Index(b.entries, e); i >= 0 && i < len(b.entries)-1 {
		copy(b.entries[i:], b.entries[i+1:])
		b.entries[len(b.entries)-1] = e
	}
	if pong && !e.live {
		e.live = true
		t.onLive(e)
	}
}

// failed records that e did not answer. After some failures in a row it
// leaves the table.
func (t *table) failed(e *entry) (removed bool) {
	e.pinging = false
	e.fails++
	if e.fails < newFails || e.live && e.fails < maxFails {
		t.setDue(e, true)
		return false
	}
	t.remove(e)
	if e.live {
		if len(t.lost) == maxLost {
			t.lost = slices.Delete(t.lost, 0, 1)
		}
		t.lost = append(t.lost, e)
	}
	return true
}

// recall returns the nodes that were lost within the hour and are not back.
func (t *table) recall(now time.Time) []*entry {
	t.lost = slices.DeleteFunc(t.lost, func(e *entry) bool {
		return now.Sub(e.seen) > lostLife || t.get(e.id()) != nil
	})
	return t.lost
}

// unanswered records that e did not answer and that it may not be its fault.
func (t *table) unanswered(e *entry) { e.pinging = false }

// remove takes e out and the newest of the spares in.
func (t *table) remove(e *entry) {
	b := t.bucketOf(e.id())
	i := slices.Index(b.entries, e)
	if i < 0 {
		return
	}
	b.entries = slices.Delete(b.entries, i, i+1)
	t.n--
	t.setDue(e, false)
	t.count(e.addr.Addr(), -1)
	t.onMember(e, false)
	if n := len(b.spares); n > 0 {
		s := b.spares[n-1]
		b.spares = b.spares[:n-1]
		t.enter(b, s)
	}
}

func (t *table) setDue(e *entry, due bool) {
	if e.due == due {
		return
	}
	e.due = due
	if due {
		t.unchecked++
	} else {
		t.unchecked--
	}
}
