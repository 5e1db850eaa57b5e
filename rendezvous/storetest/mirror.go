package storetest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/muster-p2p/muster/rendezvous"
)

// A Mirror is the naive reader behind a store: it keeps what apply tells it
// and holds the store to the contract of apply. Pass its Apply to Open. It is
// safe for concurrent use.
type Mirror struct {
	inside atomic.Int32 // calls of Apply now

	mu     sync.Mutex
	last   uint64
	live   map[rendezvous.Key]rendezvous.Change
	log    []rendezvous.Change // in order of position
	closed bool
	faults []string
	grown  chan struct{} // closed and replaced when the log grows
}

// NewMirror returns an empty mirror.
func NewMirror() *Mirror {
	return &Mirror{live: map[rendezvous.Key]rendezvous.Change{}, grown: make(chan struct{})}
}

// Apply is what a store calls.
func (m *Mirror) Apply(changes []rendezvous.Change) {
	if m.inside.Add(1) != 1 {
		m.fault("apply was called while another call ran")
	}
	defer m.inside.Add(-1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		m.faultLocked("apply was called after Close had returned")
	}
	for _, c := range changes {
		if c.Pos <= m.last {
			m.faultLocked(fmt.Sprintf("position %d after %d", c.Pos, m.last))
		}
		m.last = c.Pos
		if c.Removed {
			delete(m.live, c.Key)
		} else {
			m.live[c.Key] = c
		}
		m.log = append(m.log, c)
	}
	close(m.grown)
	m.grown = make(chan struct{})
}

func (m *Mirror) fault(s string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faultLocked(s)
}

func (m *Mirror) faultLocked(s string) {
	if len(m.faults) < 10 {
		m.faults = append(m.faults, s)
	}
}

// Closed tells the mirror that its store's Close has returned.
func (m *Mirror) Closed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
}

// Faults returns the breaches of contract so far.
func (m *Mirror) Faults() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.faults)
}

// Last returns the highest position applied.
func (m *Mirror) Last() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// Get returns the live registration with this key.
func (m *Mirror) Get(k rendezvous.Key) (rendezvous.Change, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.live[k]
	return c, ok
}

// Live returns the registrations there are, by key.
func (m *Mirror) Live() map[rendezvous.Key]rendezvous.Change {
	m.mu.Lock()
	defer m.mu.Unlock()
	live := make(map[rendezvous.Key]rendezvous.Change, len(m.live))
	for k, c := range m.live {
		live[k] = c
	}
	return live
}

// After returns the changes behind a position, as a reader with a cookie sees
// them, and a channel that is closed when there are more.
func (m *Mirror) After(pos uint64) ([]rendezvous.Change, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, found := slices.BinarySearchFunc(m.log, pos, func(c rendezvous.Change, p uint64) int {
		switch {
		case c.Pos < p:
			return -1
		case c.Pos > p:
			return 1
		default:
			return 0
		}
	})
	if found {
		i++
	}
	return slices.Clone(m.log[i:]), m.grown
}
