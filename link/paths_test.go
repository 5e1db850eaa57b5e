package link

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestTracks: whatever happens to paths, the machine keeps its promises.
func TestTracks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1000, 0)
		m := tracks{dialer: rapid.Bool().Draw(t, "dialer"), retry: rapid.Bool().Draw(t, "retry"), keep: rapid.Bool().Draw(t, "keep")}
		ids, meets := 0, uint32(0)
		var moves []time.Time // to another path, although the old one was there
		any := func(t *rapid.T) *track {
			if len(m.list) == 0 {
				t.Skip()
			}
			return m.list[rapid.IntRange(0, len(m.list)-1).Draw(t, "which")]
		}
		was, wasThere := 0, false
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				if len(m.list) > 3 {
					t.Skip()
				}
				ids++
				m.add(now, ids, rapid.SampledFrom([]Kind{Relay, Direct}).Draw(t, "kind"), time.Duration(rapid.IntRange(0, 200).Draw(t, "ms"))*time.Millisecond)
			},
			"lose":    func(t *rapid.T) { m.lost(now, any(t).id) },
			"heard":   func(t *rapid.T) { m.heardOn(now, any(t).id, rapid.Bool().Draw(t, "data")) },
			"sent":    func(t *rapid.T) { m.sentOn(now, any(t).id, 1) },
			"acked":   func(*rapid.T) { m.acked(now) },
			"changed": func(*rapid.T) { m.changed(now) },
			"called":  func(*rapid.T) { m.called(now) },
			"pong":    func(t *rapid.T) { tr := any(t); m.pong(now, tr.id, tr.ping) },
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 30_000).Draw(t, "ms")) * time.Millisecond)
			},
			"advance": func(t *rapid.T) {
				p := m.advance(now, rapid.Bool().Draw(t, "unacked"))
				if !m.next.IsZero() && !m.next.After(now) {
					t.Fatalf("next is %v, now %v", m.next, now)
				}
				if len(m.list) > 0 && m.next.IsZero() && len(p.lose) == 0 {
					t.Fatal("nobody watches the paths")
				}
				for _, id := range slices.Concat(p.lose, p.idle) {
					if slices.Contains(p.ping, id) {
						t.Fatal("a dead path is asked")
					}
				}
				if p.meet != 0 {
					if p.meet != meets+1 || !m.dialer || !m.retry {
						t.Fatalf("attempt %d after %d", p.meet, meets)
					}
					meets = p.meet
				}
				for _, id := range slices.Concat(p.idle, p.lose) {
					if id == m.active && slices.Contains(p.idle, id) {
						t.Fatal("the path in use is idle")
					}
					m.lost(now, id)
				}
			},
			"": func(t *rapid.T) {
				if (m.active == 0) != (len(m.list) == 0) || m.active != 0 && m.find(m.active) == nil {
					t.Fatalf("%d is in use, of %d", m.active, len(m.list))
				}
				if m.active != was && wasThere && m.find(was) != nil {
					moves = append(moves, now)
				}
				if n := len(moves); n > maxSwitches && now.Sub(moves[n-1-maxSwitches]) < switchWindow {
					t.Fatalf("moved too often: %v", moves)
				}
				was, wasThere = m.active, m.active != 0
			},
		})
	})
}

// TestChoice: which path is sent on.
func TestChoice(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	start := time.Unix(1000, 0)
	for name, c := range map[string]struct {
		do   func(m *tracks)
		want int
	}{
		"the only one":             {func(m *tracks) { m.add(start, 1, Relay, 0) }, 1},
		"direct, once measured":    {func(m *tracks) { m.add(start, 1, Relay, 50*ms); m.add(start, 2, Direct, 30*ms) }, 2},
		"direct, not yet measured": {func(m *tracks) { m.add(start, 1, Relay, 50*ms); m.add(start, 2, Direct, 0) }, 1},
		"direct, a little slower":  {func(m *tracks) { m.add(start, 1, Relay, 40*ms); m.add(start, 2, Direct, 60*ms) }, 2},
		"direct, much slower":      {func(m *tracks) { m.add(start, 1, Relay, 40*ms); m.add(start, 2, Direct, 61*ms) }, 1},
		"the first direct one":     {func(m *tracks) { m.add(start, 1, Direct, 50*ms); m.add(start, 2, Direct, 10*ms) }, 1},
		"not back to the relay":    {func(m *tracks) { m.add(start, 1, Direct, 50*ms); m.add(start, 2, Relay, 10*ms) }, 1},
		"what is left": {func(m *tracks) {
			m.add(start, 1, Relay, 50*ms)
			m.add(start, 2, Direct, 10*ms)
			m.lost(start, 2)
		}, 1},
		"none": {func(m *tracks) { m.add(start, 1, Relay, 50*ms); m.lost(start, 1) }, 0},
		"a pong measures": {func(m *tracks) {
			m.add(start, 1, Relay, 50*ms)
			m.add(start, 2, Direct, 0)
			m.advance(start, false)
			m.pong(start.Add(20*ms), 2, m.find(2).ping)
		}, 2},
		"an old pong does not": {func(m *tracks) {
			m.add(start, 1, Relay, 50*ms)
			m.add(start, 2, Direct, 0)
			m.advance(start, false)
			m.pong(start.Add(20*ms), 2, m.find(2).ping+1)
		}, 1},
	} {
		var m tracks
		c.do(&m)
		if m.active != c.want {
			t.Errorf("%s: on %d, want %d", name, m.active, c.want)
		}
	}
}

// TestWatch: when a path is asked, and when it is given up.
func TestWatch(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	for name, c := range map[string]struct {
		unacked   bool
		heard     bool // something comes, but no answer
		ping, die time.Duration
	}{
		"idle": {ping: idlePing, die: idlePing + idleGrace},
		"busy": {unacked: true, ping: busyPing, die: busyPing + busyGrace},
		// What the peer says is late, as its answer waits behind data; but in
		// ten seconds, something must have been acknowledged.
		"stuck": {unacked: true, heard: true, ping: busyPing, die: busyPing + stuckAfter},
	} {
		var m tracks
		m.add(start, 1, Relay, 10*time.Millisecond)
		var ping, die time.Duration
		for at := time.Duration(0); at < time.Minute && die == 0; at += 10 * time.Millisecond {
			now := start.Add(at)
			if c.heard && at > busyPing {
				m.heardOn(now, 1, false)
			}
			p := m.advance(now, c.unacked)
			if len(p.ping) > 0 && ping == 0 {
				ping = at
			}
			if len(p.lose) > 0 {
				die = at
			}
		}
		if ping != c.ping || die != c.die {
			t.Errorf("%s: asked after %v, given up after %v, want %v and %v", name, ping, die, c.ping, c.die)
		}
	}
}

// twoTracks is a machine with a relay and a direct path in use, both of 20 ms.
func twoTracks(dialer bool, now time.Time) *tracks {
	m := &tracks{dialer: dialer, retry: true}
	m.add(now, 1, Relay, 20*time.Millisecond)
	m.add(now, 2, Direct, 20*time.Millisecond)
	return m
}

// TestDoubt: when the network changes, every path is asked at once, and given up
// soon; what was on its way, and answers to older questions, prove nothing.
func TestDoubt(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	m := twoTracks(true, now)
	now = now.Add(20 * time.Second) // both are asked for the usual reason
	if p := m.advance(now, false); len(p.ping) != 2 {
		t.Fatalf("%+v", p)
	}
	old := [2]uint64{m.list[0].ping, m.list[1].ping}
	m.changed(now.Add(time.Millisecond))
	now = now.Add(20 * time.Millisecond)
	for i, tr := range m.list {
		m.heardOn(now, tr.id, true)
		m.pong(now, tr.id, old[i])
	}
	if p := m.advance(now, false); len(p.ping) != 2 || len(p.lose) != 0 {
		t.Fatalf("after old answers: %+v", p)
	}
	m.pong(now.Add(30*time.Millisecond), 1, m.list[0].ping)
	now = now.Add(doubtGrace)
	p := m.advance(now, false)
	if !slices.Equal(p.lose, []int{2}) {
		t.Fatalf("one has answered: %+v", p)
	}
	m.lost(now, 2)
	if p = m.advance(now.Add(meetSpacing), false); p.meet != 1 {
		t.Errorf("no attempt at once: %+v", p)
	}
}

// TestStandbyIsAskedToo: when the path in use does not answer, the other one has
// to, so that both are given up together.
func TestStandbyIsAskedToo(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	m := twoTracks(false, now)
	m.sentOn(now, 2, 1)
	now = now.Add(busyPing)
	if p := m.advance(now, true); !slices.Equal(p.ping, []int{2, 1}) {
		t.Fatalf("%+v", p)
	}
	if p := m.advance(now.Add(busyGrace), true); !slices.Equal(p.lose, []int{2, 1}) {
		t.Errorf("%+v", p)
	}
}

// TestHurry: attempts that changes of the network call for are five seconds apart
// at least, those that the acceptor calls for a minute; and it calls once.
func TestHurry(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	for name, tt := range map[string]struct {
		call func(m *tracks, now time.Time)
		want []time.Duration
	}{
		"here": {(*tracks).changed, []time.Duration{5e9, 10e9, 15e9, 20e9, 25e9, 30e9, 35e9, 40e9, 45e9, 50e9, 55e9}},
		// The others are the usual ones.
		"there": {(*tracks).called, []time.Duration{5e9, 20e9, 50e9}},
	} {
		m := &tracks{dialer: true, retry: true}
		m.add(start, 1, Relay, 20*time.Millisecond)
		var at []time.Duration
		for now := start; now.Before(start.Add(time.Minute)); now = now.Add(100 * time.Millisecond) {
			if tt.call(m, now); m.advance(now, false).meet != 0 {
				at = append(at, now.Sub(start))
			}
			m.heardOn(now, 1, false)
			m.pong(now, 1, m.list[0].ping)
		}
		if !slices.Equal(at, tt.want) {
			t.Errorf("%s: attempts at %v, want %v", name, at, tt.want)
		}
	}
	acceptor := &tracks{retry: true}
	acceptor.add(start, 1, Relay, 20*time.Millisecond)
	if acceptor.advance(start, false).call {
		t.Error("calls without a reason")
	}
	acceptor.changed(start)
	if !acceptor.advance(start, false).call || acceptor.advance(start, false).call {
		t.Error("does not call once")
	}
}

// TestSecondDirectPath: of two direct paths one is given up, by the dialer.
func TestSecondDirectPath(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	for _, dialer := range []bool{true, false} {
		m := &tracks{dialer: dialer, keep: true}
		m.add(now, 1, Direct, 20*time.Millisecond)
		m.add(now, 2, Direct, 10*time.Millisecond)
		p := m.advance(now.Add(standby), false)
		if want := []int{2}; dialer != slices.Equal(p.idle, want) {
			t.Errorf("dialer %v: %+v", dialer, p)
		}
	}
}
