package rdv

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

var (
	lobbyStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	home       = netip.MustParseAddr("192.0.2.1")
	away       = netip.MustParseAddr("198.51.100.7")
)

func newSeat(name, method, token string, source netip.Addr) *seat[string] {
	return &seat[string]{client: name, method: method, token: token, source: source}
}

func TestLobbyJoin(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before []*seat[string]
		join   *seat[string]
		want   verdict
		other  string
		left   int // clients in the lobby afterwards
	}{
		{"first", nil, newSeat("d", DIAL, "t", home), seated, "", 1},
		{"peer waits", []*seat[string]{newSeat("a", ACCEPT, "t", away)}, newSeat("d", DIAL, "t", home), matched, "a", 0},
		{"peer came later", []*seat[string]{newSeat("d", DIAL, "t", away)}, newSeat("a", ACCEPT, "t", home), matched, "d", 0},
		{"other token", []*seat[string]{newSeat("a", ACCEPT, "u", away)}, newSeat("d", DIAL, "t", home), seated, "", 2},
		{
			"own older connection",
			[]*seat[string]{newSeat("old", DIAL, "t", home)},
			newSeat("d", DIAL, "t", home), replaced, "old", 1,
		},
		{"hijack", []*seat[string]{newSeat("victim", DIAL, "t", home)}, newSeat("d", DIAL, "t", away), occupied, "", 1},
		{
			"too many of a source",
			[]*seat[string]{newSeat("1", DIAL, "t1", home), newSeat("2", DIAL, "t2", home)},
			newSeat("d", DIAL, "t", home), sourceFull, "", 2,
		},
		{
			"a full source is matched all the same",
			[]*seat[string]{newSeat("1", DIAL, "t1", home), newSeat("2", DIAL, "t2", home)},
			newSeat("d", ACCEPT, "t2", home), matched, "2", 1,
		},
		{
			"a full source renews its seat",
			[]*seat[string]{newSeat("1", DIAL, "t1", home), newSeat("2", DIAL, "t2", home)},
			newSeat("d", DIAL, "t1", home), replaced, "1", 2,
		},
		{
			"lobby full",
			[]*seat[string]{newSeat("1", DIAL, "t1", home), newSeat("2", DIAL, "t2", home), newSeat("3", DIAL, "t3", away)},
			newSeat("d", DIAL, "t", away), lobbyFull, "", 3,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := lobby[string]{max: 3, maxPerKey: 2}
			for _, s := range tt.before {
				if v, _ := l.join(lobbyStart, s); v != seated {
					t.Fatalf("%s: %v, want seated", s.client, v)
				}
			}
			v, other := l.join(lobbyStart, tt.join)
			if v != tt.want {
				t.Errorf("got %v, want %v", v, tt.want)
			}
			if got := clientOf(other); got != tt.other {
				t.Errorf("other client %q, want %q", got, tt.other)
			}
			if len(l.seats) != tt.left {
				t.Errorf("%d clients left, want %d", len(l.seats), tt.left)
			}
		})
	}
}

func clientOf(s *seat[string]) string {
	if s == nil {
		return ""
	}
	return s.client
}

func TestLobbyExpires(t *testing.T) {
	l := lobby[string]{timeout: time.Minute}
	if !l.next().IsZero() {
		t.Error("an empty lobby has a deadline")
	}
	for i := range 3 {
		l.join(lobbyStart.Add(time.Duration(i)*time.Second), newSeat(fmt.Sprint(i), DIAL, fmt.Sprint(i), home))
	}
	if got, want := l.next(), lobbyStart.Add(time.Minute); got != want {
		t.Errorf("next %v, want %v", got, want)
	}
	if s := l.expire(lobbyStart.Add(time.Minute - 1)); s != nil {
		t.Errorf("client %s expired early", s.client)
	}
	now := lobbyStart.Add(time.Minute + time.Second)
	if got := clientOf(l.expire(now)) + clientOf(l.expire(now)) + clientOf(l.expire(now)); got != "01" {
		t.Errorf("clients %q expired, want 0 and 1", got)
	}
	if l.taken[home] != 1 {
		t.Errorf("source has %d seats, want 1", l.taken[home])
	}
}

// TestLobbyTimeoutChanges: it holds for those who wait already, whose order
// stays that of their coming.
func TestLobbyTimeoutChanges(t *testing.T) {
	l := lobby[string]{timeout: time.Hour}
	l.join(lobbyStart, newSeat("0", DIAL, "0", home))
	l.timeout = time.Minute
	l.join(lobbyStart.Add(time.Second), newSeat("1", DIAL, "1", home))
	if got, want := l.next(), lobbyStart.Add(time.Minute); got != want {
		t.Errorf("next %v, want %v", got, want)
	}
	now := lobbyStart.Add(time.Minute + time.Second)
	if got := clientOf(l.expire(now)) + clientOf(l.expire(now)); got != "01" {
		t.Errorf("clients %q expired, want 0 and 1", got)
	}
}

func TestLobbyWithoutTimeoutKeeps(t *testing.T) {
	var l lobby[string]
	l.join(lobbyStart, newSeat("d", DIAL, "t", home))
	if s := l.expire(lobbyStart.Add(1000 * time.Hour)); s != nil || !l.next().IsZero() {
		t.Errorf("client %v expired, next %v", s, l.next())
	}
}

// TestLobbyAgainstModel compares the lobby with the plainest one there is.
func TestLobbyAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const most, perKey, timeout = 8, 3, 10 * time.Second
	l := lobby[int]{max: most, maxPerKey: perKey, timeout: timeout}
	var model []*seat[int] // in order of coming
	remove := func(s *seat[int]) {
		for i := range model {
			if model[i] == s {
				model = append(model[:i], model[i+1:]...)
				return
			}
		}
	}
	now := lobbyStart
	for i := range 20000 {
		now = now.Add(time.Duration(rng.IntN(1500)) * time.Millisecond)
		for s := l.expire(now); s != nil; s = l.expire(now) {
			if model[0] != s || now.Before(s.since.Add(timeout)) {
				t.Fatalf("step %d: client %d expired", i, s.client)
			}
			remove(s)
		}
		if len(model) > 0 && !now.Before(model[0].since.Add(timeout)) {
			t.Fatalf("step %d: client %d did not expire", i, model[0].client)
		}
		if len(model) > 0 && rng.IntN(4) == 0 {
			s := model[rng.IntN(len(model))]
			if !l.leave(s) || l.leave(s) {
				t.Fatalf("step %d: leave", i)
			}
			remove(s)
			continue
		}
		s := &seat[int]{
			client: i, method: []string{DIAL, ACCEPT}[rng.IntN(2)], token: fmt.Sprint(rng.IntN(12)),
			source: netip.AddrFrom4([4]byte{192, 0, 2, byte(rng.IntN(4))}),
		}
		want, wantOther := modelJoin(model, s, most, perKey)
		got, other := l.join(now, s)
		if got != want || other != wantOther {
			t.Fatalf("step %d: got %v %v, want %v %v", i, got, other, want, wantOther)
		}
		if other != nil {
			remove(other)
		}
		if got == seated || got == replaced {
			model = append(model, s)
		}
		if len(l.seats) != len(model) || len(l.taken) > len(model) {
			t.Fatalf("step %d: %d seats, %d sources, want %d", i, len(l.seats), len(l.taken), len(model))
		}
	}
}

func modelJoin(model []*seat[int], s *seat[int], most, perKey int) (verdict, *seat[int]) {
	same := 0
	for _, w := range model {
		if w.source == s.source {
			same++
		}
	}
	for _, w := range model {
		switch {
		case w.token != s.token:
		case w.method != s.method:
			return matched, w
		case w.source == s.source:
			return replaced, w
		default:
			return occupied, nil
		}
	}
	if same >= perKey {
		return sourceFull, nil
	}
	if len(model) >= most {
		return lobbyFull, nil
	}
	return seated, nil
}

func TestSourceKey(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1":           "192.0.2.1",
		"::ffff:192.0.2.1":    "192.0.2.1",
		"2001:db8:1:2:3::4":   "2001:db8:1:2::",
		"2001:db8:1:2:ffff::": "2001:db8:1:2::",
		"fe80::1%eth0":        "fe80::",
	} {
		if got := sourceKey(netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestPeerAddrs(t *testing.T) {
	addrs := func(s ...string) (out []netip.AddrPort) {
		for _, a := range s {
			out = append(out, netip.MustParseAddrPort(a))
		}
		return out
	}
	many := make([]netip.AddrPort, 20)
	for i := range many {
		many[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 4000)
	}
	seen := "203.0.113.7:4000"
	for _, tt := range []struct {
		name     string
		self     []netip.AddrPort
		observed string
		want     []netip.AddrPort
	}{
		{"observed comes last", addrs("10.0.0.2:1", "[fd00::1]:1"), seen, addrs("10.0.0.2:1", "[fd00::1]:1", seen)},
		{"no address twice", addrs(seen, "10.0.0.2:1", "10.0.0.2:1"), seen, addrs("10.0.0.2:1", seen)},
		{"other port of the observed", addrs("203.0.113.7:9"), seen, addrs("203.0.113.7:9", seen)},
		{
			"one foreign address of a family", addrs("198.51.100.1:1", "198.51.100.2:1", "[2001:db8::1]:1", "[2001:db8::2]:1"),
			seen, addrs("198.51.100.1:1", "[2001:db8::1]:1", seen),
		},
		{"nobody's addresses", addrs("0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "[::]:1", "10.0.0.2:0"), seen, addrs(seen)},
		{"loopback from afar", addrs("127.0.0.1:1", "[::1]:1"), seen, addrs(seen)},
		{"loopback from here", addrs("127.0.0.1:1", "[::1]:1"), "127.0.0.1:4000", addrs("127.0.0.1:1", "[::1]:1", "127.0.0.1:4000")},
		{"no observed port", addrs("10.0.0.2:1"), "203.0.113.7:0", addrs("10.0.0.2:1")},
		{"at most ten", many, seen, append(many[:9:9], addrs(seen)...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := peerAddrs(tt.self, netip.MustParseAddrPort(tt.observed))
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got  %v\nwant %v", got, tt.want)
			}
		})
	}
}

func TestGuesses(t *testing.T) {
	g := guesses{limit: 3, window: time.Minute, sources: 100}
	for range 3 {
		if _, blocked := g.blocked(lobbyStart, home); blocked {
			t.Fatal("blocked before the limit")
		}
		g.failed(lobbyStart, home)
	}
	if wait, blocked := g.blocked(lobbyStart.Add(20*time.Second), home); !blocked || wait != 40*time.Second {
		t.Errorf("blocked %v for %v, want 40s", blocked, wait)
	}
	if _, blocked := g.blocked(lobbyStart, away); blocked {
		t.Error("another source is blocked")
	}
	if _, blocked := g.blocked(lobbyStart.Add(time.Minute), home); blocked {
		t.Error("blocked after the window")
	}
	for i := range 10000 {
		g.failed(lobbyStart, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	if len(g.seen) > 100 {
		t.Errorf("%d sources remembered, want at most 100", len(g.seen))
	}
}
