package muster

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// TestStaleCallsMakeRoom: callers who call and do not come lose their places to
// others, the oldest first and each once; those who may still come do not.
func TestStaleCallsMakeRoom(t *testing.T) {
	r := &Reach{awaited: map[callID]*awaited{}}
	gone := map[peer.ID]bool{}
	wait := func(id peer.ID, since time.Duration) {
		r.awaited[callID{caller: id}] = &awaited{
			since: time.Now().Add(-since), cancels: []context.CancelFunc{func() { gone[id] = true }},
		}
	}
	wait("fresh", 0)
	wait("old", staleWait)
	wait("older", 2*staleWait)
	if !r.dropStaleLocked() || !gone["older"] || gone["old"] {
		t.Errorf("gone first: %v", gone)
	}
	if !r.dropStaleLocked() || !gone["old"] {
		t.Errorf("gone next: %v", gone)
	}
	if r.dropStaleLocked() || gone["fresh"] {
		t.Errorf("one who may still come is gone: %v", gone)
	}
}
