package rdv_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/muster-p2p/muster/rdv"
)

// A server on a path of an existing HTTP server, and two clients that meet
// there.
func Example() {
	server := &rdv.Server{}
	defer server.Close() //nolint:errcheck // always nil
	mux := http.NewServeMux()
	mux.Handle("/rdv/", http.StripPrefix("/rdv/", server))
	h := httptest.NewServer(mux)
	defer h.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	go func() {
		conn, _, err := new(rdv.Client).Dial(ctx, h.URL+"/rdv/", "t0ken", nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer conn.Close()        //nolint:errcheck // the other side has read all
		fmt.Fprint(conn, "hello") // plain TCP: encrypt what is secret
		io.Copy(io.Discard, conn) //nolint:errcheck // until the other side closes
	}()
	conn, _, err := new(rdv.Client).Accept(ctx, h.URL+"/rdv/", "t0ken", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	greeting := make([]byte, len("hello"))
	if _, err := io.ReadFull(conn, greeting); err != nil {
		fmt.Println(err)
	}
	fmt.Printf("%s, relayed: %v\n", greeting, conn.IsRelay)
	conn.Close() //nolint:errcheck // nothing was written
	// Output: hello, relayed: false
}

// A client that only ever uses the relay, of a server that asks for a token.
func ExampleClient() {
	client := &rdv.Client{
		AddrSpaces: rdv.NoSpaces,
		Timeout:    10 * time.Second,
	}
	server := &rdv.Server{Access: rdv.BearerTokens("sesame")}
	h := httptest.NewServer(server)
	defer h.Close()
	defer server.Close() //nolint:errcheck // always nil

	_, resp, err := client.Dial(context.Background(), h.URL, "t0ken", nil)
	fmt.Println(resp.StatusCode, err)
	// Output: 401 rdv: bad http handshake: 401 Unauthorized: "unauthorized"
}

// A server that strangers can be let at.
func ExampleServer_HTTPServer() {
	server := &rdv.Server{
		LobbyTimeout: time.Minute,
		Handler:      &rdv.Relayer{IdleTimeout: 5 * time.Minute, PairRate: 10 << 20},
	}
	h := server.HTTPServer()
	h.Addr = ":8080"
	// h.ListenAndServe() serves until h.Close; then close the server as well.
	fmt.Println(h.ReadHeaderTimeout)
	// Output: 5s
}
