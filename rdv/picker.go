package rdv

import (
	"slices"
	"time"
)

// A Picker decides which connection a dialer uses. Pick is called when both
// peers begin to connect; candidates then brings the relayed connection, and
// direct ones as they are made. Pick drains candidates and returns all that
// came, the chosen one first; it owns them until then and must not read from
// or write to them. The channel is closed when the attempt is over: because
// the context or the client's time-out ended it, because nothing further can
// succeed, or because Pick called cancel.
type Picker interface {
	Pick(candidates chan *Conn, cancel func()) (conns []*Conn)
}

// PickFirst returns a picker that takes whatever is there first, which is
// mostly the relay.
func PickFirst() Picker { return pickFirst{} }

// WaitConstant returns a picker that always waits for timeout, for debugging
// and statistics. It prefers direct connections in the order they came.
func WaitConstant(timeout time.Duration) Picker { return waitConstant{timeout} }

// WaitForP2P returns a picker that takes the first direct connection, or the
// relay once timeout is over. A direct connection takes two to three round
// trips between the peers. Any time-out of the application must be a good deal
// longer, as reaching the server and waiting for the peer come before.
func WaitForP2P(timeout time.Duration) Picker { return waitForP2P{timeout} }

type pickFirst struct{}

func (pickFirst) Pick(candidates chan *Conn, cancel func()) (conns []*Conn) {
	for c := range candidates {
		conns = append(conns, c)
		cancel()
	}
	return conns
}

type waitConstant struct{ timeout time.Duration }

func (p waitConstant) Pick(candidates chan *Conn, cancel func()) (conns []*Conn) {
	defer time.AfterFunc(p.timeout, cancel).Stop()
	for c := range candidates {
		conns = append(conns, c)
	}
	return directFirst(conns)
}

type waitForP2P struct{ timeout time.Duration }

func (p waitForP2P) Pick(candidates chan *Conn, cancel func()) (conns []*Conn) {
	defer time.AfterFunc(p.timeout, cancel).Stop()
	for c := range candidates {
		conns = append(conns, c)
		if !c.IsRelay {
			cancel()
		}
	}
	return directFirst(conns)
}

func directFirst(conns []*Conn) []*Conn {
	slices.SortStableFunc(conns, func(a, b *Conn) int {
		switch {
		case a.IsRelay == b.IsRelay:
			return 0
		case b.IsRelay:
			return -1
		default:
			return 1
		}
	})
	return conns
}

// defaultWait is how long a dialer with no Picker waits for a direct
// connection, given the round trip to the server. The peers may be as far from
// each other as both round trips together, and a direct connection takes two
// of those; a lost SYN comes again after one second.
func defaultWait(rtt time.Duration) time.Duration {
	const floor, roof = time.Second, 5 * time.Second
	return min(max(6*rtt, floor), roof)
}
