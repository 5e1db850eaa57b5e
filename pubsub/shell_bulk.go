package pubsub

import (
	"sync/atomic"
	"time"
)

// Pacing of large messages. A host that writes all copies of a message at a
// time delivers all of them late; one that writes few at a time delivers the
// first ones early, those are passed on while the rest still waits, and some
// of the rest is declined by IDONTWANT and never written.
const (
	// bulkLease is how long a turn is held without progress. At 50 Mbit/s a
	// piece of 64 KiB takes 10 ms; whoever takes much longer is held up by its
	// own path, not by our uplink, and the turn is given to the next. On the
	// simulated WAN a longer lease spares duplicates and delays the last
	// deliveries (docs/spec/pubsub.md, "Measured").
	bulkLease = 30 * time.Millisecond
	// bulkFrozen is the time for a piece after which a writer does without
	// turns: its peer does not read, and must not cost the others theirs.
	bulkFrozen = time.Second
)

// A bulkTurn is one writer's part in the pacing of large messages, of which a
// host writes only Config.BulkWrites at a time. Only the writer calls the
// methods.
type bulkTurn struct {
	gate  chan struct{}
	timer *time.Timer
	held  atomic.Bool // the timer takes it away
	since time.Time   // the last progress
	slow  bool        // the last large message took longer than bulkFrozen
}

// may reports whether large messages may be written.
func (t *bulkTurn) may() bool { return t.slow || t.held.Load() }

// taken notes that the gate was passed.
func (t *bulkTurn) taken() { t.held.Store(true) }

// try passes the gate if that needs no waiting.
func (t *bulkTurn) try() {
	select {
	case t.gate <- struct{}{}:
		t.taken()
	default:
	}
}

// begin starts the lease, or renews it when there is progress.
func (t *bulkTurn) begin() {
	if !t.may() {
		return
	}
	t.since = time.Now()
	if t.timer == nil {
		t.timer = time.AfterFunc(bulkLease, t.release)
		return
	}
	t.timer.Reset(bulkLease)
}

// done ends a write; bulk says that it held a large message.
func (t *bulkTurn) done(bulk bool) {
	if t.timer != nil {
		t.timer.Stop()
	}
	if !bulk {
		return
	}
	t.slow = time.Since(t.since) > bulkFrozen
	t.release()
}

// release gives the turn back, if it is held.
func (t *bulkTurn) release() {
	if t.held.CompareAndSwap(true, false) {
		<-t.gate
	}
}

// stop ends the writer's part.
func (t *bulkTurn) stop() {
	t.done(!t.since.IsZero())
	t.release()
}
