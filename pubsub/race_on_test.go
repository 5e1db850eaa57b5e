//go:build race

package pubsub

// underRace says that the race detector is on, which makes everything some
// ten times slower.
const underRace = true
