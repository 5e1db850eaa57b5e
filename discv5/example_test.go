package discv5_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/enr"
)

// exampleNode starts a node on this machine.
func exampleNode(bootnodes ...*enr.Record) *discv5.Node {
	key, err := enr.GenerateKey()
	if err != nil {
		log.Fatal(err)
	}
	n, err := discv5.Listen(discv5.Config{
		Key:       key,
		Listen:    []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		Bootnodes: bootnodes,

		HandshakeTimeout: patience, // the default is for the Internet
		ResponseTimeout:  patience,
	})
	if err != nil {
		log.Fatal(err)
	}
	return n
}

// One node asks another for a sign of life.
func ExampleListen() {
	a, b := exampleNode(), exampleNode()
	defer a.Close() //nolint:errcheck // an example
	defer b.Close() //nolint:errcheck // an example

	pong, err := a.Ping(context.Background(), b.LocalRecord())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(pong.Seq == b.LocalRecord().Seq())
	// Output: true
}

// An application's own protocol rides on the node's sessions.
func ExampleNode_RegisterTalkProtocol() {
	a, b := exampleNode(), exampleNode()
	defer a.Close() //nolint:errcheck // an example
	defer b.Close() //nolint:errcheck // an example

	err := b.RegisterTalkProtocol("greet", func(_ context.Context, req discv5.TalkRequest) []byte {
		return append([]byte("hello, "), req.Payload...)
	})
	if err != nil {
		log.Fatal(err)
	}
	answer, err := a.TalkRequest(context.Background(), b.LocalRecord(), "greet", []byte("a"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", answer)
	// Output: hello, a
}

// Resolve finds the newest record of a node by its ID.
func ExampleNode_Resolve() {
	b := exampleNode()
	defer b.Close() //nolint:errcheck // an example
	a := exampleNode(b.LocalRecord())
	defer a.Close() //nolint:errcheck // an example

	r, err := a.Resolve(context.Background(), b.ID())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Equal(b.LocalRecord()))
	// Output: true
}
