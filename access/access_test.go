package access_test

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	start  = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	remote = netip.MustParseAddr("203.0.113.7")
	alice  = mustPeer("12D3KooWSYrfVx7nSWcQCiLeSDgwzGQm6kfbABBfBszSJXMM4N2i")
	bob    = mustPeer("12D3KooWGRUVh39PJqMrvFWsyJQTfPmSJg3nKeqtJhBPWPdsYqYq")
)

func mustPeer(s string) peer.ID {
	id, err := peer.Decode(s)
	if err != nil {
		panic(err)
	}
	return id
}

func newMinter(t *testing.T, fill byte) *access.Minter {
	t.Helper()
	m, err := access.NewMinter(bytes.Repeat([]byte{fill}, access.MinSecret))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestMinter(t *testing.T) {
	m, other := newMinter(t, 1), newMinter(t, 2)
	token := m.Mint(start, time.Minute)
	if len(token) != access.MintedLength || len(token) > 64 {
		t.Errorf("%d letters, want %d", len(token), access.MintedLength)
	}
	if strings.Trim(token, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		t.Errorf("%s has letters that a path escapes", token)
	}
	if token == m.Mint(start, time.Minute) {
		t.Error("two tokens are the same")
	}
	wantErr(t, "at once", m.Valid(start, token), nil)
	wantErr(t, "with the same secret", newMinter(t, 1).Valid(start, token), nil)
	wantErr(t, "clock behind by a day", m.Valid(start.Add(-24*time.Hour), token), nil)
	wantErr(t, "late by the skew of clocks", m.Valid(start.Add(time.Minute+access.ClockSkew-time.Second), token), nil)
	wantErr(t, "late", m.Valid(start.Add(time.Minute+access.ClockSkew), token), access.ErrForbidden)
	wantErr(t, "of another secret", other.Valid(start, token), access.ErrUnauthorized)
	wantErr(t, "upper case", m.Valid(start, strings.ToUpper(token)), access.ErrUnauthorized)
	for i := range token {
		forged := []byte(token)
		forged[i] ^= 1 // may be a letter that base32 has not
		wantErr(t, "one letter changed", m.Valid(start, string(forged)), access.ErrUnauthorized)
	}
	long := m.Mint(start, 365*24*time.Hour)
	wantErr(t, "longer than any may live", m.Valid(start.Add(access.MaxLifetime+access.ClockSkew), long), access.ErrForbidden)
}

func TestMinterWantsASecret(t *testing.T) {
	if _, err := access.NewMinter(make([]byte, access.MinSecret-1)); err == nil {
		t.Error("a short secret was taken")
	}
}

func FuzzMinted(f *testing.F) {
	m, err := access.NewMinter(make([]byte, access.MinSecret))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.Mint(start, time.Minute))
	f.Add("mt1.aaaaaaaa.b")
	f.Add(strings.Repeat("a", access.MintedLength))
	f.Add(strings.Repeat("\n", access.MintedLength))
	f.Fuzz(func(t *testing.T, token string) {
		if m.Valid(start, token) == nil && token != strings.Trim(token, "\r\n") {
			t.Errorf("%q is another text of a token", token)
		}
	})
}

func openTokens(t *testing.T, dir string) *access.Tokens {
	t.Helper()
	tokens, err := access.OpenTokens(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func issue(t *testing.T, tokens *access.Tokens, tok access.Token) (string, access.Token) {
	t.Helper()
	text, tok, err := tokens.Issue(start, tok)
	if err != nil {
		t.Fatal(err)
	}
	return text, tok
}

// TestTokensOfTwoProcesses has one process issue and revoke while another one
// serves.
func TestTokensOfTwoProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tokens")
	server, tool := openTokens(t, dir), openTokens(t, dir)
	now := start
	cfg := access.Config{Policy: access.Policy{Relay: access.ByToken}, Tokens: server}
	cfg.SetClock(func() time.Time { return now })
	g, err := access.NewGate(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(bearer string) error {
		now = now.Add(time.Second)
		_, err := g.Relay(t.Context(), access.RelayRequest{Token: "room", Bearer: bearer, Remote: remote})
		return err
	}
	text, tok := issue(t, tool, access.Token{Scopes: []access.Scope{access.Relay}, Note: "a friend"})
	wantErr(t, "issued", ask(text), nil)
	wantErr(t, "without", ask(""), access.ErrUnauthorized)
	wantErr(t, "with a wrong secret", ask(text[:len(text)-8]+"aaaa7777"), access.ErrUnauthorized)
	wantErr(t, "too long", ask(text+strings.Repeat("a", 100)), access.ErrUnauthorized)

	wantErr(t, "revoke", tool.Revoke(tok.ID), nil)
	wantErr(t, "revoke again", tool.Revoke(tok.ID), access.ErrNoToken)
	wantErr(t, "revoked", ask(text), access.ErrUnauthorized)
	if len(tool.List()) != 0 {
		t.Errorf("%v is listed", tool.List())
	}
}

func TestTokenFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tokens")
	tokens := openTokens(t, dir)
	text, tok := issue(t, tokens, access.Token{Scopes: []access.Scope{access.Reach}, Bytes: 10})
	name := filepath.Join(dir, tok.ID+".json")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if secret := text[strings.LastIndex(text, ".")+1:]; bytes.Contains(b, []byte(secret)) {
		t.Error("the file holds the secret")
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, name: 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); os.PathSeparator == '/' && got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".new-*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v %v", left, err)
	}

	// A half-written copy of an editor is no token; damage is an error.
	if err := os.WriteFile(name, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := access.OpenTokens(dir); err == nil || !strings.Contains(err.Error(), tok.ID) {
		t.Errorf("damage: %v", err)
	}
	if err := tokens.Reload(); err == nil || tokens.Health() == nil || len(tokens.List()) != 1 {
		t.Errorf("a server that runs: %v, health %v, %d tokens", err, tokens.Health(), len(tokens.List()))
	}
}

func TestTokensRefused(t *testing.T) {
	for name, tok := range map[string]access.Token{
		"no scope":        {},
		"unknown scope":   {Scopes: []access.Scope{"root"}},
		"negative quota":  {Scopes: []access.Scope{access.Relay}, Bytes: -1},
		"long note":       {Scopes: []access.Scope{access.Relay}, Note: strings.Repeat("x", access.MaxNote+1)},
		"names of nobody": {Scopes: []access.Scope{access.Rendezvous}},
		"many names":      {Scopes: []access.Scope{access.Relay}, Namespaces: make([]string, access.MaxNamespaces+1)},
	} {
		if _, _, err := openTokens(t, t.TempDir()).Issue(start, tok); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
	if err := openTokens(t, t.TempDir()).Revoke("../../../etc/passwd"); err == nil {
		t.Error("a path was taken for an ID")
	}
}
