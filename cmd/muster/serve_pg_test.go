//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/muster-p2p/muster/rdv"
)

// TestServeOverOneDatabase: a name that is registered at one point is found at
// another, and peers that reach different points are matched.
func TestServeOverOneDatabase(t *testing.T) {
	store := newDatabase(t)
	args := []string{"--store", store, "--relay-access", "open", "--i-know-this-is-an-open-relay"}
	a, b := startDaemon(t, args...), startDaemon(t, args...)
	if code, _, errs := musterRun(t.Context(), "rendezvous", "register", "lab", "--point", a.addr, "--addr", "/ip4/192.0.2.7/tcp/1"); code != 0 {
		t.Fatal(errs)
	}
	wantNamed(t, b.addr, "lab", "192.0.2.7")
	c := &rdv.Client{AddrSpaces: rdv.NoSpaces, Picker: rdv.PickFirst()}
	accepted := make(chan error, 1)
	go func() {
		conn, _, err := c.Accept(t.Context(), b.ready.RDV[0], "room", nil)
		if err == nil {
			err = conn.Close()
		}
		accepted <- err
	}()
	conn, _, err := c.Dial(t.Context(), a.ready.RDV[0], "room", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-accepted, conn.Close()); err != nil {
		t.Error(err)
	}
}

// TestBanOverOneDatabase: what a banned peer has registered ends at all points,
// also if only one of them has banned it.
func TestBanOverOneDatabase(t *testing.T) {
	store := newDatabase(t)
	a := startDaemon(t, "--store", store)
	bad, badID := newKeyFile(t)
	good, goodID := newKeyFile(t)
	for _, key := range []string{bad, good} {
		want(t, exitOK, "rendezvous", "register", "lab", "--point", a.addr, "--addr", "/ip4/192.0.2.7/tcp/1", "--key", key)
	}
	startDaemon(t, "--store", store, "--access-banned", badID)
	late := time.Now().Add(10 * time.Second)
	for {
		out := want(t, exitOK, "rendezvous", "discover", "lab", "--point", a.addr)
		if !strings.Contains(out, goodID) {
			t.Fatalf("lists %s", out)
		}
		if !strings.Contains(out, badID) {
			return
		}
		if time.Now().After(late) {
			t.Fatal("the banned peer is still listed")
		}
	}
}

// wantNamed waits until a point lists something under a name: what another one
// has been told is there within a second.
func wantNamed(t *testing.T, point, name, listed string) {
	t.Helper()
	late := time.Now().Add(10 * time.Second)
	for {
		code, out, errs := musterRun(t.Context(), "rendezvous", "discover", name, "--point", point)
		if strings.Contains(out, listed) {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%s is not listed under %s: exit %d, %s %s", listed, name, code, out, errs)
		}
	}
}

// newDatabase returns the URL of a schema of its own.
func newDatabase(t *testing.T) string {
	t.Helper()
	base := os.Getenv("MUSTER_TEST_POSTGRES")
	if base == "" {
		t.Skip("MUSTER_TEST_POSTGRES is not set: 'make test-serve-pg' runs this")
	}
	schema := "serve_" + rand.Text()
	exec := func(ctx context.Context, sql string) {
		conn, err := pgx.Connect(ctx, base)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(ctx) }()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Error(err)
		}
	}
	exec(t.Context(), `CREATE SCHEMA "`+schema+`"`)
	t.Cleanup(func() { exec(context.Background(), `DROP SCHEMA "`+schema+`" CASCADE`) })
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("search_path", `"`+schema+`"`)
	u.RawQuery = q.Encode()
	return u.String()
}
