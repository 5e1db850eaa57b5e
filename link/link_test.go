package link_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/muster-p2p/muster/link"
	"github.com/muster-p2p/muster/rdv"
)

// newServer returns the URL of an rdv server on loopback.
func newServer(t testing.TB) string {
	t.Helper()
	s := &rdv.Server{}
	s.Start()
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		s.Close() //nolint:errcheck // shutting down
		h.Close()
	})
	return h.URL
}

func newKey(t testing.TB) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newEndpoint(t testing.TB, cfg link.Config) *link.Endpoint {
	t.Helper()
	if cfg.Key == nil {
		cfg.Key = newKey(t)
	}
	e, err := link.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() }) //nolint:errcheck // always nil
	return e
}

// pair links two endpoints through servers.
func pair(t testing.TB, a, b *link.Endpoint, servers ...string) (dial, accept *link.Conn) {
	t.Helper()
	return pairAt(t, a, b, "a-token-of-128-bits", servers...)
}

func pairAt(t testing.TB, a, b *link.Endpoint, token string, servers ...string) (dial, accept *link.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	m := link.Meeting{Servers: servers, Token: token}
	type result struct {
		c   *link.Conn
		err error
	}
	accepted := make(chan result, 1)
	go func() {
		c, err := b.Accept(ctx, m, nil)
		accepted <- result{c, err}
	}()
	dial, err := a.Dial(ctx, b.ID(), m)
	if err != nil {
		t.Fatal(err)
	}
	got := <-accepted
	if got.err != nil {
		t.Fatal(got.err)
	}
	return dial, got.c
}

func exchange(t testing.TB, a, b *link.Conn, size int) {
	t.Helper()
	there, back := make([]byte, size), make([]byte, size/2)
	rand.Read(there)
	rand.Read(back)
	var wg sync.WaitGroup
	send := func(c *link.Conn, data []byte) {
		wg.Go(func() {
			if n, err := c.Write(data); err != nil {
				t.Error(n, err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
	}
	receive := func(c *link.Conn, want []byte) {
		wg.Go(func() {
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want) {
				t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
			}
		})
	}
	send(a, there)
	receive(b, there)
	send(b, back)
	receive(a, back)
	wg.Wait()
}

func TestRelayOnly(t *testing.T) {
	t.Parallel()
	a, b := newEndpoint(t, link.Config{Paths: link.RelayOnly}), newEndpoint(t, link.Config{})
	dial, accept := pair(t, a, b, newServer(t))
	if dial.RemotePeer() != b.ID() || accept.RemotePeer() != a.ID() {
		t.Errorf("peers %v and %v", dial.RemotePeer(), accept.RemotePeer())
	}
	exchange(t, dial, accept, 3<<20)
	if p := dial.Path(); p.Kind != link.Relay {
		t.Errorf("path %+v", p)
	}
	if err := dial.Close(); err != nil {
		t.Error(err)
	}
	if err := accept.Close(); err != nil {
		t.Error(err)
	}
}

func TestMovesToTheDirectPath(t *testing.T) {
	t.Parallel()
	a, b := newEndpoint(t, link.Config{}), newEndpoint(t, link.Config{})
	dial, accept := pair(t, a, b, newServer(t))
	for _, c := range []*link.Conn{dial, accept} {
		for ev := range c.Events() {
			if ev.Kind == link.Switched && ev.Path.Kind == link.Direct {
				break
			}
		}
	}
	exchange(t, dial, accept, 5<<20)
	if s := dial.Stats(); s.DirectSent < 5<<20 || s.Switches > 1 {
		t.Errorf("%+v", s)
	}
	if err := dial.Close(); err != nil {
		t.Error(err)
	}
	if err := accept.Close(); err != nil {
		t.Error(err)
	}
}

// TestAbort: the other end learns why.
func TestAbort(t *testing.T) {
	t.Parallel()
	a, b := pair(t, newEndpoint(t, link.Config{Paths: link.RelayOnly}), newEndpoint(t, link.Config{}), newServer(t))
	if _, err := a.Write([]byte("begin")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(b, got); err != nil {
		t.Fatal(err)
	}
	b.Abort("the disk is full")
	_, err := io.ReadAll(a)
	if err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("read: %v", err)
	}
	if _, err := a.Write([]byte("x")); err == nil {
		t.Error("wrote to a link that was broken off")
	}
	if _, err := b.Read(got); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after Abort: %v", err)
	}
	a.Close() //nolint:errcheck // broken off
}

// TestEndpointClose: every link ends with its endpoint, and dialling does, too.
func TestEndpointClose(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	a, b := newEndpoint(t, link.Config{}), newEndpoint(t, link.Config{})
	dial, accept := pair(t, a, b, server)
	dialling := make(chan error, 1)
	go func() {
		_, err := a.Dial(t.Context(), b.ID(), link.Meeting{Servers: []string{server}, Token: "nobody-comes"})
		dialling <- err
	}()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := <-dialling; err == nil {
		t.Error("dialled with a closed endpoint")
	}
	if _, err := dial.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	<-dial.Done()
	accept.Abort("the other end is gone")
	if _, err := a.Dial(t.Context(), b.ID(), link.Meeting{Servers: []string{server}, Token: "too-late"}); err == nil {
		t.Error("dialled with a closed endpoint")
	}
}

// TestMeetingIsChecked: what Dial and Accept refuse by themselves.
func TestMeetingIsChecked(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t, link.Config{})
	for name, m := range map[string]link.Meeting{
		"no server":    {Token: "t"},
		"five servers": {Servers: make([]string, 5), Token: "t"},
		"no token":     {Servers: []string{"http://127.0.0.1:1"}},
	} {
		if _, err := e.Dial(t.Context(), e.ID(), m); err == nil {
			t.Errorf("%s: dialled", name)
		}
		if _, err := e.Accept(t.Context(), m, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := e.Dial(t.Context(), "", link.Meeting{Servers: []string{"http://127.0.0.1:1"}, Token: "t"}); err == nil {
		t.Error("dialled nobody")
	}
	if _, err := link.New(link.Config{}); err == nil {
		t.Error("an endpoint without a key")
	}
	if _, err := e.Dial(t.Context(), newEndpoint(t, link.Config{}).ID(), link.Meeting{Servers: []string{"http://127.0.0.1:1"}, Token: "t"}); err == nil {
		t.Error("reached a server that is not there")
	}
}

// TestPeerClosesFirst: a peer that has everything may close at any time; who
// closes after it has not failed.
func TestPeerClosesFirst(t *testing.T) {
	t.Parallel()
	server, dialer, acceptor := newServer(t), newEndpoint(t, link.Config{}), newEndpoint(t, link.Config{})
	for _, wrote := range []string{"", "all of it was acknowledged"} {
		a, b := pairAt(t, dialer, acceptor, "closes-first-"+strconv.Itoa(len(wrote)), server)
		if _, err := a.Write([]byte(wrote)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(b, make([]byte, len(wrote))); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Errorf("Close of the first = %v", err)
		}
		<-a.Done()
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("Read = %v, want an end of file", err)
		}
		if _, err := a.Write([]byte("x")); !errors.Is(err, link.ErrPeerClosed) {
			t.Errorf("Write = %v, want ErrPeerClosed", err)
		}
		if err := a.CloseWrite(); err != nil {
			t.Errorf("CloseWrite = %v", err)
		}
		if err := a.Close(); err != nil {
			t.Errorf("Close of the second = %v", err)
		}
	}
}
