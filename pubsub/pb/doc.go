// Package pubsub_pb holds the messages of libp2p pubsub as plain structs, under
// the names that users of go-libp2p-pubsub know: message-id functions,
// validators and tracers are written against them. Start with [Message].
//
// The structs carry no encoding: frames are read and written by pubsub/wire,
// which does not copy them. A nil pointer or slice is an absent field. The
// values are not safe for concurrent change.
package pubsub_pb
