package rdv_test

import (
	"testing"
	"time"

	"github.com/muster-p2p/muster/rdv"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }

func one(t *testing.T, as []rdv.Attempt) rdv.Attempt {
	t.Helper()
	if len(as) != 1 {
		t.Fatalf("%d attempts, want 1", len(as))
	}
	return as[0]
}

// TestRacePrimesThenDials walks through the usual case: a prime that nobody
// answers, and a plain dial right after.
func TestRacePrimesThenDials(t *testing.T) {
	t.Parallel()
	for _, method := range []string{rdv.DIAL, rdv.ACCEPT} {
		r := rdv.NewRace(t0, method, true, addrPorts("198.51.100.9:41000"))
		now := t0
		for now.Before(t0.Add(rdv.PrimeHead)) {
			a := one(t, r.Advance(now))
			if a.TTL() == 0 || !a.Until().Equal(now.Add(rdv.PrimeStep)) {
				t.Fatalf("%s: after %v: %+v is no short prime", method, now.Sub(t0), a)
			}
			if !r.Next().IsZero() || len(r.Advance(now)) != 0 {
				t.Errorf("%s: something is due beside a pending attempt", method)
			}
			now = a.Until()
			r.Failed(now, 0, rdv.Expired)
		}
		if a := one(t, r.Advance(now)); a.TTL() != 0 || !a.Until().IsZero() {
			t.Errorf("%s: attempt %+v is no plain dial", method, a)
		}
	}
}

// TestRaceTakesTurnsAfterRefusals: once both sides have been refused, in every
// turn one primes and waits while the other dials again and again.
func TestRaceTakesTurnsAfterRefusals(t *testing.T) {
	t.Parallel()
	var races [2]*rdv.Race
	for i, method := range []string{rdv.DIAL, rdv.ACCEPT} {
		r := rdv.NewRace(t0, method, true, addrPorts("198.51.100.9:41000"))
		r.Advance(t0)
		r.Failed(at(10), 0, rdv.Expired)
		r.Advance(at(10))
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

func TestRaceDoesNotPrimeOnOneNetwork(t *testing.T) {
	t.Parallel()
	r := rdv.NewRace(t0, rdv.DIAL, true, addrPorts("127.0.0.1:41000", "192.168.1.7:41000"))
	for _, a := range append(r.Advance(t0), r.Advance(at(1))...) {
		if a.TTL() != 0 {
			t.Errorf("%+v is a prime", a)
		}
	}
	r = rdv.NewRace(t0, rdv.DIAL, false, addrPorts("198.51.100.9:41000"))
	if a := one(t, r.Advance(t0)); a.TTL() != 0 {
		t.Errorf("%+v is a prime where there can be none", a)
	}
}

func TestRaceIsPaced(t *testing.T) {
	t.Parallel()
	r := rdv.NewRace(t0, rdv.DIAL, true, addrPorts("192.168.1.7:41000", "[2001:db8:2::5]:41000", "198.51.100.9:41000"))
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
		r := rdv.NewRace(t0, rdv.DIAL, true, addrPorts(
			"198.51.100.1:41000", "198.51.100.2:41000", "198.51.100.3:41000", "198.51.100.4:41000", "198.51.100.5:41000",
			"198.51.100.6:41000", "198.51.100.7:41000", "198.51.100.8:41000", "198.51.100.9:41000", "198.51.100.10:41000")[:n])
		total := 0
		for now := t0; !r.Next().IsZero(); {
			now = r.Next()
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

func TestRaceKnowsWhenItIsHopeless(t *testing.T) {
	t.Parallel()
	none := rdv.NewRace(t0, rdv.DIAL, true, nil)
	if none.Hopeless(false) || !none.Hopeless(true) {
		t.Error("without candidates, it depends on whether others can reach this side")
	}
	r := rdv.NewRace(t0, rdv.DIAL, true, addrPorts("198.51.100.9:41000", "[2001:db8:2::5]:41000"))
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
	r := rdv.NewRace(t0, rdv.DIAL, true, addrPorts("192.168.1.7:41000", "198.51.100.9:41000"))
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
