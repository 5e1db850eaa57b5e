package rdv_test

import (
	"sync"
	"testing"
	"time"

	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/rdv"
)

type offer struct {
	after time.Duration
	relay bool
}

// pick runs a picker on connections that come at the given times, and closes
// the channel when it cancels, or at the end.
func pick(p rdv.Picker, end time.Duration, offers ...offer) (conns []*rdv.Conn, took time.Duration) {
	start := time.Now()
	candidates := make(chan *rdv.Conn)
	canceled := make(chan struct{})
	var once sync.Once
	cancel := func() { once.Do(func() { close(canceled) }) }
	go func() {
		defer close(candidates)
		candidates <- &rdv.Conn{IsRelay: offers[0].relay} // as the client does
		for _, o := range offers[1:] {
			select {
			case <-time.After(time.Until(start.Add(o.after))):
				candidates <- &rdv.Conn{IsRelay: o.relay}
			case <-canceled:
				return
			}
		}
		select {
		case <-time.After(time.Until(start.Add(end))):
		case <-canceled:
		}
	}()
	conns = p.Pick(candidates, cancel)
	cancel()
	return conns, time.Since(start)
}

func TestPickers(t *testing.T) {
	t.Parallel()
	const forever = time.Hour
	relay := offer{0, true}
	for _, c := range []struct {
		name   string
		picker rdv.Picker
		end    time.Duration
		offers []offer
		relay  bool
		n      int
		took   time.Duration
	}{
		{"PickFirst", rdv.PickFirst(), forever, []offer{relay, {time.Second, false}}, true, 1, 0},
		{"WaitForP2P gets one", rdv.WaitForP2P(time.Second), forever, []offer{relay, {300 * time.Millisecond, false}}, false, 2, 300 * time.Millisecond},
		{"WaitForP2P waits in vain", rdv.WaitForP2P(time.Second), forever, []offer{relay}, true, 1, time.Second},
		{"WaitForP2P, nothing can come", rdv.WaitForP2P(time.Second), 20 * time.Millisecond, []offer{relay}, true, 1, 20 * time.Millisecond},
		{"WaitForP2P, no time-out", rdv.WaitForP2P(0), forever, []offer{relay, {time.Second, false}}, true, 1, 0},
		{"WaitConstant", rdv.WaitConstant(2 * time.Second), forever, []offer{relay, {time.Second, false}, {1500 * time.Millisecond, false}}, false, 3, 2 * time.Second},
	} {
		bubble.Test(t, func(t *testing.T) {
			conns, took := pick(c.picker, c.end, c.offers...)
			if len(conns) != c.n || took != c.took {
				t.Fatalf("%s: %d connections after %v, want %d after %v", c.name, len(conns), took, c.n, c.took)
			}
			if conns[0].IsRelay != c.relay {
				t.Errorf("%s: picked relay: %v", c.name, conns[0].IsRelay)
			}
		})
	}
}
