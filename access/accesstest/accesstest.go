// Package accesstest is the suite that every [access.Tokens] must pass.
package accesstest

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/muster-p2p/muster/access"
)

var (
	start  = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	remote = netip.MustParseAddr("203.0.113.7")
)

// patience bounds the wait for what another keeper has changed.
const patience = 20 * time.Second

// Test runs the suite. Place makes an empty place and returns what opens it,
// each time for another process.
func Test(t *testing.T, place func(t *testing.T) (open func() access.Tokens)) {
	t.Run("two processes", func(t *testing.T) { testTwo(t, place(t)) })
	t.Run("refused", func(t *testing.T) { testRefused(t, place(t)()) })
	t.Run("revoked", func(t *testing.T) { testRevoked(t, place(t)) })
}

func issue(t *testing.T, tokens access.Tokens, tok access.Token) (string, access.Token) {
	t.Helper()
	text, tok, err := tokens.Issue(t.Context(), start, tok)
	if err != nil {
		t.Fatal(err)
	}
	return text, tok
}

// A gate is one point's, whose clock goes on by a second with each question.
type gate struct {
	*access.Gate
	t   *testing.T
	now time.Time
}

func newGate(t *testing.T, tokens access.Tokens) *gate {
	t.Helper()
	g := &gate{t: t, now: start}
	minter, err := access.NewMinter(make([]byte, access.MinSecret))
	if err != nil {
		t.Fatal(err)
	}
	g.Gate, err = access.NewGate(access.Config{
		Policy: access.Policy{Relay: access.ByToken}, Tokens: tokens, Minter: minter,
		Now: func() time.Time { g.now = g.now.Add(time.Second); return g.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *gate) ask(token, bearer string) error {
	_, err := g.Relay(g.t.Context(), access.RelayRequest{Token: token, Bearer: bearer, Remote: remote})
	return err
}

// eventually waits until a question gets an answer.
func (g *gate) eventually(what, token, bearer string, want error) {
	g.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(patience); ; <-tick.C {
		err := g.ask(token, bearer)
		if errors.Is(err, want) {
			return
		}
		if time.Now().After(late) {
			g.t.Fatalf("%s: got %v, want %v", what, err, want)
		}
	}
}

// testTwo has one process issue and revoke while another one serves.
func testTwo(t *testing.T, open func() access.Tokens) {
	server, tool := open(), open()
	g := newGate(t, server)
	text, tok := issue(t, tool, access.Token{Scopes: []access.Scope{access.Relay}, Note: "a friend", Bytes: 10})
	if err := g.ask("room", text); err != nil {
		t.Errorf("issued a moment ago: %v", err)
	}
	for what, bearer := range map[string]string{
		"without": "", "with a wrong secret": text[:len(text)-8] + "aaaa7777", "too long": text + strings.Repeat("a", 100),
	} {
		if err := g.ask("room", bearer); !errors.Is(err, access.ErrUnauthorized) {
			t.Errorf("%s: %v", what, err)
		}
	}
	list := tool.Set(start).List()
	if len(list) != 1 || fmt.Sprint(list[0]) != fmt.Sprint(tok) || tool.Set(start).Len() != 1 {
		t.Errorf("listed %+v, want %+v", list, tok)
	}
	if again := open(); again.Set(start).Len() != 1 {
		t.Error("forgotten by a restart")
	}
	if err := tool.Revoke(t.Context(), tok.ID); err != nil {
		t.Error(err)
	}
	if err := tool.Revoke(t.Context(), tok.ID); !errors.Is(err, access.ErrNoToken) {
		t.Errorf("revoked again: %v", err)
	}
	g.eventually("revoked", "room", text, access.ErrUnauthorized)
	if n := tool.Set(start).Len(); n != 0 {
		t.Errorf("%d are listed", n)
	}
	if err := errors.Join(tool.Reload(t.Context()), tool.Health()); err != nil {
		t.Error(err)
	}
}

// testRevoked: what was arranged with a token ends with it, at every point, also
// at one that begins later.
func testRevoked(t *testing.T, open func() access.Tokens) {
	a, b := open(), open()
	text, tok := issue(t, a, access.Token{Scopes: []access.Scope{access.Reach}})
	ga, gb := newGate(t, a), newGate(t, b)
	grant, err := ga.Reach(t.Context(), access.ReachRequest{Token: text})
	if err != nil {
		t.Fatal(err)
	}
	minted := ga.Mint(grant, time.Hour)
	gb.eventually("at the other point", minted, "", nil)
	if err := b.Revoke(t.Context(), tok.ID); err != nil {
		t.Fatal(err)
	}
	ga.eventually("revoked at the other point", minted, "", access.ErrForbidden)
	ga.eventually("revoked at the other point", "room", text, access.ErrUnauthorized)
	if err := newGate(t, open()).ask(minted, ""); !errors.Is(err, access.ErrForbidden) {
		t.Errorf("after a restart: %v", err)
	}
}

func testRefused(t *testing.T, tokens access.Tokens) {
	for name, tok := range map[string]access.Token{
		"no scope":        {},
		"unknown scope":   {Scopes: []access.Scope{"root"}},
		"negative quota":  {Scopes: []access.Scope{access.Relay}, Bytes: -1},
		"long note":       {Scopes: []access.Scope{access.Relay}, Note: strings.Repeat("x", access.MaxNote+1)},
		"names of nobody": {Scopes: []access.Scope{access.Rendezvous}},
		"many names":      {Scopes: []access.Scope{access.Relay}, Namespaces: make([]string, access.MaxNamespaces+1)},
	} {
		if _, _, err := tokens.Issue(t.Context(), start, tok); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
	if err := tokens.Revoke(t.Context(), "../../../etc/passwd"); err == nil {
		t.Error("a path was taken for an ID")
	}
}
