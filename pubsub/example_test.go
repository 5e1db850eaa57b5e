package pubsub_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/pubsub"
)

// exampleHost returns a host on loopback; a program has its own.
func exampleHost() host.Host {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		panic(err)
	}
	h, err := muster.NewHost(muster.HostConfig{Key: key, Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}})
	if err != nil {
		panic(err)
	}
	return h
}

// Two peers, one topic: the calls are those of go-libp2p-pubsub.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	alice, bob := exampleHost(), exampleHost()
	defer alice.Close() //nolint:errcheck // an example
	defer bob.Close()   //nolint:errcheck // an example

	says, err := pubsub.NewGossipSub(ctx, alice)
	if err != nil {
		fmt.Println(err)
		return
	}
	hears, err := pubsub.NewGossipSub(ctx, bob)
	if err != nil {
		fmt.Println(err)
		return
	}
	news, err := hears.Join("news")
	if err != nil {
		fmt.Println(err)
		return
	}
	sub, err := news.Subscribe()
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := alice.Connect(ctx, peer.AddrInfo{ID: bob.ID(), Addrs: bob.Addrs()}); err != nil {
		fmt.Println(err)
		return
	}
	topic, err := says.Join("news")
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := topic.Publish(ctx, []byte("hello"), pubsub.WithReadiness(pubsub.MinTopicSize(1))); err != nil {
		fmt.Println(err)
		return
	}
	msg, err := sub.Next(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s, from its author: %v\n", msg.Data, msg.GetFrom() == alice.ID())
	// Output: hello, from its author: true
}

// A validator decides what a topic carries, and what costs a peer its score.
func ExamplePubSub_RegisterTopicValidator() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	h := exampleHost()
	defer h.Close() //nolint:errcheck // an example
	ps, err := pubsub.NewGossipSub(ctx, h)
	if err != nil {
		fmt.Println(err)
		return
	}
	short := func(_ context.Context, _ peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		if len(m.Data) > 4 {
			return pubsub.ValidationReject
		}
		return pubsub.ValidationAccept
	}
	if err := ps.RegisterTopicValidator("notes", short); err != nil {
		fmt.Println(err)
		return
	}
	notes, err := ps.Join("notes")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(notes.Publish(ctx, []byte("brief")) != nil, notes.Publish(ctx, []byte("ok")))
	// Output: true <nil>
}
