package discv5

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

const (
	// lendBelow is the round trip below which the turn to read is lent: on
	// loopback and in a data centre waking a goroutine costs as much as the
	// network.
	lendBelow = time.Millisecond

	// lendTick is how long nobody may use a lent turn before it is taken back.
	// It bounds what a packet waits if nobody reads.
	lendTick = time.Millisecond
)

// Who holds the turn to read a socket.
const (
	turnReader int32 = iota // the node's reader, which waits for packets all the time
	turnFree                // lent, and not taken
	turnCaller              // a caller that waits for an answer
)

// A readTurn is the right to read a socket. Whoever has it handles what comes,
// whoever it is for. The node's reader lends it while a caller makes one short
// round trip after the other, so that the caller finds its answer itself: to
// be woken by the reader costs more than all the rest of the work
// (docs/adr/0032). A caller that waits for longer than a tick gives the turn
// back, so nothing changes where round trips take milliseconds.
type readTurn struct {
	conn    *net.UDPConn // nil: never lent
	state   atomic.Int32
	waiting atomic.Int32  // callers that wait for an answer
	taken   atomic.Uint32 // how often callers have had the turn
	resume  chan struct{} // the reader is to take it back
	reader  *socketReader // used by who has the turn
}

// lend gives callers the turn and returns when the reader has it again. If not
// one caller alone was waiting it does nothing.
func (t *readTurn) lend(ctx context.Context) {
	if t.waiting.Load() != 1 {
		return
	}
	t.state.Store(turnFree)
	tick := time.NewTicker(lendTick)
	defer tick.Stop()
	done := ctx.Done()
	for last := t.taken.Load(); ; {
		asked := false
		select {
		case <-tick.C:
		case <-t.resume:
			asked = true
		case <-done:
			done, asked = nil, true // the socket is closed: whoever reads it comes back
		}
		now := t.taken.Load()
		if now != last && !asked {
			last = now
			continue
		}
		if t.state.CompareAndSwap(turnFree, turnReader) {
			return
		}
		_ = t.conn.SetReadDeadline(time.Unix(1, 0)) // wakes the caller that reads
	}
}

// take gives the turn to a caller if it is free and nobody else waits. A caller
// that has it must leave it.
func (t *readTurn) take() bool {
	if t.waiting.Load() != 1 || !t.state.CompareAndSwap(turnFree, turnCaller) {
		return false
	}
	t.taken.Add(1)
	return true
}

// leave frees a caller's turn, for the reader if others wait.
func (t *readTurn) leave(give bool) {
	t.state.Store(turnFree)
	if give || t.waiting.Load() > 1 {
		t.call()
	}
}

// call asks the reader to take the turn, if it is free.
func (t *readTurn) call() {
	if t.state.Load() != turnFree {
		return
	}
	select {
	case t.resume <- struct{}{}:
	default: // it has been asked
	}
}

// await waits for the end of a request that was sent.
func (n *Node) await(ctx context.Context, req *request) error {
	t := &n.turn
	if t.conn != nil {
		t.waiting.Add(1)
		defer t.waiting.Add(-1)
		if t.take() {
			t.leave(!n.readFor(req))
		} else {
			t.call()
		}
	}
	select {
	case <-req.done:
		return req.err
	case <-ctx.Done():
		return n.abandon(req, ctx.Err())
	case <-n.ctx.Done():
		return n.abandon(req, ErrClosed)
	}
}

// readFor handles packets until req is finished, and reports whether it is.
// The caller has the turn.
func (n *Node) readFor(req *request) bool {
	for len(req.done) == 0 {
		if n.turn.reader.next(n) != nil {
			return false
		}
	}
	return true
}
