package rdv

import (
	"net/http"
	"sync/atomic"
)

// serverStats counts what happens to clients until they have a peer.
type serverStats struct {
	verdicts [verdicts]atomic.Int64
	gone     atomic.Int64
	early    atomic.Int64
	expired  atomic.Int64
	panics   atomic.Int64
	evicted  atomic.Int64
	answers  [len(answerCodes)]atomic.Int64

	handOvers                  [handOverOutcomes]atomic.Int64
	exchanges, directoryErrors atomic.Int64
}

// relayStats counts what happens to pairs.
type relayStats struct {
	direct, relayed, silent, failed, rejected atomic.Int64
	idle, stuck                               atomic.Int64
	relaying                                  atomic.Int64
	bytes                                     atomic.Int64
}

// answerCodes are the statuses that a server refuses clients with.
var answerCodes = [...]int{
	http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout,
	http.StatusConflict, http.StatusUpgradeRequired, http.StatusTooManyRequests,
	http.StatusInternalServerError, http.StatusServiceUnavailable,
}

func (s *serverStats) answered(status int) {
	for i, code := range answerCodes {
		if code == status {
			s.answers[i].Add(1)
		}
	}
}

// ServerStats is a look at a [Server]. The counts of what is there now are
// first, the others only grow.
type ServerStats struct {
	Requests int // connections of HTTPServer that are not upgraded
	Waiting  int // clients in the lobby
	Pairs    int // pairs with the handler

	HandedOver int              // clients that are with other servers of the lobby
	HandOvers  map[string]int64 // by outcome: taken, nobody, failed, busy, lost and full of those passed on; in and refused of those received

	Directory       error // of the last call of the Directory
	DirectoryErrors int64 // calls of the Directory that failed

	Matched  int64         // pairs that found each other
	Gone     int64         // clients that left while they waited
	Expired  int64         // clients that waited for LobbyTimeout
	Replaced int64         // clients whose own newer connection took their seat
	Early    int64         // clients that sent data before the response
	Evicted  int64         // connections closed since there were too many requests
	Panics   int64         // handlers that panicked
	Refused  map[int]int64 // by HTTP status; includes the 400 of Early and the 408 of Expired
}

// Stats returns the counters. It may be called at any time.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	st := ServerStats{Requests: s.requests.len(), Waiting: len(s.lobby.seats), Pairs: s.pairs, HandedOver: s.shared.out, Directory: s.shared.err}
	s.mu.Unlock()
	st.Matched = s.stats.verdicts[matched].Load()
	st.Replaced = s.stats.verdicts[replaced].Load()
	st.Gone, st.Expired = s.stats.gone.Load(), s.stats.expired.Load()
	st.Early, st.Panics, st.Evicted = s.stats.early.Load(), s.stats.panics.Load(), s.stats.evicted.Load()
	st.DirectoryErrors = s.stats.directoryErrors.Load()
	st.HandOvers = make(map[string]int64, handOverOutcomes)
	for o := range handOverOutcomes {
		st.HandOvers[o.String()] = s.stats.handOvers[o].Load()
	}
	st.Refused = make(map[int]int64, len(answerCodes))
	for i, code := range answerCodes {
		if n := s.stats.answers[i].Load(); n > 0 {
			st.Refused[code] = n
		}
	}
	return st
}

// RelayStats is a look at a [Relayer]. All but Relaying only grow.
type RelayStats struct {
	Relaying int64 // pairs that are being relayed
	Bytes    int64 // relayed, both directions of all pairs

	Direct   int64 // pairs that found a connection of their own
	Relayed  int64 // pairs that picked the relay
	Silent   int64 // pairs whose dialer picked nothing within CommandTimeout
	Failed   int64 // pairs that went away or broke the protocol before a pick
	Rejected int64 // pairs that a handler rejected
	Idle     int64 // relayed pairs that IdleTimeout ended
	Stuck    int64 // relayed pairs that WriteTimeout ended
}

// Stats returns the counters. It may be called at any time.
func (r *Relayer) Stats() RelayStats {
	st := &r.stats
	return RelayStats{
		Relaying: st.relaying.Load(), Bytes: st.bytes.Load(),
		Direct: st.direct.Load(), Relayed: st.relayed.Load(), Silent: st.silent.Load(), Failed: st.failed.Load(),
		Rejected: st.rejected.Load(), Idle: st.idle.Load(), Stuck: st.stuck.Load(),
	}
}
