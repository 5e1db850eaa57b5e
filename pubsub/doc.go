// Package pubsub speaks floodsub and gossipsub 1.0, 1.1 and 1.2 on go-libp2p
// hosts, to go-, js-, rust- and nim-libp2p as they are.
//
// Start with [NewGossipSub] or, with a [Config], with [New]; then
// [PubSub.Join] a topic, [Topic.Subscribe] to it and [Topic.Publish]. The
// names and signatures are those of go-libp2p-pubsub, so that a program
// written for it changes its import paths; docs/migration-pubsub.md in the
// repository says what is better and what is different.
//
// What it guarantees: a message is delivered once per subscription, within
// the bounds of its buffer; what is lost for want of room is counted
// ([PubSub.Stats], [Subscription.Dropped]) and shown to tracers, and what
// could not be published is an error. What strangers send is bounded before
// it is remembered. Payloads are not copied: a [Message] and its bytes are
// shared and must not be changed.
//
// What it does not do: the extensions of gossipsub 1.3, choke, episub.
//
// The router ([mesh], outbox, seen, cache, score …) is pure: it takes the
// time and what happened, and says what to do. Messages do not pass through
// its owner goroutine: the goroutine that read one from its sender verifies
// it and queues it for others.
//
// https://github.com/libp2p/specs/tree/master/pubsub
package pubsub
