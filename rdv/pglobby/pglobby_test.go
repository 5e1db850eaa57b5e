package pglobby_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/rdv"
	"github.com/muster-p2p/muster/rdv/pglobby"
)

var background = context.Background()

func TestMain(m *testing.M) {
	if u := os.Getenv(pointEnv); u != "" {
		os.Exit(runPoint(u))
	}
	goleak.VerifyTestMain(m)
}

// server returns the URL of the server to test on, or skips.
func server(t testing.TB) string {
	t.Helper()
	u := os.Getenv("MUSTER_TEST_POSTGRES")
	if u == "" {
		t.Skip("needs a PostgreSQL server: run make test-pg, or set MUSTER_TEST_POSTGRES to a URL of one where schemas can be made")
	}
	return u
}

var schemas atomic.Int64

// place makes an empty schema and returns a URL that leads to it.
func place(t testing.TB) string {
	t.Helper()
	base := server(t)
	name := fmt.Sprintf("muster_lobby_%d_%d", os.Getpid(), schemas.Add(1))
	exec(t, base, "create schema "+name)
	t.Cleanup(func() { exec(t, base, "drop schema "+name+" cascade") })
	sep := "?"
	if strings.Contains(base, "?") {
		sep = "&"
	}
	return base + sep + "search_path=" + url.QueryEscape(name)
}

// exec runs a statement on a connection of its own.
func exec(t testing.TB, u, sql string, args ...any) {
	t.Helper()
	// Not t.Context: that is over when a test cleans up.
	db, err := pgx.Connect(background, u)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(background) }()
	if _, err := db.Exec(background, sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func open(t testing.TB, u, handOver string) *pglobby.Directory {
	t.Helper()
	d, err := pglobby.Open(background, pglobby.Config{URL: u, HandOver: handOver})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// claim claims one token and says who has it: "" is the claimant.
func claim(t testing.TB, d *pglobby.Directory, token string, id, after uint64) rdv.Claim {
	t.Helper()
	claims, err := d.Claim(t.Context(), []rdv.Wanted{{Token: token, ID: id, After: after}})
	if err != nil {
		t.Fatal(err)
	}
	return claims[0]
}

func TestClaims(t *testing.T) {
	u := place(t)
	const urlA, urlB = "http://a:1/", "http://b:1/"
	a, b := open(t, u, urlA), open(t, u, urlB)
	if a.Secret() != b.Secret() || a.Secret() == ([32]byte{}) {
		t.Fatal("the secrets differ, or there is none")
	}
	want := func(what string, got rdv.Claim, id uint64, url string) {
		t.Helper()
		if got != (rdv.Claim{Token: "t", ID: id, URL: url}) {
			t.Errorf("%s: %+v, want %d at %q", what, got, id, url)
		}
	}
	const top = 1<<64 - 1
	want("the first has it", claim(t, a, "t", top, 0), top, "")
	want("the second is told so", claim(t, b, "t", 2, 0), top, urlA)
	want("a repetition changes nothing", claim(t, a, "t", top, 0), top, "")
	want("its own newer one stands", claim(t, a, "t", 3, 0), 3, "")
	want("another dead one does not help", claim(t, b, "t", 4, top), 3, urlA)
	want("the dead one does", claim(t, b, "t", 4, 3), 4, "")
	want("and the other way round", claim(t, a, "t", 3, 0), 4, urlB)

	release := func(d *pglobby.Directory, id uint64) {
		t.Helper()
		if err := d.Release(t.Context(), []rdv.Claim{{Token: "t", ID: id}, {Token: "other", ID: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	release(a, 3)
	want("who has it no more releases nothing", claim(t, a, "t", 5, 0), 4, urlB)
	release(b, 4)
	want("a released one is free", claim(t, a, "t", 5, 0), 5, "")

	exec(t, u, "update muster_rdv_claim set expires = now() - interval '1 second'")
	want("an expired one is free", claim(t, b, "t", 6, 0), 6, "")

	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, u, urlB) // a restart
	want("a restart has no claims", claim(t, a, "t", 7, 0), 7, "")
	want("a restart", claim(t, again, "t", 8, 0), 7, urlA)
}

// Two points that would be reached at the same address are told so, rather than
// have their peers miss each other.
func TestSameURL(t *testing.T) {
	u := place(t)
	a, b := open(t, u, "http://10.0.0.2:1/"), open(t, u, "http://10.0.0.2:1/")
	claim(t, a, "t", 1, 0)
	if _, err := b.Claim(t.Context(), []rdv.Wanted{{Token: "t", ID: 2}}); !errors.Is(err, pglobby.ErrSameURL) || b.Health() == nil {
		t.Errorf("%v, health %v", err, b.Health())
	}
	if c := claim(t, a, "t", 1, 0); c.URL != "" {
		t.Errorf("the first has lost it: %+v", c)
	}
}

// Neither a token nor anything that it could be guessed from faster than by
// trying is in the database.
func TestTokensAreHashed(t *testing.T) {
	u := place(t)
	claim(t, open(t, u, "http://a:1/"), "secret-token", 1, 0)
	db, err := pgx.Connect(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(background) }()
	var row string
	if err := db.QueryRow(t.Context(), "select c::text || convert_from(c.token, 'LATIN1') from muster_rdv_claim c").Scan(&row); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(row, "secret") {
		t.Errorf("row %q", row)
	}
}

// Points that claim and release the same tokens at once, in batches of any
// order, neither wait for each other for ever nor both have one.
func TestParallelClaims(t *testing.T) {
	u := place(t)
	const points, rounds, tokens = 4, 50, 40
	var wg sync.WaitGroup
	var owned [tokens]atomic.Int64
	for p := range points {
		d := open(t, u, fmt.Sprintf("http://p%d:1/", p))
		wg.Go(func() {
			for r := range rounds {
				var wanted []rdv.Wanted
				for i := range tokens {
					k := (i*7 + r*13 + p*5) % tokens
					wanted = append(wanted, rdv.Wanted{Token: fmt.Sprint(k), ID: uint64(1 + p + points*(r*tokens+k))})
				}
				claims, err := d.Claim(t.Context(), wanted)
				if err != nil {
					t.Error(err)
					return
				}
				var ended []rdv.Claim
				for i, c := range claims {
					if c.URL != "" || c.ID == 0 {
						continue
					}
					k := (i*7 + r*13 + p*5) % tokens
					if owned[k].Add(1) != 1 {
						t.Errorf("two have token %d", k)
					}
					ended = append(ended, c)
				}
				for i, c := range claims {
					if c.URL == "" && c.ID != 0 {
						owned[(i*7+r*13+p*5)%tokens].Add(-1)
					}
				}
				if err := d.Release(t.Context(), ended); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// A directory finds its database again by itself, also when that has lost its
// unlogged tables.
func TestAway(t *testing.T) {
	wire, through := newWire(t, place(t))
	d := open(t, through, "http://a:1/")
	wire.setAway(true)
	begun := time.Now()
	if _, err := d.Claim(t.Context(), []rdv.Wanted{{Token: "t", ID: 1}}); err == nil || d.Health() == nil {
		t.Error("claimed without a database")
	}
	if took := time.Since(begun); took > pglobby.DefaultTimeout+2*time.Second {
		t.Errorf("it took %v to say so", took)
	}
	wire.setAway(false)
	if c := claim(t, d, "t", 1, 0); c.URL != "" || d.Health() != nil {
		t.Errorf("%+v, health %v", c, d.Health())
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := d.Claim(t.Context(), nil); !errors.Is(err, pglobby.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, cfg := range []pglobby.Config{
		{URL: "postgres://x", HandOver: ""},
		{URL: "postgres://x", HandOver: "point:8080"},
		{URL: "postgres://x", HandOver: "http://user:hunter2@point/"},
		{URL: "", HandOver: "http://point/"},
		{URL: "postgres://muster:hunter2@host:port/db", HandOver: "http://point/"},
	} {
		_, err := pglobby.Open(t.Context(), cfg)
		if err == nil || strings.Contains(err.Error(), "hunter2") && !strings.Contains(cfg.HandOver, "hunter2") {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// What servers that are gone have left is dropped.
func TestSweep(t *testing.T) {
	u := place(t)
	d := open(t, u, "http://a:1/")
	claim(t, open(t, u, "http://b:1/"), "old", 1, 0)
	exec(t, u, "update muster_rdv_claim set expires = now() - interval '1 second'")
	claim(t, d, "new", 2, 0)
	db, err := pgx.Connect(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(background) }()
	var n int
	if err := db.QueryRow(t.Context(), "select count(*) from muster_rdv_claim").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d claims, %v; want 1", n, err)
	}
}
