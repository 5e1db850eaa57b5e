package pubsub

import (
	"sync/atomic"
	"time"
)

// bulkLease is how long a turn to write a large message is held without
// progress: a piece of 64 KiB takes 50 ms at 10 Mbit/s. Whoever takes longer
// does not read, and must not keep the others from writing.
const bulkLease = 100 * time.Millisecond

// A bulkTurn is one writer's part in the pacing of large messages: a host
// writes only Config.BulkWrites of them at a time. A turn that is held without
// progress is taken away; its writer then goes on without turns, since it does
// not use the bandwidth that they share out, until a message goes through in
// time. Only the writer calls the methods.
type bulkTurn struct {
	gate    chan struct{}
	timer   *time.Timer
	held    atomic.Bool // taken away by the timer
	overran atomic.Bool // set by the timer
	slow    bool
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
	if t.timer == nil {
		t.timer = time.AfterFunc(bulkLease, func() {
			t.overran.Store(true)
			t.release()
		})
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
	t.slow = t.overran.Swap(false)
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
	t.done(false)
	t.release()
}
