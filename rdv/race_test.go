package rdv_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/muster-p2p/muster/rdv"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }

// natted returns lanes of a host behind a NAT.
func natted(addrs ...string) (lanes []rdv.Lane) {
	for _, a := range addrPorts(addrs...) {
		lanes = append(lanes, rdv.Lane{Addr: a, Punch: true, Head: true})
	}
	return lanes
}

func one(t *testing.T, as []rdv.Attempt) rdv.Attempt {
	t.Helper()
	if len(as) != 1 {
		t.Fatalf("%d attempts, want 1", len(as))
	}
	return as[0]
}

// TestRacePrimesThenDials: behind a NAT, the first SYN is a prime, and a full
// one follows.
func TestRacePrimesThenDials(t *testing.T) {
	t.Parallel()
	for method, head := range map[string]time.Duration{rdv.DIAL: rdv.DialHead, rdv.ACCEPT: rdv.AcceptHead} {
		r := rdv.NewRace(t0, method, natted("198.51.100.9:41000")...)
		a := one(t, r.Advance(t0))
		if a.TTL() == 0 || !a.Until().Equal(t0.Add(head)) || !a.Full() {
			t.Fatalf("%s: %+v is no prime with a full SYN after it", method, a)
		}
		if !r.Next().IsZero() || len(r.Advance(at(5))) != 0 {
			t.Errorf("%s: something is due beside a pending attempt", method)
		}
	}
}

// TestRaceTakesTurnsAfterRefusals: once both sides have been refused, in every
// turn one primes and waits while the other dials again and again.
func TestRaceTakesTurnsAfterRefusals(t *testing.T) {
	t.Parallel()
	var races [2]*rdv.Race
	for i, method := range []string{rdv.DIAL, rdv.ACCEPT} {
		r := rdv.NewRace(t0, method, natted("198.51.100.9:41000")...)
		r.Advance(t0)
		r.Failed(at(20), 0, rdv.Refused)
		races[i] = r
	}
	for turn := range 4 {
		now := t0.Add(time.Duration(turn)*rdv.RaceTurn + 100*time.Millisecond)
		dialer, acceptor := one(t, races[0].Advance(now)), one(t, races[1].Advance(now))
		if (dialer.TTL() == 0) == (acceptor.TTL() == 0) {
			t.Fatalf("turn %d: dialer %+v, acceptor %+v", turn, dialer, acceptor)
		}
		if primed := acceptor.TTL() != 0; primed != (turn%2 == 0) {
			t.Errorf("turn %d: acceptor primes: %v", turn, primed)
		}
		for i, a := range []rdv.Attempt{dialer, acceptor} {
			if a.TTL() == 0 {
				races[i].Failed(now.Add(time.Millisecond), 0, rdv.Refused)
				again := one(t, races[i].Advance(races[i].Next()))
				if again.TTL() != 0 {
					t.Errorf("turn %d: a second dial is a prime", turn)
				}
				races[i].Failed(now.Add(90*time.Millisecond), 0, rdv.Refused)
				continue
			}
			end := t0.Add(time.Duration(turn+1) * rdv.RaceTurn)
			if !a.Until().Equal(end) {
				t.Errorf("turn %d: prime until %v, want the end of the turn", turn, a.Until().Sub(t0))
			}
			races[i].Failed(end, 0, rdv.Expired)
		}
	}
}

// TestRaceWithoutNAT: where nothing translates, the first SYN is a full one,
// and primes come only after a refusal.
func TestRaceWithoutNAT(t *testing.T) {
	t.Parallel()
	r := rdv.NewRace(t0, rdv.ACCEPT, rdv.Lane{Addr: addrPorts("198.51.100.9:41000")[0], Punch: true})
	if a := one(t, r.Advance(t0)); a.TTL() != 0 {
		t.Errorf("%+v is a prime", a)
	}
	r.Failed(at(10), 0, rdv.Refused)
	if a := one(t, r.Advance(r.Next())); a.TTL() == 0 {
		t.Errorf("%+v is no prime", a)
	}
	r = rdv.NewRace(t0, rdv.ACCEPT, rdv.Lane{Addr: addrPorts("192.168.1.7:41000")[0]})
	for range 5 {
		if a := one(t, r.Advance(r.Next())); a.TTL() != 0 {
			t.Errorf("%+v is a prime", a)
		}
		r.Failed(r.Next(), 0, rdv.Refused)
		r.Failed(t0, 0, rdv.Refused)
	}
}

func TestLanes(t *testing.T) {
	t.Parallel()
	direct := netip.MustParseAddrPort("192.168.1.100:40000") // the server sees the host as it is
	for _, c := range []struct {
		name     string
		observed netip.AddrPort
		peer     []string // the candidate, and what else the peer names
		primes   bool
		want     rdv.Lane
	}{
		{"both behind NATs", observed, []string{"198.51.100.9:41000", "10.0.0.5:41000"}, true, rdv.Lane{Punch: true, Head: true}},
		{"primes cannot be made", observed, []string{"198.51.100.9:41000", "10.0.0.5:41000"}, false, rdv.Lane{}},
		{"no NAT here", direct, []string{"198.51.100.9:41000", "10.0.0.5:41000"}, true, rdv.Lane{Punch: true}},
		{"no NAT there", observed, []string{"198.51.100.9:41000"}, true, rdv.Lane{Punch: true}},
		{"behind the same NAT", observed, []string{"203.0.113.7:41000"}, true, rdv.Lane{}},
		{"on the same network", observed, []string{"192.168.1.7:41000"}, true, rdv.Lane{}},
		{"IPv6 has no NAT", observed, []string{"[2001:db8:2::5]:41000", "10.0.0.5:41000"}, true, rdv.Lane{Punch: true}},
	} {
		c.want.Addr = netip.MustParseAddrPort(c.peer[0])
		got := rdv.Lanes(home, ownPort, &c.observed, addrPorts(c.peer...), c.primes)
		if len(got) != 1 || got[0] != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestRaceIsPaced(t *testing.T) {
	t.Parallel()
	r := rdv.NewRace(t0, rdv.DIAL, natted("192.168.1.7:41000", "[2001:db8:2::5]:41000", "198.51.100.9:41000")...)
	for i := range 3 {
		if got := one(t, r.Advance(r.Next())).Candidate(); got != i {
			t.Errorf("candidate %d, want %d", got, i)
		}
	}
}

// TestRaceIsBounded: a candidate that answers everything with a refusal is not
// scanned.
func TestRaceIsBounded(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 10} {
		r := rdv.NewRace(t0, rdv.DIAL, natted(
			"198.51.100.1:41000", "198.51.100.2:41000", "198.51.100.3:41000", "198.51.100.4:41000", "198.51.100.5:41000",
			"198.51.100.6:41000", "198.51.100.7:41000", "198.51.100.8:41000", "198.51.100.9:41000", "198.51.100.10:41000")[:n]...)
		total := 0
		for !r.Next().IsZero() {
			now := r.Next()
			for _, a := range r.Advance(now) {
				total++
				r.Failed(now, a.Candidate(), rdv.Refused)
			}
		}
		if want := min(n*rdv.MaxAttempts, rdv.MaxAll); total != want {
			t.Errorf("%d candidates: %d attempts, want %d", n, total, want)
		}
	}
}

// TestRaceLeavesStrangersAlone: who answers and is not the peer is not called
// again and again.
func TestRaceLeavesStrangersAlone(t *testing.T) {
	t.Parallel()
	r := rdv.NewRace(t0, rdv.DIAL, rdv.Lane{Addr: addrPorts("192.168.1.7:41000")[0]})
	calls := 0
	for !r.Next().IsZero() {
		now := r.Next()
		one(t, r.Advance(now))
		calls++
		r.Failed(now, 0, rdv.Stranger)
	}
	if calls != rdv.MaxStranger || r.Hopeless(false) {
		t.Errorf("called %d times, want %d", calls, rdv.MaxStranger)
	}
}

func TestRaceKnowsWhenItIsHopeless(t *testing.T) {
	t.Parallel()
	none := rdv.NewRace(t0, rdv.DIAL)
	if none.Hopeless(false) || !none.Hopeless(true) {
		t.Error("without candidates, it depends on whether others can reach this side")
	}
	r := rdv.NewRace(t0, rdv.DIAL, natted("198.51.100.9:41000", "[2001:db8:2::5]:41000")...)
	r.Advance(at(1))
	r.Failed(at(1), 0, rdv.Unreachable)
	if r.Hopeless(false) {
		t.Error("hopeless with an attempt under way")
	}
	r.Failed(at(1), 1, rdv.Unreachable)
	if !r.Hopeless(false) || !r.Next().IsZero() {
		t.Error("not hopeless without a way to any candidate")
	}
}

func TestRaceLeavesTheTakenAndTheConnected(t *testing.T) {
	t.Parallel()
	r := rdv.NewRace(t0, rdv.DIAL, natted("192.168.1.7:41000", "198.51.100.9:41000")...)
	r.Advance(at(1))
	r.Failed(at(1), 0, rdv.Taken)
	r.Connected(1)
	if !r.Next().IsZero() || len(r.Advance(at(1000))) != 0 || r.Hopeless(false) {
		t.Error("tries again, or gives up, where there is a connection")
	}
}

func TestDefaultWait(t *testing.T) {
	t.Parallel()
	for rtt, want := range map[time.Duration]time.Duration{
		0:                      time.Second,
		50 * time.Millisecond:  time.Second,
		500 * time.Millisecond: 3 * time.Second,
		3 * time.Second:        5 * time.Second,
	} {
		if got := rdv.DefaultWait(rtt); got != want {
			t.Errorf("DefaultWait(%v) = %v, want %v", rtt, got, want)
		}
	}
}
