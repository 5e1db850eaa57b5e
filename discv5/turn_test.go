package discv5_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/enr"
)

// A caller that reads the socket itself, to find its answer, serves everybody
// else meanwhile, and stops when it is told to, however long its own answer
// takes.
func TestCallerReadsForOthers(t *testing.T) {
	a, b := listen(t, discv5.Config{}), listen(t, discv5.Config{})
	turns := discv5.TurnsTaken(a)
	for range 500 { // one short round trip after the other
		if _, err := a.Ping(t.Context(), b.LocalRecord()); err != nil {
			t.Fatal(err)
		}
	}
	if discv5.TurnsTaken(a) == turns {
		t.Error("a caller never had the turn to read")
	}
	silent := silentRecord(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	ask := func(ctx context.Context) {
		_, err := a.Ping(ctx, silent)
		ended <- err
	}
	go ask(ctx)
	for range 50 {
		if _, err := b.Ping(t.Context(), a.LocalRecord()); err != nil {
			t.Fatalf("not served while a caller waits: %v", err)
		}
		if _, err := a.Ping(t.Context(), b.LocalRecord()); err != nil {
			t.Fatalf("not answered while another caller waits: %v", err)
		}
	}
	cancel()
	wantEnd(t, ended, context.Canceled)
	go ask(t.Context())
	if _, err := a.Ping(t.Context(), b.LocalRecord()); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, ended, discv5.ErrClosed)
}

func wantEnd(t *testing.T, ended <-chan error, want error) {
	t.Helper()
	if err := <-ended; !errors.Is(err, want) {
		t.Errorf("ended with %v, want %v", err, want)
	}
}

// silentRecord is the record of a node that never answers.
func silentRecord(t *testing.T) *enr.Record {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	var c enr.Content
	c.SetUDPEndpoint(conn.LocalAddr().(*net.UDPAddr).AddrPort())
	r, err := c.Sign(testKey(t, 77))
	if err != nil {
		t.Fatal(err)
	}
	return r
}
