package pubsub

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// backoffs remembers until when which peer may not be grafted in which topic:
// both those that pruned us and those that we pruned.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md#prune-backoff-and-peer-exchange
//
// It has one owner.
type backoffs struct {
	maxPerTopic int
	topics      map[string]map[peer.ID]time.Time
	n           int
}

// newBackoffs makes an empty set that holds at most maxPerTopic peers in a
// topic. When it is full the newcomer takes the place of any other.
func newBackoffs(maxPerTopic int) *backoffs {
	return &backoffs{maxPerTopic: maxPerTopic, topics: map[string]map[peer.ID]time.Time{}}
}

// add sets p back until then, or later if it already is.
func (b *backoffs) add(topic string, p peer.ID, until time.Time) {
	peers := b.topics[topic]
	if peers == nil {
		peers = map[peer.ID]time.Time{}
		b.topics[topic] = peers
	}
	old, known := peers[p]
	if known && !until.After(old) {
		return
	}
	if !known {
		b.makeRoom(peers)
		b.n++
	}
	peers[p] = until
}

func (b *backoffs) makeRoom(peers map[peer.ID]time.Time) {
	if len(peers) < b.maxPerTopic {
		return
	}
	for p := range peers { // any one
		delete(peers, p)
		b.n--
		return
	}
}

// until is when p's backoff in topic ends, zero if it has none. One that has
// ended is kept until gc.
func (b *backoffs) until(topic string, p peer.ID) time.Time { return b.topics[topic][p] }

// gc drops what ended longer than slack ago. The slack keeps us from grafting a
// peer whose clock is a little behind, which would count as misbehaviour.
func (b *backoffs) gc(now time.Time, slack time.Duration) {
	for topic, peers := range b.topics {
		for p, until := range peers {
			if now.After(until.Add(slack)) {
				delete(peers, p)
				b.n--
			}
		}
		if len(peers) == 0 {
			delete(b.topics, topic)
		}
	}
}

// dropTopic forgets all backoffs of a topic.
func (b *backoffs) dropTopic(topic string) {
	b.n -= len(b.topics[topic])
	delete(b.topics, topic)
}

// len is the number of peers set back, over all topics.
func (b *backoffs) len() int { return b.n }
