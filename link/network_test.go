package link

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/internal/netwatch"
)

// TestMoves: in mid-transfer one end loses its network, and has another one a
// while later, with another address or the same. The other end hears of it from
// nobody. The stream goes on within five seconds, and is the same.
func TestMoves(t *testing.T) {
	t.Parallel()
	aways := []time.Duration{0, 3 * time.Second, 40 * time.Second, 4 * time.Minute}
	if testing.Short() || raceEnabled {
		aways = aways[:2]
		t.Log("away for up to 3 s: the race detector takes ten times as long, and -short asks for less")
	}
	for _, away := range aways {
		for who := range 2 {
			for _, address := range []int{1, 2} {
				if address == 1 && away == 0 {
					continue // nothing happens
				}
				for _, direct := range []bool{false, true} {
					bubble.Test(t, func(t *testing.T) {
						m := move{who: who, address: address, direct: direct, away: away}
						if late := m.run(t); late > 5*time.Second {
							t.Errorf("%+v: goes on after %v", m, late)
						}
					})
				}
			}
		}
	}
}

// A move of one end.
type move struct {
	who     int // 0 dials
	address int // the new one; 1 is the old one
	direct  bool
	away    time.Duration // without a network
}

// run returns how long it takes until the stream goes on in both directions,
// once there is a network.
func (m move) run(t *testing.T) time.Duration {
	relay, direct := both(25*time.Millisecond), both(25*time.Millisecond)
	w := newWorld(t, Config{}, func(n int) (r, d [2]*pipe) {
		if n > 0 {
			relay = both(25 * time.Millisecond)
		} else if m.direct {
			d = direct
		}
		return relay, d
	})
	defer w.close()
	a, b := w.link()
	// Without a network nobody gets to the lobby. Who has tried in vain tries
	// again after a while.
	var back atomic.Pointer[time.Time]
	until := func(at time.Time) { back.Store(&at) }
	until(time.Now())
	e := []*Endpoint{w.a, w.b}[m.who]
	e.run = func(ctx context.Context, a *approach) error {
		for time.Now().Before(*back.Load()) {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(quickReach + unreachedPause):
			}
		}
		return w.run(ctx, a)
	}
	time.Sleep(2 * time.Second)
	there, home := make([]byte, 1<<20), make([]byte, 1<<20)
	for i := range there {
		there[i] = byte(rand.Uint32())
		home[i] = there[i] + 1
	}
	done := make(chan [4]error, 1)
	go func() { done <- w.exchange(a, b, there, home) }()
	time.Sleep(50 * time.Millisecond)
	until(time.Now().Add(m.away))
	cut(true, relay, direct)
	had := [2]uint64{received(a), received(b)}
	if m.away > 0 {
		w.move(m.who, 0)
		time.Sleep(m.away)
	}
	w.move(m.who, m.address)
	start := time.Now()
	for (received(a) == had[0] || received(b) == had[1]) && time.Since(start) < time.Minute {
		time.Sleep(10 * time.Millisecond)
	}
	late := time.Since(start)
	for _, err := range <-done {
		if err != nil {
			t.Errorf("%+v: %v", m, err)
		}
	}
	closing(t, a, b)
	return late
}

func received(c *Conn) uint64 {
	s := c.Stats()
	return s.RelayReceived + s.DirectReceived
}

// TestLateTwin: a path of a resumption dies while that still looks for direct
// ones, and the next resumption waits for the peer. One of the first then
// comes after all. Nobody is left in the lobby.
func TestLateTwin(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		relay, dead := both(10*time.Millisecond), both(10*time.Millisecond)
		w := newWorld(t, Config{}, func(n int) (r, d [2]*pipe) {
			if n == 0 {
				return relay, d
			}
			return dead, d
		})
		defer w.close()
		a, b := w.link()
		first := map[bool]*approach{} // of the dialer and of the acceptor
		for _, e := range []*Endpoint{w.a, w.b} {
			e.run = func(ctx context.Context, ap *approach) error {
				w.mu.Lock()
				again := first[ap.dialer] != nil
				if !again {
					first[ap.dialer] = ap
				}
				w.mu.Unlock()
				if again && ap.dialer {
					// Its peer does not come: it has not noticed.
					w.mu.Lock()
					w.lobby["seat"] = ap
					w.mu.Unlock()
					<-ctx.Done()
					w.mu.Lock()
					delete(w.lobby, "seat")
					w.mu.Unlock()
					return ctx.Err()
				}
				return w.run(ctx, ap)
			}
		}
		time.Sleep(time.Second)
		cut(false, relay)
		time.Sleep(time.Second)
		if a.Path().Kind != Relay || b.Path().Kind != Relay {
			t.Fatalf("not resumed: %v, %v", a.Path(), b.Path())
		}
		a.mu.Lock()
		a.lose(a.paths[0], errSilent)
		a.mu.Unlock()
		time.Sleep(time.Second)
		w.join(Direct, both(10*time.Millisecond), first[true].deliver, first[false].deliver)
		time.Sleep(time.Second)
		w.mu.Lock()
		for token := range w.lobby {
			t.Errorf("somebody waits in the lobby under %.4q", token)
		}
		w.mu.Unlock()
		if a.Path().Kind != Direct || b.Path().Kind != Direct {
			t.Errorf("paths are %v, %v", a.Path(), b.Path())
		}
		closing(t, a, b)
	})
}

// TestBeginsAnew: who waits on a dead way to the server does not wait for a
// time-out when the network changes.
func TestBeginsAnew(t *testing.T) {
	t.Parallel()
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close() //nolint:errcheck // the test is over
	asked := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := dead.Accept()
			if err != nil {
				close(asked)
				return
			}
			asked <- c
		}
	}()
	e, err := New(Config{Key: simKeys[0]})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	accepted := make(chan error, 1)
	go func() {
		_, err := e.Accept(ctx, Meeting{Servers: []string{"http://" + dead.Addr().String()}, Token: "nobody"}, nil)
		accepted <- err
	}()
	for range 3 {
		c := <-asked // and is answered nothing
		e.networkChanged(netwatch.Change{})
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Error(err)
		}
		c.Close() //nolint:errcheck // the test is over
	}
	cancel()
	if err := <-accepted; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	dead.Close() //nolint:errcheck // the test is over
	for c := range asked {
		c.Close() //nolint:errcheck // the test is over
	}
	e.Close() //nolint:errcheck // always nil
	if len(e.wanderers) != 0 {
		t.Errorf("%d still hear of the network", len(e.wanderers))
	}
}

// TestNoBackOffForTheUnreached: a link without a path comes back within 5 s to a
// server that it could not reach, however long it has tried.
func TestNoBackOffForTheUnreached(t *testing.T) {
	t.Parallel()
	a := &approach{own: true, stubborn: true}
	r := a.newRetry()
	for i := range 50 {
		reach := r.reach()
		if most := []time.Duration{quickReach, slowReach}; reach != most[0] && (reach != most[1] || i%slowTurn != slowTurn-1) {
			t.Errorf("attempt %d may take %v", i, reach)
		}
		if pause := r.next(errors.New("no route")); pause > unreachedPause {
			t.Errorf("pause %d is %v", i, pause)
		}
	}
	for range 10 {
		if pause := r.next(&statusError{code: 503, err: errors.New("too many")}); pause < lastPause*3/4 {
			t.Errorf("the next request to a server that is busy comes after %v", pause)
		}
	}
}
