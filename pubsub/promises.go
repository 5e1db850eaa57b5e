package pubsub

import (
	"hash/maphash"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// maxAsked bounds how many ids that we asked a peer for are remembered.
const maxAsked = 1024

// promises tracks what peers announced and we asked them for: one message of
// each IWANT must arrive in time, from whomever, or the announcement was empty
// and counts as misbehaviour.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md#spam-protection-measures
//
// The default message ids of go, rust, nim and js differ. A peer with another
// id function announces what we cannot recognise when it comes, and would be
// punished for honesty. So a message from the peer that we never asked it for
// makes up for one of its promises.
//
// It has one owner.
type promises struct {
	followUp time.Duration
	seed     maphash.Seed
	byPeer   map[peer.ID]*peerPromises
	byID     map[string][]peer.ID // who promised it
	forgiven int                  // promises made up for, ever
}

type peerPromises struct {
	open  []promise           // oldest first
	asked map[uint64]struct{} // hashes of all ids we asked for, while any is open
}

type promise struct {
	id     string
	expire time.Time
}

// newPromises makes an empty set. A promise is broken after followUp.
func newPromises(followUp time.Duration, seed maphash.Seed) *promises {
	return &promises{followUp: followUp, seed: seed, byPeer: map[peer.ID]*peerPromises{}, byID: map[string][]peer.ID{}}
}

// add notes an IWANT to p for the ids asked, of which the caller has picked one
// at random to be watched.
func (s *promises) add(now time.Time, p peer.ID, id string, asked []string) {
	pp := s.byPeer[p]
	if pp == nil {
		pp = &peerPromises{asked: map[uint64]struct{}{}}
		s.byPeer[p] = pp
	}
	for _, a := range asked[:min(len(asked), max(maxAsked-len(pp.asked), 0))] {
		pp.asked[maphash.String(s.seed, a)] = struct{}{}
	}
	if slices.Contains(s.byID[id], p) {
		return
	}
	pp.open = append(pp.open, promise{id, now.Add(s.followUp)})
	s.byID[id] = append(s.byID[id], p)
}

// fulfilled notes that a copy of id arrived, from anyone.
func (s *promises) fulfilled(id string) {
	for _, p := range s.byID[id] {
		pp := s.byPeer[p]
		pp.open = slices.DeleteFunc(pp.open, func(o promise) bool { return o.id == id })
		s.settle(p, pp)
	}
	delete(s.byID, id)
}

// arrived notes that p sent id, new or not. It reports whether a promise of
// p's is forgiven, because we never asked p for id: then p uses another id
// function, or sends what nobody asked for, and either way it sends.
func (s *promises) arrived(p peer.ID, id string) bool {
	s.fulfilled(id)
	pp := s.byPeer[p]
	if pp == nil {
		return false
	}
	if _, ok := pp.asked[maphash.String(s.seed, id)]; ok {
		return false
	}
	s.unlist(pp.open[0].id, p)
	pp.open = slices.Delete(pp.open, 0, 1)
	s.settle(p, pp)
	s.forgiven++
	return true
}

// forget drops the promises of a peer that is gone.
func (s *promises) forget(p peer.ID) {
	if pp := s.byPeer[p]; pp != nil {
		for _, o := range pp.open {
			s.unlist(o.id, p)
		}
		delete(s.byPeer, p)
	}
}

// broken returns, and forgets, how many promises of whom were not kept in time.
func (s *promises) broken(now time.Time) map[peer.ID]int {
	var broken map[peer.ID]int
	for p, pp := range s.byPeer {
		n := 0
		for n < len(pp.open) && now.After(pp.open[n].expire) {
			s.unlist(pp.open[n].id, p)
			n++
		}
		if n == 0 {
			continue
		}
		if broken == nil {
			broken = map[peer.ID]int{}
		}
		broken[p] = n
		pp.open = slices.Delete(pp.open, 0, n)
		s.settle(p, pp)
	}
	return broken
}

// open is the number of promises that are neither kept nor broken.
func (s *promises) open() int {
	n := 0
	for _, pp := range s.byPeer {
		n += len(pp.open)
	}
	return n
}

// settle forgets a peer that owes nothing.
func (s *promises) settle(p peer.ID, pp *peerPromises) {
	if len(pp.open) == 0 {
		delete(s.byPeer, p)
	}
}

func (s *promises) unlist(id string, p peer.ID) {
	peers := slices.DeleteFunc(s.byID[id], func(q peer.ID) bool { return q == p })
	if len(peers) == 0 {
		delete(s.byID, id)
		return
	}
	s.byID[id] = peers
}
