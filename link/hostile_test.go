package link

import (
	"context"
	"testing"
	"time"

	"github.com/muster-p2p/muster/link/wire"
)

// TestMeetFlood: a dialer that says MEET all the time has the acceptor go to the
// servers every few seconds, and no more.
func TestMeetFlood(t *testing.T) {
	inWorld(t, func(w *world, a, b *Conn) {
		visits := 0
		w.b.run = func(context.Context, *approach) error { visits++; return nil } // one at a time
		time.Sleep(time.Second)
		a.mu.Lock()
		p := a.paths[0]
		a.mu.Unlock()
		for n := range uint32(1000) {
			if err := p.write(wire.AppendMeet(nil, n+1), nil); err != nil {
				w.t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		if visits < 2 || visits > 6 {
			w.t.Errorf("%d attempts in 20 s", visits)
		}
		closing(w.t, a, b)
	})
}

// TestPathsAreBounded: a dialer that keeps adding paths has them replaced; the
// stream goes on.
func TestPathsAreBounded(t *testing.T) {
	inWorld(t, func(w *world, a, b *Conn) {
		time.Sleep(time.Second)
		m := newMeter(a, b)
		for range 20 {
			w.join(Direct, both(10*time.Millisecond), a.join, b.join)
			time.Sleep(time.Second)
			if n, k := b.pathCount(), a.pathCount(); n > maxPaths || k > maxPaths {
				w.t.Fatalf("%d and %d paths", k, n)
			}
		}
		if gap := m.end(w.t); gap > 200*time.Millisecond {
			w.t.Errorf("stalled for %v", gap)
		}
		if s := a.Stats(); s.Switches > maxSwitches {
			w.t.Errorf("%+v", s)
		}
		closing(w.t, a, b)
	})
}

// TestPingFlood: a peer that asks all the time gets an answer now and then, and
// nothing grows; the stream goes on.
func TestPingFlood(t *testing.T) {
	inWorld(t, func(w *world, a, b *Conn) {
		time.Sleep(time.Second)
		m := newMeter(b, a)
		a.mu.Lock()
		p := a.paths[0]
		a.mu.Unlock()
		flood := make([]byte, 0, 1000*(wire.HeaderLen+wire.OffsetLen))
		for id := range uint64(1000) {
			flood = wire.AppendEcho(flood, wire.PING, id+1)
		}
		for range 50 {
			if err := p.write(flood, nil); err != nil {
				w.t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		if gap := m.end(w.t); gap > 200*time.Millisecond {
			w.t.Errorf("stalled for %v", gap)
		}
		a.Abort("the test is over")
		b.Abort("the test is over")
	})
}
