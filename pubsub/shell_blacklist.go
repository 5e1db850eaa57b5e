package pubsub

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A Blacklist holds peers whose messages are dropped. A PubSub calls it from
// one goroutine at a time.
type Blacklist interface {
	// Add reports whether the peer is on the list now.
	Add(peer.ID) bool
	// Contains reports whether the peer is on the list.
	Contains(peer.ID) bool
}

// A MapBlacklist is a blacklist that grows and never forgets.
type MapBlacklist map[peer.ID]struct{}

// NewMapBlacklist returns an empty MapBlacklist.
func NewMapBlacklist() Blacklist { return MapBlacklist(make(map[peer.ID]struct{})) }

// Add implements Blacklist.
func (b MapBlacklist) Add(p peer.ID) bool {
	b[p] = struct{}{}
	return true
}

// Contains implements Blacklist.
func (b MapBlacklist) Contains(p peer.ID) bool {
	_, ok := b[p]
	return ok
}

// A TimeCachedBlacklist forgets a peer some time after it was added.
type TimeCachedBlacklist struct {
	mu     sync.Mutex // guards until
	until  map[peer.ID]time.Time
	expiry time.Duration
}

// NewTimeCachedBlacklist returns a blacklist that forgets a peer after expiry.
func NewTimeCachedBlacklist(expiry time.Duration) (Blacklist, error) {
	return &TimeCachedBlacklist{until: make(map[peer.ID]time.Time), expiry: expiry}, nil
}

// Add implements Blacklist; it reports false for a peer that is listed already.
func (b *TimeCachedBlacklist) Add(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for q, t := range b.until {
		if now.After(t) {
			delete(b.until, q)
		}
	}
	if _, ok := b.until[p]; ok {
		return false
	}
	b.until[p] = now.Add(b.expiry)
	return true
}

// Contains implements Blacklist.
func (b *TimeCachedBlacklist) Contains(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.until[p]
	return ok && !time.Now().After(t)
}

// blacklisted asks the list, if there can be anything on it.
func (ps *PubSub) blacklisted(id peer.ID) bool {
	if !ps.blackUsed.Load() {
		return false
	}
	ps.blackMu.Lock()
	defer ps.blackMu.Unlock()
	return ps.cfg.Blacklist.Contains(id)
}

// BlacklistPeer puts a peer on the blacklist: what it sends, and what it
// wrote, is dropped from now on.
func (ps *PubSub) BlacklistPeer(id peer.ID) {
	ps.blackMu.Lock()
	ps.cfg.Blacklist.Add(id)
	ps.blackMu.Unlock()
	ps.blackUsed.Store(true)
	ps.post(func(now time.Time) { ps.dropPeer(now, id) })
}
