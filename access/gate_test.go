package access_test

import (
	"errors"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/access"
)

// newGate returns a gate with all it can have, at a time that stands still
// unless now is moved.
func newGate(t *testing.T, p access.Policy, now *time.Time) (*access.Gate, access.Tokens) {
	t.Helper()
	tokens := openTokens(t, filepath.Join(t.TempDir(), "tokens"))
	cfg := access.Config{
		Policy: p, Minter: newMinter(t, 1), Tokens: tokens, Registerer: prometheus.NewPedanticRegistry(),
		Registered: func(name string, id peer.ID) bool { return name == "lab" && id == alice },
	}
	cfg.SetClock(func() time.Time { return *now })
	g, err := access.NewGate(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g, tokens
}

func TestRelayModes(t *testing.T) {
	yes, who, no := error(nil), access.ErrUnauthorized, access.ErrForbidden
	served := []string{"lab"}
	for mode, want := range map[access.Mode]map[string]error{
		access.Closed:     {"nothing": no, "minted path": no, "minted bearer": no, "relay": no, "reach": no, "names": no, "garbage": no},
		access.ByToken:    {"nothing": who, "minted path": yes, "minted bearer": yes, "relay": yes, "reach": yes, "names": no, "garbage": who},
		access.ByName:     {"nothing": who, "minted path": yes, "minted bearer": yes, "relay": yes, "reach": yes, "names": no, "garbage": who},
		access.OpenToEach: {"nothing": yes, "minted path": yes, "minted bearer": yes, "relay": yes, "reach": yes, "names": no, "garbage": yes},
	} {
		t.Run(mode.String(), func(t *testing.T) {
			now := start
			g, tokens := newGate(t, access.Policy{Relay: mode, RelayNames: served}, &now)
			relay, _ := issue(t, tokens, access.Token{Scopes: []access.Scope{access.Relay}})
			reach, _ := issue(t, tokens, access.Token{Scopes: []access.Scope{access.Reach}})
			names, _ := issue(t, tokens, access.Token{Scopes: []access.Scope{access.Rendezvous}, Peer: alice})
			minted := newMinter(t, 1).Mint(now, time.Minute)
			for name, r := range map[string]access.RelayRequest{
				"nothing":       {Token: "room"},
				"minted path":   {Token: minted},
				"minted bearer": {Token: "derived", Bearer: minted},
				"relay":         {Token: "room", Bearer: relay},
				"reach":         {Token: "room", Bearer: reach},
				"names":         {Token: "room", Bearer: names},
				"garbage":       {Token: "room", Bearer: "mt1.aaaaaaaa.b"},
			} {
				_, err := g.Relay(t.Context(), r)
				wantErr(t, name, err, want[name])
			}
		})
	}
}

func TestReachModes(t *testing.T) {
	now := start
	g, tokens := newGate(t, access.Policy{Relay: access.ByToken}, &now)
	reach, _ := issue(t, tokens, access.Token{Scopes: []access.Scope{access.Reach}})
	alices, _ := issue(t, tokens, access.Token{Scopes: []access.Scope{access.Reach}, Peer: alice, Expires: start.Add(time.Hour)})
	ask := func(id, callee peer.ID, token string) error {
		_, err := g.Reach(t.Context(), access.ReachRequest{Peer: id, Callee: callee, Token: token})
		return err
	}
	wantErr(t, "with a token", ask(bob, "", reach), nil)
	wantErr(t, "with her own", ask(alice, "", alices), nil)
	wantErr(t, "with another's", ask(bob, "", alices), access.ErrForbidden)
	wantErr(t, "with none", ask(alice, "", ""), access.ErrUnauthorized)
	_, err := g.Reach(t.Context(), access.ReachRequest{Peer: bob, Callee: alice, CalleeToken: alices})
	wantErr(t, "the callee pays", err, nil)
	_, err = g.Reach(t.Context(), access.ReachRequest{Peer: bob, Token: "mt1.wrong", Callee: alice, CalleeToken: alices})
	wantErr(t, "a wrong token in spite of it", err, access.ErrUnauthorized)
	now = start.Add(time.Hour)
	wantErr(t, "run out", ask(alice, "", alices), access.ErrForbidden)

	if err := g.SetPolicy(access.Policy{Relay: access.ByName, RelayNames: []string{"lab"}, Banned: []peer.ID{"banned"}}); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "registered", ask(alice, "", ""), nil)
	wantErr(t, "not registered", ask(bob, "", ""), access.ErrUnauthorized)
	wantErr(t, "invites who is registered", ask(bob, alice, ""), nil)
	wantErr(t, "invites who is not", ask(alice, bob, ""), nil)
	wantErr(t, "banned", ask("banned", alice, reach), access.ErrForbidden)
	if err := g.SetPolicy(access.Policy{}); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "closed", ask(alice, "", reach), access.ErrForbidden)
}

func TestNames(t *testing.T) {
	now := start
	g, tokens := newGate(t, access.Policy{RegisterNames: []string{"lab", "team/*"}}, &now)
	issue(t, tokens, access.Token{Scopes: []access.Scope{access.Rendezvous}, Peer: bob, Namespaces: []string{"bobs/*"}})
	for name, want := range map[string]error{
		"lab": nil, "team/": nil, "team/a": nil, "labs": access.ErrForbidden, "team": access.ErrForbidden, "bobs/nas": access.ErrForbidden,
	} {
		wantErr(t, "register "+name, g.Register(t.Context(), alice, remote, name), want)
		wantErr(t, "discover "+name, g.Discover(t.Context(), alice, name), want)
	}
	wantErr(t, "bob's own", g.Register(t.Context(), bob, remote, "bobs/nas"), nil)
	wantErr(t, "bob's own", g.Discover(t.Context(), bob, "bobs/nas"), nil)
	wantErr(t, "what all may", g.Register(t.Context(), bob, remote, "lab"), nil)

	if err := g.SetPolicy(access.Policy{RegisterByToken: true}); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "without a token", g.Register(t.Context(), alice, remote, "lab"), access.ErrForbidden)
	wantErr(t, "with one for another name", g.Register(t.Context(), bob, remote, "lab"), access.ErrForbidden)
	wantErr(t, "with one", g.Register(t.Context(), bob, remote, "bobs/nas"), nil)
}

func TestPolicyRefused(t *testing.T) {
	for name, p := range map[string]access.Policy{
		"names of nobody": {Relay: access.ByName},
		"wildcard":        {Relay: access.ByName, RelayNames: []string{"lab*"}},
		"negative":        {SessionBytes: -1},
		"many":            {RegisterNames: make([]string, access.MaxPatterns+1)},
	} {
		if _, err := access.NewGate(access.Config{Policy: p}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for _, m := range []access.Mode{access.Closed, access.ByToken, access.ByName, access.OpenToEach} {
		if got, err := access.ParseMode(m.String()); err != nil || got != m {
			t.Errorf("ParseMode(%s) = %v, %v", m, got, err)
		}
	}
	if _, err := access.ParseMode("opne"); err == nil {
		t.Error("a typing error was taken for a mode")
	}
}

// TestQuota has an issued token pay for what its sessions use.
// TestMintedWhileOpen: who got a token for nothing from an open relay has no use
// for it when the operator has closed it, and who pays has.
func TestMintedWhileOpen(t *testing.T) {
	now := start
	g, tokens := newGate(t, access.Policy{Relay: access.OpenToEach, RelayNames: []string{"lab"}}, &now)
	text, _ := issue(t, tokens, access.Token{Scopes: []access.Scope{access.Reach}})
	paid, err := g.Reach(t.Context(), access.ReachRequest{Peer: alice, Token: text})
	if err != nil {
		t.Fatal(err)
	}
	free, paidFor := g.Mint(access.Grant{}, time.Hour), g.Mint(paid, time.Hour)
	for mode, want := range map[access.Mode]error{
		access.OpenToEach: nil, access.ByName: access.ErrForbidden, access.ByToken: access.ErrForbidden,
	} {
		if err := g.SetPolicy(access.Policy{Relay: mode, RelayNames: []string{"lab"}}); err != nil {
			t.Fatal(err)
		}
		_, err = g.Relay(t.Context(), access.RelayRequest{Token: free})
		wantErr(t, "free, "+mode.String(), err, want)
		_, err = g.Relay(t.Context(), access.RelayRequest{Token: paidFor})
		wantErr(t, "paid for, "+mode.String(), err, nil)
	}
}

// TestBannedCallee: who is banned while it waits is not called any more.
func TestBannedCallee(t *testing.T) {
	now := start
	g, _ := newGate(t, access.Policy{Relay: access.OpenToEach, Banned: []peer.ID{bob}}, &now)
	_, err := g.Reach(t.Context(), access.ReachRequest{Peer: alice, Callee: bob})
	wantErr(t, "a banned callee", err, access.ErrForbidden)
}

func TestQuota(t *testing.T) {
	now := start
	g, tokens := newGate(t, access.Policy{Relay: access.ByToken, SessionBytes: 50}, &now)
	text, tok := issue(t, tokens, access.Token{Scopes: []access.Scope{access.Reach}, Bytes: 100})
	grant, err := g.Reach(t.Context(), access.ReachRequest{Peer: alice, Token: text})
	if err != nil {
		t.Fatal(err)
	}
	minted := g.Mint(grant, time.Minute)
	d, err := g.Relay(t.Context(), access.RelayRequest{Token: minted})
	if err != nil {
		t.Fatal(err)
	}
	a, err := g.Relay(t.Context(), access.RelayRequest{Token: "derived", Bearer: minted})
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "within", g.Charge(100, d, a), nil)
	wantErr(t, "beyond", g.Charge(1, d, a), access.ErrForbidden)
	_, err = g.Relay(t.Context(), access.RelayRequest{Token: minted})
	wantErr(t, "used up, minted", err, access.ErrForbidden)
	_, err = g.Reach(t.Context(), access.ReachRequest{Peer: alice, Token: text})
	wantErr(t, "used up, issued", err, access.ErrForbidden)
	if err := tokens.Revoke(t.Context(), tok.ID); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "revoked under way", g.Charge(1, d), access.ErrForbidden)

	nobodys, err := g.Relay(t.Context(), access.RelayRequest{Token: g.Mint(access.Grant{}, time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "session within", g.Charge(50, nobodys), nil)
	wantErr(t, "session beyond", g.Charge(1, nobodys), access.ErrForbidden)
	wantErr(t, "nobody pays", g.Charge(1<<40, access.Grant{}), nil)
}

func TestUsageIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "usage.json")
	open := func() *access.Usage {
		u, err := access.OpenUsage(file)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	u := open()
	u.Add("aaaaaaaa", 7)
	u.Add("a session", 8)
	if err := errors.Join(u.Save(), u.Save()); err != nil {
		t.Fatal(err)
	}
	u = open()
	if got := u.Bytes("aaaaaaaa"); got != 7 || u.Len() != 1 {
		t.Errorf("%d bytes, %d tokens", got, u.Len())
	}
}

// TestUsageOfEqualsIsBounded: that nobody stands out is no reason to keep all.
func TestUsageOfEqualsIsBounded(t *testing.T) {
	u := access.NewUsage()
	for i := range 2 * access.MaxUsage {
		u.Add(strconv.Itoa(i), 1000)
	}
	if u.Len() > access.MaxUsage {
		t.Errorf("%d sessions are counted", u.Len())
	}
}

func TestUsageIsBounded(t *testing.T) {
	u := access.NewUsage()
	u.Add("busy", 1<<40)
	u.Add("aaaaaaaa", 1) // a token's
	for i := range 3 * access.MaxUsage {
		u.Add(time.Duration(i).String(), 1)
	}
	if u.Len() > access.MaxUsage || u.Bytes("busy") != 1<<40 || u.Bytes("aaaaaaaa") != 1 {
		t.Errorf("%d tokens are counted, the busy one has %d bytes", u.Len(), u.Bytes("busy"))
	}
}

// A meeting that a token of another point pays for is let in where points share
// the secret, but not one of a token that was revoked here.
func TestMintedAtAnotherPoint(t *testing.T) {
	now := start
	here := openTokens(t, filepath.Join(t.TempDir(), "here"))
	there := openTokens(t, filepath.Join(t.TempDir(), "there"))
	gate := func(tokens access.Tokens, shared bool) *access.Gate {
		cfg := access.Config{
			Policy: access.Policy{Relay: access.ByToken, SessionBytes: 10}, Minter: newMinter(t, 1), Tokens: tokens, Shared: shared,
		}
		cfg.SetClock(func() time.Time { return now })
		g, err := access.NewGate(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	mint := func(tokens access.Tokens) (minted, id string) {
		text, tok := issue(t, tokens, access.Token{Scopes: []access.Scope{access.Reach}})
		grant, err := gate(tokens, true).Reach(t.Context(), access.ReachRequest{Peer: alice, Token: text})
		if err != nil {
			t.Fatal(err)
		}
		return gate(tokens, true).Mint(grant, time.Minute), tok.ID
	}
	theirs, _ := mint(there)
	ours, id := mint(here)
	if _, err := gate(here, false).Relay(t.Context(), access.RelayRequest{Token: theirs}); !errors.Is(err, access.ErrForbidden) {
		t.Errorf("not shared: %v", err)
	}
	g := gate(here, true)
	grant, err := g.Relay(t.Context(), access.RelayRequest{Token: theirs})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Charge(11, grant); !errors.Is(err, access.ErrForbidden) {
		t.Errorf("beyond the session's bytes: %v", err)
	}
	if err := here.Revoke(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Relay(t.Context(), access.RelayRequest{Token: ours}); !errors.Is(err, access.ErrForbidden) {
		t.Errorf("revoked: %v", err)
	}
	if err := here.Revoke(t.Context(), id); !errors.Is(err, access.ErrNoToken) {
		t.Errorf("revoked twice: %v", err)
	}
}
