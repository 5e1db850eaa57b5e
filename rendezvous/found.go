package rendezvous

import (
	"cmp"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// Found is a peer that was found under a name.
type Found struct {
	// AddrInfo is who it is and where, as the peer itself has signed it.
	peer.AddrInfo

	NS    string
	TTL   time.Duration // what is left of its lifetime, as the point says; at most 72 h
	Seq   uint64        // of its record
	Point peer.ID       // who said so

	// Record is the signed envelope, nil if the point sent an unsigned
	// PeerInfo (see [ClientConfig.LegacyPeerInfo]). It must not be changed.
	Record []byte
}

// readFound reads and verifies one record of an answer. Records that prove
// nothing, or are of another namespace than was asked for, are not ok.
func readFound(r *wire.Registration, asked string, legacy bool) (f Found, ok bool) {
	f.NS, f.TTL = r.NS, DefaultTTL
	if f.NS == "" {
		f.NS = asked // Go's forks leave out what was asked for
	}
	if f.NS == "" || asked != "" && f.NS != asked || len(f.NS) > MaxWakuNamespace || !utf8.ValidString(f.NS) {
		return f, false
	}
	if r.HasTTL {
		f.TTL = time.Duration(min(r.TTL, uint64(MaxTTL/time.Second))) * time.Second
	}
	id, rec, err := verifyRecord(r.Record)
	if err != nil {
		return readPeerInfo(f, r, legacy)
	}
	f.ID, f.Seq, f.Record = id, rec.Seq, r.Record
	f.Addrs = addrsOf(id, rec.Addrs)
	return f, true
}

func readPeerInfo(f Found, r *wire.Registration, legacy bool) (Found, bool) {
	if !legacy || len(r.Record) > MaxRecordSize {
		return f, false
	}
	info, err := wire.ParsePeerInfo(r.Record, MaxRecordAddrs)
	if err != nil {
		return f, false
	}
	if f.ID, err = peer.IDFromBytes(info.ID); err != nil {
		return f, false
	}
	f.Addrs = addrsOf(f.ID, info.Addrs)
	return f, true
}

// better reports whether f says more than old of the same peer: a newer
// record, a signed one, a longer life.
func (f *Found) better(old *Found) bool {
	if (f.Record == nil) != (old.Record == nil) {
		return f.Record != nil
	}
	return cmp.Or(cmp.Compare(f.Seq, old.Seq), cmp.Compare(f.TTL, old.TTL)) > 0
}

// seenRecords tells new records from those of earlier pages: some points send
// them again and again, however the cookie goes on.
type seenRecords map[seenRecord]bool

type seenRecord struct {
	id  peer.ID
	ns  string
	seq uint64
}

// fresh returns the new ones among found, in its memory, and remembers them.
func (s seenRecords) fresh(found []Found) []Found {
	out := found[:0]
	for _, f := range found {
		k := seenRecord{f.ID, f.NS, f.Seq}
		if !s[k] {
			s[k] = true
			out = append(out, f)
		}
	}
	return out
}

// Merge returns one of the found per peer and namespace, the best: the highest
// sequence number, then the longest life. The order of first appearance stays.
func Merge(found []Found) []Found {
	type key struct {
		id peer.ID
		ns string
	}
	at := map[key]int{}
	var out []Found
	for _, f := range found {
		k := key{f.ID, f.NS}
		i, ok := at[k]
		if !ok {
			at[k] = len(out)
			out = append(out, f)
		} else if f.better(&out[i]) {
			out[i] = f
		}
	}
	return out
}

// A book remembers what was found, and how far each point has been read. It is
// plain memory.
type book struct {
	names   map[string]map[peer.ID]bookEntry
	n       int
	cookies map[bookKey]bookmark
}

type bookEntry struct {
	Found
	deadline time.Time
}

type bookKey struct {
	point peer.ID
	ns    string
}

type bookmark struct {
	cookie []byte
	since  time.Time // the last full pass
}

// Bounds of a book: strangers fill it.
const (
	maxBookEntries = 1 << 16
	maxBookmarks   = 1 << 12

	// fullPass is how often a namespace is read from its beginning although
	// there is a cookie: nim-libp2p hides its older peers after a restart from
	// whoever has one, rust-libp2p forgets cookies, py-libp2p's are offsets.
	fullPass = 15 * time.Minute
)

func newBook() *book {
	return &book{names: map[string]map[peer.ID]bookEntry{}, cookies: map[bookKey]bookmark{}}
}

// add keeps what was found if it is better than what is known.
func (b *book) add(now time.Time, found []Found) {
	for _, f := range found {
		m := b.names[f.NS]
		old, known := m[f.ID]
		left := old.Found
		left.TTL = max(old.deadline.Sub(now), 0)
		if known && left.TTL > 0 && !f.better(&left) {
			continue
		}
		if !known && b.n >= maxBookEntries {
			b.makeRoom(now)
		}
		if m == nil {
			m = map[peer.ID]bookEntry{}
		}
		b.names[f.NS] = m // makeRoom may have dropped it
		if _, known = m[f.ID]; !known {
			b.n++
		}
		m[f.ID] = bookEntry{Found: f, deadline: now.Add(f.TTL)}
	}
}

// makeRoom drops what has expired, and a few more if that is not enough.
func (b *book) makeRoom(now time.Time) {
	for ns := range b.names {
		b.drop(ns, func(e bookEntry) bool { return !e.deadline.After(now) })
	}
	const enough = maxBookEntries - maxBookEntries/16
	for ns := range b.names {
		b.drop(ns, func(bookEntry) bool { return b.n > enough })
	}
}

func (b *book) drop(ns string, which func(bookEntry) bool) {
	m := b.names[ns]
	for id, e := range m {
		if which(e) {
			delete(m, id)
			b.n--
		}
	}
	if len(m) == 0 {
		delete(b.names, ns)
	}
}

// live returns what is known and has not expired, the longest-lived first.
// With an empty ns it is of all namespaces.
func (b *book) live(now time.Time, ns string) (out []Found) {
	collect := func(m map[peer.ID]bookEntry) {
		for _, e := range m {
			if e.deadline.After(now) {
				f := e.Found
				f.TTL = e.deadline.Sub(now)
				out = append(out, f)
			}
		}
	}
	if ns != "" {
		collect(b.names[ns])
	} else {
		for _, m := range b.names {
			collect(m)
		}
	}
	slices.SortFunc(out, func(x, y Found) int {
		return cmp.Or(cmp.Compare(y.TTL, x.TTL), cmp.Compare(x.ID, y.ID))
	})
	return out
}

// forget drops a peer from a namespace.
func (b *book) forget(ns string, id peer.ID) {
	b.drop(ns, func(e bookEntry) bool { return e.ID == id })
}

// cookie returns the saved cookie for a point and namespace, or nil if there
// is none or it is time for a full pass.
func (b *book) cookie(now time.Time, point peer.ID, ns string) []byte {
	m := b.cookies[bookKey{point, ns}]
	if now.Sub(m.since) >= fullPass {
		return nil
	}
	return m.cookie
}

// save keeps a cookie. full says that it came of a listing from the beginning.
func (b *book) save(now time.Time, point peer.ID, ns string, cookie []byte, full bool) {
	k := bookKey{point, ns}
	m, known := b.cookies[k]
	if !known && len(b.cookies) >= maxBookmarks {
		for other := range b.cookies { // any one: it costs a full pass
			delete(b.cookies, other)
			break
		}
	}
	if !known || full {
		m.since = now
	}
	m.cookie = cookie
	b.cookies[k] = m
}

// unsave forgets the cookies of a point: what it counted on may be gone.
func (b *book) unsave(point peer.ID) {
	for k := range b.cookies {
		if k.point == point {
			delete(b.cookies, k)
		}
	}
}

// changes returns what happened between seen and now, and makes seen be now.
func changes(seen map[peer.ID]Found, now []Found) (out []Event) {
	live := make(map[peer.ID]bool, len(now))
	for _, f := range now {
		live[f.ID] = true
		old, known := seen[f.ID]
		seen[f.ID] = f
		switch {
		case !known:
			out = append(out, Event{Kind: Joined, Found: f})
		case !slices.EqualFunc(old.Addrs, f.Addrs, func(a, b ma.Multiaddr) bool { return a.Equal(b) }):
			out = append(out, Event{Kind: Updated, Found: f})
		}
	}
	for id, f := range seen {
		if !live[id] {
			delete(seen, id)
			out = append(out, Event{Kind: Left, Found: f})
		}
	}
	return out
}
