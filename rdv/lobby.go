package rdv

import (
	"net/netip"
	"time"
)

// A lobby holds the clients whose peer has not come yet: one for each token,
// since two with different methods are a pair. It does not know what a client
// is, and it is not safe for concurrent use.
type lobby[T any] struct {
	max       int           // seats in all; 0 is no limit
	maxPerKey int           // seats for one source; 0 is no limit
	timeout   time.Duration // how long a seat is kept; 0 is for ever. It may change

	seats map[string]*seat[T] // by token
	taken map[netip.Addr]int  // by source key, zeros removed
	first *seat[T]            // all of them, the longest waiting first
	last  *seat[T]
}

// A seat is a client in the lobby. The owner fills in the first four fields
// and never touches them again.
type seat[T any] struct {
	client T
	method string // DIAL or ACCEPT
	token  string
	source netip.Addr

	since      time.Time // it was taken
	prev, next *seat[T]
}

// A verdict is what the lobby says to a newcomer.
type verdict uint8

const (
	seated     verdict = iota + 1 // waits now
	matched                       // its peer was waiting and has left the lobby with it
	replaced                      // waits now, instead of its own older connection
	occupied                      // somebody else waits with this token and method
	sourceFull                    // its source has all the seats that it may have
	lobbyFull                     // no seat is left
	pairsFull                     // of a server: its peer was waiting, and both are sent away
	absent                        // of a server: another one sent it here, and nobody waits with its token
)

const verdicts = int(absent) + 1 // how many there are

func (v verdict) String() string {
	switch v {
	case seated:
		return "seated"
	case matched:
		return "matched"
	case replaced:
		return "replaced"
	case occupied:
		return "occupied"
	case sourceFull:
		return "source full"
	case lobbyFull:
		return "lobby full"
	case pairsFull:
		return "pairs full"
	case absent:
		return "nobody waits"
	default:
		return "unknown"
	}
}

// join decides on the newcomer s. With matched, the other seat is the peer's;
// with replaced, the one that s took the place of; it has left the lobby in
// both cases. A match needs no free seat.
//
// A newcomer with the token and method of a client that waits takes its place
// only from the same address, as a client does whose connection broke without
// the server noticing: from elsewhere it would be a way to throw others out.
func (l *lobby[T]) join(now time.Time, s *seat[T]) (verdict, *seat[T]) {
	other := l.seats[s.token]
	switch {
	case other != nil && other.method != s.method:
		l.leave(other)
		return matched, other
	case other != nil && other.source != s.source:
		return occupied, nil
	case other != nil:
		l.leave(other)
		l.sit(now, s)
		return replaced, other
	case l.maxPerKey > 0 && l.taken[sourceKey(s.source)] >= l.maxPerKey:
		return sourceFull, nil
	case l.max > 0 && len(l.seats) >= l.max:
		return lobbyFull, nil
	}
	l.sit(now, s)
	return seated, nil
}

func (l *lobby[T]) sit(now time.Time, s *seat[T]) {
	if l.seats == nil {
		l.seats = make(map[string]*seat[T])
		l.taken = make(map[netip.Addr]int)
	}
	s.since = now
	l.seats[s.token] = s
	l.taken[sourceKey(s.source)]++
	s.prev, s.next = l.last, nil
	if l.last != nil {
		l.last.next = s
	} else {
		l.first = s
	}
	l.last = s
}

// leave gives the seat back, and reports whether s had one.
func (l *lobby[T]) leave(s *seat[T]) bool {
	if l.seats[s.token] != s {
		return false
	}
	delete(l.seats, s.token)
	key := sourceKey(s.source)
	if l.taken[key]--; l.taken[key] == 0 {
		delete(l.taken, key)
	}
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		l.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		l.last = s.prev
	}
	s.prev, s.next = nil, nil
	return true
}

// expire returns the next client whose time is up, without its seat; nil if
// there is none.
func (l *lobby[T]) expire(now time.Time) *seat[T] {
	s := l.first
	if s == nil || l.timeout <= 0 || now.Before(s.since.Add(l.timeout)) {
		return nil
	}
	l.leave(s)
	return s
}

// next is when to call expire again; zero if nobody's time runs.
func (l *lobby[T]) next() time.Time {
	if l.first == nil || l.timeout <= 0 {
		return time.Time{}
	}
	return l.first.since.Add(l.timeout)
}

// sourceKey is what limits are counted by: an IPv4 address, or the /64 that a
// host of IPv6 takes its addresses from (RFC 4291, section 2.5.1).
func sourceKey(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if !ip.Is6() {
		return ip
	}
	p, err := ip.Prefix(64)
	if err != nil {
		return ip
	}
	return p.Addr()
}
