package pubsub

import (
	"hash/maphash"
	"sync"
	"time"
)

// seenShardCount spreads the seen cache over so many locks: the readers of
// all peers ask it about every message.
const seenShardCount = 64

// A claim is what the seen cache says to whoever has a message.
type claim uint8

const (
	claimNew     claim = iota // ours to validate; settle has to follow
	claimPending              // somebody is validating another copy
	claimSeen                 // a duplicate
)

// seenShards is the seen cache, and the ids that are being validated: a
// message is marked seen only when its validation has settled, so that one
// that was dropped for want of room is not lost for the time to live.
type seenShards struct {
	hash   seenHasher
	shards [seenShardCount]seenShard
}

type seenShard struct {
	mu      sync.Mutex // guards what follows
	cache   *seenCache
	pending map[seenKey]struct{}
}

func newSeenShards(ttl time.Duration, maxIDs int, lastSeen bool) *seenShards {
	s := &seenShards{hash: newSeenHasher(maphash.MakeSeed(), maphash.MakeSeed())}
	for i := range s.shards {
		c := newSeenCache(ttl, maxIDs/seenShardCount)
		c.lastSeen = lastSeen
		s.shards[i] = seenShard{cache: c, pending: make(map[seenKey]struct{})}
	}
	return s
}

// shard takes bits that the cache itself does not use for its slots' homes.
func (s *seenShards) shard(k seenKey) *seenShard { return &s.shards[k[15]%seenShardCount] }

// claim asks for the right to validate k.
func (s *seenShards) claim(now time.Time, k seenKey) claim {
	sh := s.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if _, ok := sh.pending[k]; ok {
		return claimPending
	}
	if sh.cache.has(now, k) {
		return claimSeen
	}
	sh.pending[k] = struct{}{}
	return claimNew
}

// settle ends a claim; the message counts as seen from now on if seen is set.
func (s *seenShards) settle(now time.Time, k seenKey, seen bool) {
	sh := s.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	delete(sh.pending, k)
	if seen {
		sh.cache.add(now, k)
	}
}

// knows reports whether k was seen or is being validated.
func (s *seenShards) knows(now time.Time, k seenKey) bool {
	sh := s.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if _, ok := sh.pending[k]; ok {
		return true
	}
	return sh.cache.has(now, k)
}

// len returns how many ids are remembered.
func (s *seenShards) len() int {
	n := 0
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		n += sh.cache.len()
		sh.mu.Unlock()
	}
	return n
}
