package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/access"
)

func TestClock(t *testing.T) {
	point, err := muster.New(muster.Config{
		Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")},
		Point:  &muster.PointConfig{HTTP: "127.0.0.1:0", Policy: access.Policy{Relay: access.OpenToEach}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := point.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = point.Close() }()
	addr := fmt.Sprintf("%s/p2p/%s", point.Host().Addrs()[0], point.ID())

	ctx, stop := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{addr}, "", w) }()
	lines := bufio.NewScanner(r)
	if !lines.Scan() {
		t.Fatal(<-ended)
	}
	var out strings.Builder
	if err := run(t.Context(), []string{addr, lines.Text()}, "", &out); err != nil || !strings.HasPrefix(out.String(), "it is 20") {
		t.Errorf("%q, %v", &out, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
