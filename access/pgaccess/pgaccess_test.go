package pgaccess_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/access"
	"github.com/muster-p2p/muster/access/accesstest"
	"github.com/muster-p2p/muster/access/pgaccess"
)

var background = context.Background()

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var schemas atomic.Int64

// place makes an empty schema and returns a URL that leads to it, or skips.
func place(t testing.TB) string {
	t.Helper()
	base := os.Getenv("MUSTER_TEST_POSTGRES")
	if base == "" {
		t.Skip("needs a PostgreSQL server: run make test-pg, or set MUSTER_TEST_POSTGRES to a URL of one where schemas can be made")
	}
	name := fmt.Sprintf("muster_access_%d_%d", os.Getpid(), schemas.Add(1))
	run(t, base, "create schema "+name)
	t.Cleanup(func() { run(t, base, "drop schema "+name+" cascade") })
	sep := "?"
	if strings.Contains(base, "?") {
		sep = "&"
	}
	return base + sep + "search_path=" + url.QueryEscape(name)
}

// run runs a statement on a connection of its own.
func run(t testing.TB, u, sql string) {
	t.Helper()
	db, err := pgx.Connect(background, u) // not t.Context: that is over when a test cleans up
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(background) }()
	if _, err := db.Exec(background, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func number(t testing.TB, u, sql string) (n int64) {
	t.Helper()
	db, err := pgx.Connect(background, u)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(background) }()
	if err := db.QueryRow(background, sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// open opens a store that looks every interval; zero is a tenth of a second.
func open(t testing.TB, u string, interval time.Duration, log *slog.Logger) *pgaccess.Store {
	t.Helper()
	if interval == 0 {
		interval = 100 * time.Millisecond
	}
	s, err := pgaccess.Open(background, pgaccess.Config{URL: u, Interval: interval, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// await waits for what another connection brings about.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("still not: %s", what)
		}
	}
}

// TestTokens: the suite, told of changes by the database, and by looking only.
func TestTokens(t *testing.T) {
	for name, interval := range map[string]time.Duration{"told": time.Hour, "looking": 20 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			accesstest.Test(t, func(t *testing.T) func() access.Tokens {
				u := place(t)
				if name == "looking" { // another schema's points are told, these are not
					return func() access.Tokens { return silent{t, u, open(t, u, interval, nil)} }
				}
				return func() access.Tokens { return open(t, u, interval, nil) }
			})
		})
	}
}

// A silent store has others not told of what it changes, as behind a pooler: it
// changes the tables by itself.
type silent struct {
	t *testing.T
	u string
	access.Tokens
}

func (s silent) Revoke(ctx context.Context, id string) error {
	if s.Reload(ctx) == nil && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") == "" {
		for _, tok := range s.Set(time.Now()).List() {
			if tok.ID == id {
				run(s.t, s.u, "update muster_access_token set revoked = true, token = '' where id = '"+id+"'")
				run(s.t, s.u, "update muster_access set version = version + 1")
				return s.Reload(ctx)
			}
		}
	}
	return s.Tokens.Revoke(ctx, id)
}

func gateOf(t *testing.T, s *pgaccess.Store) *access.Gate {
	t.Helper()
	g, err := access.NewGate(access.Config{Policy: access.Policy{Relay: access.ByToken}, Tokens: s, Usage: s.Usage()})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func issue(t *testing.T, s access.Tokens, tok access.Token) (string, access.Token) {
	t.Helper()
	tok.Scopes = []access.Scope{access.Relay}
	text, tok, err := s.Issue(t.Context(), time.Now(), tok)
	if err != nil {
		t.Fatal(err)
	}
	return text, tok
}

// TestQuota: points count a quota together, in few statements, and a restart
// forgets nothing.
func TestQuota(t *testing.T) {
	u := place(t)
	a, b := open(t, u, 0, nil), open(t, u, 0, nil)
	text, tok := issue(t, a, access.Token{Bytes: 2_000_000})
	ga, gb := gateOf(t, a), gateOf(t, b)
	relay := func(g *access.Gate) (access.Grant, error) {
		return g.Relay(t.Context(), access.RelayRequest{Token: "room", Bearer: text})
	}
	await(t, "known to both", func() bool { _, err := relay(gb); return err == nil })
	var wg sync.WaitGroup
	for _, g := range []*access.Gate{ga, gb} {
		grant, err := relay(g)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			wg.Go(func() {
				for range 100 {
					_ = g.Charge(1000, grant)
				}
			})
		}
	}
	wg.Wait()
	for _, s := range []*pgaccess.Store{a, b} {
		await(t, "the sum at each", func() bool { return s.Usage().Bytes(tok.ID) == 2_000_000 })
	}
	if n := number(t, u, "select max(batch) from muster_access_point"); n > 100 {
		t.Errorf("%d statements for 2000 charges", n)
	}
	for _, g := range []*access.Gate{ga, gb} {
		if _, err := relay(g); !errors.Is(err, access.ErrForbidden) {
			t.Errorf("beyond the quota: %v", err)
		}
	}
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	if got := open(t, u, 0, nil).Usage().Bytes(tok.ID); got != 2_000_000 {
		t.Errorf("after a restart: %d", got)
	}
}

// TestBatchesAreAddedOnce cuts the connections of two points over and over
// while they count.
func TestBatchesAreAddedOnce(t *testing.T) {
	u := place(t)
	a, b := open(t, u, time.Millisecond, nil), open(t, u, time.Millisecond, nil)
	text, tok := issue(t, a, access.Token{})
	ga, gb := gateOf(t, a), gateOf(t, b)
	const rounds = 60
	for i := range rounds {
		for _, g := range []*access.Gate{ga, gb} {
			await(t, "known", func() bool {
				grant, err := g.Relay(t.Context(), access.RelayRequest{Token: "room", Bearer: text})
				return err == nil && g.Charge(1, grant) == nil
			})
		}
		if i%3 == 0 {
			run(t, u, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'muster access' and pid <> pg_backend_pid()")
		}
	}
	for _, s := range []*pgaccess.Store{a, b} {
		await(t, "the sum at each", func() bool { return s.Usage().Bytes(tok.ID) == 2*rounds })
	}
	if n := number(t, u, "select bytes from muster_access_usage"); n != 2*rounds {
		t.Errorf("%d are counted, want %d", n, 2*rounds)
	}
}

// TestAway: without the database the last known tokens go on, Health says so,
// and what was relayed meanwhile is counted when it is back.
func TestAway(t *testing.T) {
	ctl := os.Getenv("MUSTER_TEST_PG_CTL")
	if ctl == "" {
		t.Skip("needs a PostgreSQL server that it may stop: run make test-pg")
	}
	u := place(t)
	var log bytes.Buffer
	a := open(t, u, 0, slog.New(slog.NewTextHandler(&log, nil)))
	text, tok := issue(t, a, access.Token{})
	g := gateOf(t, a)
	control := func(verb string) {
		t.Helper()
		if out, err := exec.Command(ctl, verb).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", verb, err, out)
		}
	}
	control("stop")
	await(t, "noticed", func() bool { return g.Health() != nil })
	grant, err := g.Relay(t.Context(), access.RelayRequest{Token: "room", Bearer: text})
	if err != nil || g.Charge(5, grant) != nil {
		t.Errorf("while the database is away: %v", err)
	}
	if _, _, err := a.Issue(t.Context(), time.Now(), access.Token{Scopes: []access.Scope{access.Relay}}); err == nil {
		t.Error("issued without a database")
	}
	control("start")
	await(t, "back", func() bool { return g.Health() == nil })
	await(t, "counted", func() bool { return number(t, u, "select coalesce(sum(bytes), 0) from muster_access_usage") == 5 })
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if strings.Count(log.String(), "database away") != 1 || strings.Contains(log.String(), tok.Hash) {
		t.Errorf("log: %s", log.String())
	}
}

// TestImport takes over what a directory has, once.
func TestImport(t *testing.T) {
	u := place(t)
	dir, err := access.OpenTokens(filepath.Join(t.TempDir(), "tokens"), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, tok := issue(t, dir, access.Token{Bytes: 100})
	_, gone := issue(t, dir, access.Token{})
	if err := dir.Revoke(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	kept, err := dir.Kept()
	if err != nil {
		t.Fatal(err)
	}
	a := open(t, u, 0, nil)
	used := func(string) int64 { return 42 }
	for _, want := range []int{1, 0} {
		if n, err := a.Import(t.Context(), kept, used); n != want || err != nil {
			t.Errorf("%d taken, %v; want %d", n, err, want)
		}
	}
	if _, err := gateOf(t, a).Relay(t.Context(), access.RelayRequest{Token: "room", Bearer: text}); err != nil {
		t.Error(err)
	}
	if n := a.Usage().Bytes(tok.ID); n != 42 || a.Set(time.Now()).Len() != 1 {
		t.Errorf("%d used of %d tokens", n, a.Set(time.Now()).Len())
	}
	if err := a.Revoke(t.Context(), tok.ID); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Import(t.Context(), kept, used); n != 0 || err != nil || a.Set(time.Now()).Len() != 0 {
		t.Errorf("a revoked one came back: %d, %v", n, err)
	}
}

// TestDamagedRow: it costs its token only, and can be revoked.
func TestDamagedRow(t *testing.T) {
	u := place(t)
	a := open(t, u, 0, nil)
	text, _ := issue(t, a, access.Token{})
	_, tok := issue(t, a, access.Token{})
	run(t, u, "update muster_access_token set token = '{' where id = '"+tok.ID+"'")
	run(t, u, "update muster_access set version = version + 1")
	await(t, "noticed", func() bool { return a.Health() != nil })
	if _, err := gateOf(t, a).Relay(t.Context(), access.RelayRequest{Token: "room", Bearer: text}); err != nil {
		t.Error(err)
	}
	if err := a.Revoke(t.Context(), tok.ID); err != nil || a.Health() != nil {
		t.Errorf("%v, health %v", err, a.Health())
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, cfg := range []pgaccess.Config{{}, {URL: "postgres://u:secret@%"}} {
		if _, err := pgaccess.Open(t.Context(), cfg); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v", err)
		}
	}
}
