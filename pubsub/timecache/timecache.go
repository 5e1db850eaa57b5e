// Package timecache names the ways in which message ids expire, for programs
// written for go-libp2p-pubsub: give a [Strategy] to
// pubsub.WithSeenMessagesStrategy. It holds no cache.
package timecache

// A Strategy says from when on the time to live of a message id counts.
type Strategy uint8

const (
	// Strategy_FirstSeen counts from the first copy of the message.
	Strategy_FirstSeen Strategy = iota //nolint:revive // the name that users of go-libp2p-pubsub know
	// Strategy_LastSeen counts from the last.
	Strategy_LastSeen //nolint:revive // see Strategy_FirstSeen
)
