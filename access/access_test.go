package access_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/access"
	"github.com/muster-p2p/muster/access/accesstest"
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

func openTokens(t *testing.T, dir string) *access.TokenDir {
	t.Helper()
	tokens, err := access.OpenTokens(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func issue(t *testing.T, tokens access.Tokens, tok access.Token) (string, access.Token) {
	t.Helper()
	text, tok, err := tokens.Issue(t.Context(), start, tok)
	if err != nil {
		t.Fatal(err)
	}
	return text, tok
}

func TestTokenDir(t *testing.T) {
	accesstest.Test(t, func(t *testing.T) func() access.Tokens {
		dir := filepath.Join(t.TempDir(), "tokens")
		return func() access.Tokens { return openTokens(t, dir) }
	})
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
}

// TestDamagedTokenFile: one file that cannot be read costs its token only, and
// is reported by its name.
func TestDamagedTokenFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tokens")
	tool := openTokens(t, dir)
	relay := access.Token{Scopes: []access.Scope{access.Relay}}
	whole, _ := issue(t, tool, relay)
	broken, tok := issue(t, tool, relay)
	_, other := issue(t, tool, relay)
	_, empty := issue(t, tool, relay)
	var log bytes.Buffer
	server, err := access.OpenTokens(dir, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	now := start
	reg := prometheus.NewPedanticRegistry()
	cfg := access.Config{Policy: access.Policy{Relay: access.ByToken}, Tokens: server, Registerer: reg}
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
	wantErr(t, "before", ask(broken), nil)
	for id, text := range map[string]string{
		tok.ID: "{", other.ID: `{"id":"aaaaaaab","scopes":["relay"]}`, empty.ID: "",
	} {
		if err := os.WriteFile(filepath.Join(dir, id+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	wantErr(t, "whole", ask(whole), nil)
	wantErr(t, "damaged", ask(broken), access.ErrUnauthorized)
	if err := g.Health(); err == nil || !strings.Contains(err.Error(), tok.ID) || !strings.Contains(err.Error(), other.ID) {
		t.Errorf("health %v", err)
	}
	// The others can be changed.
	late, lateTok := issue(t, tool, relay)
	wantErr(t, "issued after", ask(late), nil)
	wantErr(t, "revoke", tool.Revoke(t.Context(), lateTok.ID), nil)
	wantErr(t, "revoked after", ask(late), access.ErrUnauthorized)
	if got := strings.Count(log.String(), tok.ID); got != 1 {
		t.Errorf("told %d times: %s", got, log.String())
	}
	if n := metric(t, reg, "muster_access_damaged_tokens"); n != 3 {
		t.Errorf("%v are damaged", n)
	}
	// A restart starts, and revoking what is damaged is a way out.
	again := openTokens(t, dir)
	for _, id := range again.Set(now).Damaged() {
		wantErr(t, "revoke", again.Revoke(t.Context(), id), nil)
	}
	_ = ask("") // looks
	if err := server.Reload(t.Context()); err != nil || g.Health() != nil {
		t.Errorf("%v, health %v", err, g.Health())
	}
}

// metric returns the value of a gauge.
func metric(t *testing.T, g prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no %s", name)
	return 0
}
