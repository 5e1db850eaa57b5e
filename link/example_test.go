package link_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http/httptest"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/muster-p2p/muster/link"
	"github.com/muster-p2p/muster/rdv"
)

func Example() {
	// A server for two peers to meet at; any rdv server will do.
	server := &rdv.Server{}
	server.Start()
	defer server.Close() //nolint:errcheck // the example is over
	h := httptest.NewServer(server)
	defer h.Close()
	meeting := link.Meeting{Servers: []string{h.URL}, Token: rand.Text()}

	endpoint := func() *link.Endpoint {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			panic(err)
		}
		e, err := link.New(link.Config{Key: key})
		if err != nil {
			panic(err)
		}
		return e
	}
	alice, bob := endpoint(), endpoint()
	defer alice.Close() //nolint:errcheck // always nil
	defer bob.Close()   //nolint:errcheck // always nil

	ctx := context.Background()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := bob.Accept(ctx, meeting, nil)
		if err != nil {
			panic(err)
		}
		defer conn.Close() //nolint:errcheck // alice has closed
		text, err := io.ReadAll(conn)
		fmt.Printf("%s, from who it should be: %v, %v\n", text, conn.RemotePeer() == alice.ID(), err)
	}()
	conn, err := alice.Dial(ctx, bob.ID(), meeting)
	if err != nil {
		panic(err)
	}
	fmt.Fprint(conn, "hello")
	if err := conn.Close(); err != nil { // waits until bob has it
		panic(err)
	}
	<-done
	// Output: hello, from who it should be: true, <nil>
}
