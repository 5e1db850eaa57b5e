package pubsub

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// KnownTopics is the number of topics that the router remembers.
func (ps *PubSub) KnownTopics() (n int) {
	_ = ps.do(func(time.Time) { n = len(ps.mesh.topics) })
	return n
}

// Connected tells of a new connection to a peer.
func (ps *PubSub) Connected(id peer.ID) { ps.connected(id) }

// UnderRace says that the race detector is on.
const UnderRace = underRace
