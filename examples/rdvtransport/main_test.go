package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/rdv"
	"github.com/muster-p2p/muster/reach"
)

// TestRun has two of the program meet at a point and say something.
func TestRun(t *testing.T) {
	point := startPoint(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	start := func(to, says string) *bufio.Scanner {
		r, w := io.Pipe()
		wg.Go(func() {
			err := run(ctx, point, "", to, strings.NewReader(says+"\n"), w)
			if ctx.Err() == nil {
				t.Error(err)
				cancel() // nobody waits for what does not come
			}
			_ = w.CloseWithError(fmt.Errorf("ended: %w", err))
		})
		t.Cleanup(func() { _ = r.Close() })
		return bufio.NewScanner(r)
	}
	line := func(s *bufio.Scanner) string {
		t.Helper()
		if !s.Scan() {
			t.Fatal(s.Err())
		}
		return s.Text()
	}
	first := start("", "hello from the first")
	id := line(first)
	second := start(id, "hello from the second")
	other := line(second)
	if got, want := line(first), other+`: "hello from the second"`; got != want {
		t.Errorf("the first got %s, want %s", got, want)
	}
	if got, want := line(second), id+`: "hello from the first"`; got != want {
		t.Errorf("the second got %s, want %s", got, want)
	}
	cancel()
	for _, s := range []*bufio.Scanner{first, second} {
		for s.Scan() { // let it end
		}
	}
}

// startPoint returns the address of a point: reach and an rdv server.
func startPoint(t *testing.T) string {
	t.Helper()
	web := httptest.NewServer(&rdv.Server{})
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h, err := muster.NewHost(muster.HostConfig{Key: key, Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}})
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(web.URL, "http://"))
	calls, err := reach.NewServer(h, reach.Config{Servers: []string{"http://:" + port + "/"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = calls.Close(), h.Close()
		web.CloseClientConnections()
		web.Close()
	})
	return fmt.Sprintf("%s/p2p/%s", h.Addrs()[0], h.ID())
}
