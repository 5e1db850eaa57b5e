package rdv

import (
	"net/netip"
	"time"
)

// What the tests of the pure files need to see.

// Network is network.
type Network = network

// NewNetwork makes a network of interface addresses with prefix lengths and
// preferred source addresses.
func NewNetwork(addrs []netip.Prefix, preferred []netip.Addr) Network {
	return network{addrs: addrs, preferred: preferred}
}

func (n network) SelfAddrs(spaces AddrSpace, port uint16) []netip.AddrPort {
	return n.selfAddrs(spaces, port)
}

// Candidates is newPolicy and candidates.
func Candidates(spaces AddrSpace, n Network, port uint16, observed *netip.AddrPort, peer []netip.AddrPort) []netip.AddrPort {
	return newPolicy(spaces, n, port, observed, peer).candidates(peer)
}

// Race is race.
type (
	Race    = race
	Attempt = attempt
	Outcome = outcome
)

// Outcomes of an attempt.
const (
	Expired     = outcomeExpired
	Refused     = outcomeRefused
	Taken       = outcomeTaken
	Unreachable = outcomeUnreachable
	Stranger    = outcomeStranger

	AcceptHead  = acceptHead
	DialHead    = dialHead
	RaceTurn    = raceTurn
	MaxAttempts = maxAttempts
	MaxStranger = maxStrangers
	MaxAll      = maxAttemptsAll
)

// A Lane is what a race is told of a candidate.
type Lane struct {
	Addr        netip.AddrPort
	Punch, Head bool
}

// NewRace is newRace.
func NewRace(now time.Time, method string, lanes ...Lane) *Race {
	var in []lane
	for _, l := range lanes {
		in = append(in, lane{l.Addr, l.Punch, l.Head})
	}
	return newRace(now, method, in)
}

// Lanes is newPolicy and lanes.
func Lanes(n Network, port uint16, observed *netip.AddrPort, peer []netip.AddrPort, primes bool) (out []Lane) {
	for _, l := range newPolicy(DefaultSpaces, n, port, observed, peer).lanes(peer, primes) {
		out = append(out, Lane{l.addr, l.punch, l.head})
	}
	return out
}

func (r *race) Advance(now time.Time) []Attempt          { return r.advance(now) }
func (r *race) Failed(now time.Time, c int, why Outcome) { r.failed(now, c, why) }
func (r *race) Connected(c int)                          { r.connected(c) }
func (r *race) Next() time.Time                          { return r.next }
func (r *race) Hopeless(barren bool) bool                { return r.hopeless(barren) }
func (a attempt) TTL() int                               { return a.ttl }
func (a attempt) Until() time.Time                       { return a.until }
func (a attempt) Full() bool                             { return a.full }
func (a attempt) Candidate() int                         { return a.candidate }

// DefaultWait is defaultWait.
func DefaultWait(rtt time.Duration) time.Duration { return defaultWait(rtt) }
