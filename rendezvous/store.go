package rendezvous

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Errors of a [Store]. Implementations wrap them; a [Point] tells them apart
// with errors.Is. Any other error of Commit means that the store is broken,
// and clients are told E_INTERNAL_ERROR.
var (
	// ErrUnavailable says that the store cannot take changes now and may again
	// later: the disk is full, the database is away, the queue of changes that
	// wait for it is full. Clients are told E_UNAVAILABLE.
	ErrUnavailable = errors.New("rendezvous: store unavailable")

	// ErrClosed is returned by calls after Close, and by calls that Close
	// interrupts.
	ErrClosed = errors.New("rendezvous: closed")
)

// A Realm keeps the registrations of the two protocols apart: a name in one is
// not the same name in the other.
type Realm uint8

// The realms. Their numbers are stored: they are never reused.
const (
	RealmLibp2p Realm = 1 // /rendezvous/1.0.0
	RealmWaku   Realm = 2 // /vac/waku/rendezvous/0.0.1
)

func (r Realm) String() string {
	switch r {
	case RealmLibp2p:
		return "libp2p"
	case RealmWaku:
		return "waku"
	default:
		return "unknown"
	}
}

// A Form says what the bytes of a registration's record are.
type Form uint8

// The forms. Their numbers are stored: they are never reused.
const (
	FormSigned   Form = 1 // a signed envelope, kept and served verbatim
	FormPeerInfo Form = 2 // the unsigned PeerInfo message of older peers
)

// A Key names a registration: a peer has at most one under a name.
type Key struct {
	Realm Realm
	NS    string  // 1 to 256 bytes of UTF-8; NUL bytes are possible
	Peer  peer.ID // the binary multihash, 34 to 64 bytes as a rule; not text
}

// A Registration is what a peer registered under a name.
type Registration struct {
	Key

	// Record is served verbatim; at most 64 KiB, some 200 bytes as a rule.
	// It is never changed once it is in a Registration.
	Record []byte

	// Form says what Record is.
	Form Form

	// Seq is the record's sequence number. All 64 bits are used.
	Seq uint64

	// TTL is the granted lifetime in whole seconds, 1 s to 72 h as a rule.
	TTL time.Duration

	// Expires is the end of the lifetime. A store keeps at least milliseconds
	// of its wall clock; see [Store] on its monotonic clock.
	Expires time.Time

	// Source is the address that the peer came from, an IPv6 address with the
	// last 64 bits zeroed; invalid if it is not known. It is kept so that
	// limits per source hold after a restart.
	Source netip.Addr
}

// A Change is one step of a [Store]'s history.
type Change struct {
	// Pos is the change's place in the history, from 1 on. Zero in a change
	// that is not committed yet.
	Pos uint64

	// Registration is the one that is added, or takes the place of one with
	// the same Key. If Removed is set, only its Key counts, and the
	// registration with that Key is gone if there is one.
	Registration
	Removed bool
}

// Meta is what a store keeps about itself, from its first Open on.
type Meta struct {
	// Epoch names the numbering of positions. Cookies carry it: one from
	// another epoch restarts the listing.
	Epoch uint64

	// Secret authenticates cookies. It is the same for all points that share
	// a store, so that a cookie of one is good at the others.
	Secret [32]byte

	// Sole says that the store has one point only, and Head is the highest
	// position that was ever given out. Both are what Open found, and mean
	// nothing in a proposal. A cookie from beyond Head is of a history that
	// was lost, as when an older copy of the store was put back; of a shared
	// store, another point may know more.
	Sole bool
	Head uint64
}

// A Store remembers registrations across restarts and, if it is shared,
// between points. It is a history of changes, of which only the newest per
// Key need be kept. It is not asked for reads: a [Point] answers those from
// memory, which holds what apply has told it.
//
// # Order
//
// The history has one order, the order of commits, and Pos numbers it. The
// store calls apply for the changes of all points in this order, one call at
// a time, with positions that only grow and may have gaps. So when a change
// is applied, none with a lower position is ever applied after it: a cookie is
// a position, and nothing behind it can have been missed. A position must
// therefore be drawn where the commits are put in order, under the same lock
// and in the same transaction. A number that is drawn before, as from a
// database sequence, is wrong: 105 can be visible while 104 is not yet
// committed.
//
// A position that apply was called with is never used for another change, not
// even when the change was lost by a crash: clients may hold it in a cookie.
// A store that can lose changes (durability none) reserves positions ahead of
// their use, or takes a new epoch when it was not closed in order.
//
// # Time
//
// A store has no clock of its own. It keeps Expires and TTL and hands them
// back as they were. A change of this store's own Commit is applied with the
// very Expires that was passed in, which holds a monotonic clock reading;
// one that was read back has a wall clock time only, and the receiver bounds
// what is left of it by TTL.
//
// # Concurrency
//
// Commit may be called by any number of goroutines at once, and Expire beside
// it; stores are expected to commit in groups. Open is called once, before
// all others.
type Store interface {
	// Open makes the store ready. It calls apply with the kept registrations
	// in order of their positions (removals may be left out, and so may
	// registrations that have expired), then returns, and goes on to call
	// apply with each batch of changes as it is committed, here or by another
	// point, until Close. A shared store calls apply with other points'
	// changes within a second, while it can reach them.
	//
	// proposal is what a new store keeps as its Meta; a store that has one
	// returns it and ignores proposal.
	//
	// apply does not block for long, calls nothing of the store and keeps the
	// Registrations, but not the slice. If ctx ends before all is loaded, Open
	// fails and the store is closed; after Open, ctx means nothing.
	Open(ctx context.Context, proposal Meta, apply func([]Change)) (Meta, error)

	// Commit adds changes to the history, all or none and next to each other,
	// and gives them their positions. It returns nil only after they are as
	// durable as the store promises, and after apply has returned from the
	// call with them: a client that was told OK finds itself.
	//
	// On an error the changes may or may not be committed; if they are, apply
	// is called with them all the same, perhaps later. Commit does not retry
	// beyond ctx, whose deadline is some seconds; it fails early with
	// ErrUnavailable rather than queue without bound.
	//
	// Commit does not change the slice, and does not keep it once it has
	// returned nil. Removing what is not there is not an error.
	Commit(ctx context.Context, changes []Change) error

	// Expire lets the store drop what expired before the given time, a bounded
	// number of rows per call, and reports how many it dropped. It is called
	// every minute or so, more often while it drops many. Changes need not be
	// applied for it: points expire their memory themselves. What a shared
	// store keeps to tell others of a removal may go when the removed
	// registration would have expired.
	Expire(ctx context.Context, before time.Time) (int, error)

	// Close makes what is committed durable and releases the store. apply is
	// not called after it has returned. It may be called more than once.
	Close() error
}

// Memory is a [Store] that remembers nothing: registrations are lost when the
// point stops, and the next one has another epoch. It is for one point.
type Memory struct {
	mu    sync.Mutex // also orders the calls of apply
	pos   uint64
	apply func([]Change)
}

// NewMemory returns a store that keeps nothing but the order of changes.
func NewMemory() *Memory { return &Memory{} }

// Open implements [Store].
func (m *Memory) Open(_ context.Context, proposal Meta, apply func([]Change)) (Meta, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.apply = apply
	return proposal, nil
}

// Commit implements [Store].
func (m *Memory) Commit(_ context.Context, changes []Change) error {
	// One change is what a point commits at a time: it stays on the stack.
	var one [1]Change
	numbered := append(one[:0], changes...)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.apply == nil {
		return ErrClosed
	}
	for i := range numbered {
		m.pos++
		numbered[i].Pos = m.pos
	}
	m.apply(numbered)
	return nil
}

// Expire implements [Store]. There is nothing to drop.
func (m *Memory) Expire(context.Context, time.Time) (int, error) { return 0, nil }

// Close implements [Store].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.apply = nil
	return nil
}
