package discv5

import (
	"net/netip"
	"time"
)

// An endpoint is taken from the PONGs of others only if many of them, on many
// networks, agree: a liar has one network or a few.
const (
	voteLife       = 5 * time.Minute
	minVoters      = 10
	minVoteNets    = 5
	votesPerNet    = 2   // of one network that count for one endpoint
	maxVotes       = 500 // remembered; the oldest makes room
	majorityFactor = 2   // the winner has more than 1/2 of the votes
)

// An ipVote collects what peers say our endpoint is. One peer has one vote,
// and a peer counts by its network, since node IDs are free.
// https://github.com/ethereum/devp2p/blob/master/discv5/discv5-theory.md#maintaining-the-local-node-record
type ipVote struct {
	votes map[voter]vote
}

type voter struct {
	at endpoint
	v4 bool // of what family the vote is
}

type vote struct {
	endpoint netip.AddrPort
	net      netip.Addr
	when     time.Time
}

func newIPVote() *ipVote { return &ipVote{votes: make(map[voter]vote)} }

// add records the vote of the peer at for ap. An endpoint that no stranger
// could reach, or that is in another space than the voter, is no vote.
func (v *ipVote) add(now time.Time, at endpoint, ap netip.AddrPort) {
	if spaceOf(ap.Addr()) == spaceNone || ap.Port() == 0 || spaceOf(ap.Addr()) != spaceOf(at.addr.Addr()) {
		return
	}
	k := voter{at, ap.Addr().Is4()}
	if _, ok := v.votes[k]; !ok && len(v.votes) >= maxVotes {
		v.dropOldest()
	}
	v.votes[k] = vote{endpoint: ap, net: subnetOf(at.addr.Addr()), when: now}
}

func (v *ipVote) dropOldest() {
	var oldest voter
	var when time.Time
	for k, o := range v.votes {
		if when.IsZero() || o.when.Before(when) {
			oldest, when = k, o.when
		}
	}
	delete(v.votes, oldest)
}

// winner returns the endpoint of one family that the peers agree on.
func (v *ipVote) winner(now time.Time, v4 bool) (netip.AddrPort, bool) {
	type tally struct {
		net      netip.Addr
		endpoint netip.AddrPort
	}
	perNet := make(map[tally]int)
	voters := make(map[netip.AddrPort]int)
	nets := make(map[netip.AddrPort]int)
	all := 0
	for k, o := range v.votes {
		if now.Sub(o.when) > voteLife {
			delete(v.votes, k)
			continue
		}
		if k.v4 != v4 {
			continue
		}
		t := tally{o.net, o.endpoint}
		if perNet[t] == votesPerNet {
			continue
		}
		if perNet[t]++; perNet[t] == 1 {
			nets[o.endpoint]++
		}
		voters[o.endpoint]++
		all++
	}
	for ap, n := range voters {
		if n >= minVoters && nets[ap] >= minVoteNets && n*majorityFactor > all {
			return ap, true
		}
	}
	return netip.AddrPort{}, false
}
