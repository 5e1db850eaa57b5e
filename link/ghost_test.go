package link

import (
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/muster-p2p/muster/rdv"
)

// TestGhost: an end that changed its address while it waited finds itself in
// the lobby, where it may not sit down in its own place. It meets itself first.
func TestGhost(t *testing.T) {
	t.Parallel()
	// Every request comes from another address.
	var requests atomic.Uint32
	s := &rdv.Server{ObservedAddrFunc: func(*http.Request) (netip.AddrPort, error) {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(requests.Add(1))}), 0), nil
	}}
	s.Start()
	h := httptest.NewServer(s)
	defer h.Close()
	defer s.Close() //nolint:errcheck // the test is over
	endpoint := func() *Endpoint {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		e, err := New(Config{Key: key, Paths: RelayOnly})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() }) //nolint:errcheck // always nil
		return e
	}
	for _, method := range []string{rdv.ACCEPT, rdv.DIAL} {
		a, b := endpoint(), endpoint()
		m := Meeting{Servers: []string{h.URL}, Token: "ghost-of-" + method}
		accepted := make(chan *Conn, 1)
		go func() {
			c, err := b.Accept(t.Context(), m, nil)
			if err != nil {
				t.Error(err)
			}
			accepted <- c
		}()
		dial, err := a.Dial(t.Context(), b.id, m)
		if err != nil {
			t.Fatal(err)
		}
		accept := <-accepted
		if accept == nil {
			return
		}
		if err := dial.Confirmed(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The ghost waits, and says nothing to whom it meets.
		met := make(chan net.Conn, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		before := requests.Load()
		go func() {
			c := &rdv.Client{AddrSpaces: rdv.NoSpaces}
			enc, _, err := c.Meet(ctx, method, h.URL, dial.secret.resumeToken(), nil)
			if err != nil {
				t.Error(err)
				close(met)
				return
			}
			enc.Close() //nolint:errcheck // always nil
			met <- enc.Relay
		}()
		for requests.Load() == before {
			time.Sleep(time.Millisecond) // until the server has it in its lobby
		}
		time.Sleep(20 * time.Millisecond)
		start := time.Now()
		for _, c := range []*Conn{dial, accept} {
			c.mu.Lock()
			for _, p := range c.paths {
				p.close()
			}
			c.mu.Unlock()
		}
		if _, err := dial.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(accept, make([]byte, 1)); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took >= secureTimeout { // as long as a ghost is given where anybody may come
			t.Errorf("ghost of %s: resumed after %v", method, took)
		} else {
			t.Logf("ghost of %s: resumed after %v", method, took)
		}
		if ghost := <-met; ghost != nil {
			ghost.Close() //nolint:errcheck // the test is over
		}
		dial.Abort("the test is over")
		accept.Abort("the test is over")
	}
}
