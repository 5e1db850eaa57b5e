package rdv_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/muster-p2p/muster/rdv"
)

type met struct {
	e   *rdv.Encounter
	err error
}

// meet introduces two clients by Meet.
func meet(t *testing.T, addr string, dialer, acceptor *rdv.Client) (dial, accept *rdv.Encounter) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel() // what was introduced lives on
	accepted := make(chan met, 1)
	go func() {
		e, _, err := acceptor.Meet(ctx, rdv.ACCEPT, addr, t.Name(), nil)
		accepted <- met{e, err}
	}()
	dial, _, err := dialer.Meet(ctx, rdv.DIAL, addr, t.Name(), nil)
	got := <-accepted
	if err != nil || got.err != nil {
		t.Fatalf("dial: %v, accept: %v", err, got.err)
	}
	for _, e := range []*rdv.Encounter{dial, got.e} {
		t.Cleanup(func() {
			e.Relay.Close() //nolint:errcheck // the test is over
			e.Close()       //nolint:errcheck // always nil
		})
	}
	return dial, got.e
}

func TestMeetRelayAtOnceThenDirect(t *testing.T) {
	t.Parallel()
	dial, accept := meet(t, newServer(t), &rdv.Client{}, &rdv.Client{})
	if !dial.Relay.IsRelay || !accept.Relay.IsRelay || dial.RTT <= 0 {
		t.Fatalf("relay %v and %v, rtt %v", dial.Relay.IsRelay, accept.Relay.IsRelay, dial.RTT)
	}
	exchange(t, dial.Relay, accept.Relay)

	// Both ends of each direct connection come; the dialer speaks on one.
	d := <-dial.Direct()
	if _, err := d.Write([]byte("hello, directly")); err != nil {
		t.Fatal(err)
	}
	if err := d.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 16)
	for a := range accept.Direct() {
		go func() {
			b, err := io.ReadAll(a)
			if err == nil {
				heard <- string(b)
			}
			a.Close() //nolint:errcheck // read to its end
		}()
		if a.RemoteAddr().String() == d.LocalAddr().String() {
			break
		}
	}
	if got := <-heard; got != "hello, directly" {
		t.Errorf("heard %q", got)
	}
	d.Close() //nolint:errcheck // the test is over
}

func TestMeetRelayOnly(t *testing.T) {
	t.Parallel()
	dial, accept := meet(t, newServer(t), &rdv.Client{AddrSpaces: rdv.NoSpaces}, &rdv.Client{})
	exchange(t, dial.Relay, accept.Relay)
	for c := range dial.Direct() {
		t.Errorf("direct connection to %v", c.RemoteAddr())
	}
}

func TestMeetErrors(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	addr := newServer(t)
	for _, c := range []struct{ method, addr, token string }{
		{"GET", addr, "t"}, {rdv.DIAL, addr, ""}, {rdv.DIAL, "ftp://x", "t"}, {rdv.DIAL, "://", "t"},
	} {
		if _, _, err := (&rdv.Client{}).Meet(ctx, c.method, c.addr, c.token, nil); err == nil {
			t.Errorf("%v: no error", c)
		}
	}
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, _, err := (&rdv.Client{}).Meet(ctx, rdv.ACCEPT, addr, "t", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	_, resp, err := (&rdv.Client{}).Meet(t.Context(), rdv.ACCEPT, addr, "token with spaces", nil)
	if !errors.Is(err, rdv.ErrBadHandshake) || resp == nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("refused: %v, %v", resp, err)
	}
}
