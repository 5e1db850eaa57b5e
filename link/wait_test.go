package link

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/muster-p2p/muster/rdv"
)

// meetingAt returns endpoints and a meeting at a server of their own.
func meetingAt(t *testing.T, n int, token string) ([]*Endpoint, Meeting) {
	t.Helper()
	s := &rdv.Server{}
	s.Start()
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		s.Close() //nolint:errcheck // shutting down
		h.Close()
	})
	var list []*Endpoint
	for range n {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		e, err := New(Config{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() }) //nolint:errcheck // always nil
		list = append(list, e)
	}
	return list, Meeting{Servers: []string{h.URL}, Token: token}
}

// accepting calls Accept until it returns.
func accepting(t *testing.T, e *Endpoint, m Meeting) <-chan *Conn {
	accepted := make(chan *Conn, 1)
	go func() {
		c, err := e.Accept(t.Context(), m, nil)
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	return accepted
}

// TestAcceptAsksAgain: an Accept outlasts its time in the lobby, though nobody
// has ever come.
func TestAcceptAsksAgain(t *testing.T) {
	t.Parallel()
	e, m := meetingAt(t, 2, "late-for-dinner")
	e[1].wait = 2 * time.Second // a busy machine takes a while to get to the server
	accepted := accepting(t, e[1], m)
	select {
	case <-accepted:
		t.Fatal("nobody came")
	case <-time.After(2*e[1].wait + e[1].wait/2):
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // where Accept has ended, Dial does not
	defer cancel()
	c, err := e[0].Dial(ctx, e[1].id, m)
	if err != nil {
		t.Fatal(err)
	}
	c.Abort("the test is over")
	if c := <-accepted; c != nil {
		c.Abort("the test is over")
	}
}

// TestWrongCallKeepsNobodyOut: who looked for somebody else is followed by the
// next caller at once.
func TestWrongCallKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	e, m := meetingAt(t, 3, "wrong-number")
	accepted := accepting(t, e[1], m)
	if _, err := e[0].Dial(t.Context(), e[2].id, m); !errors.Is(err, ErrIdentity) {
		t.Fatal(err)
	}
	start := time.Now()
	c, err := e[0].Dial(t.Context(), e[1].id, m)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took >= orphanPause {
		t.Errorf("took %v", took)
	}
	c.Abort("the test is over")
	if c := <-accepted; c != nil {
		c.Abort("the test is over")
	}
}
