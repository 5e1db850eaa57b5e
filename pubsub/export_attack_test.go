package pubsub

import "time"

// KnownTopics is the number of topics that the router remembers.
func (ps *PubSub) KnownTopics() (n int) {
	_ = ps.do(func(time.Time) { n = len(ps.mesh.topics) })
	return n
}

// UnderRace says that the race detector is on.
const UnderRace = underRace
