// Package withpubsub holds a test that go-libp2p-pubsub finds its peers with
// our discovery. It has a module of its own: the product does not depend on
// that library.
package withpubsub
