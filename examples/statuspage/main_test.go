package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/muster-p2p/muster/admin"
)

func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- run(ctx, "127.0.0.1:0", strings.NewReader("freeze\n"), w) }()
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	s, err := (&admin.Client{Addr: strings.TrimSpace(url)}).Status(ctx)
	if err != nil || s.Rendezvous.Registrations == 0 || len(s.Links) == 0 {
		t.Errorf("%+v, %v", s, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
