package pglot_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/reach/pglot"
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
	name := fmt.Sprintf("muster_lot_%d_%d", os.Getpid(), schemas.Add(1))
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

func open(t testing.TB, u, point string) *pglot.Directory {
	t.Helper()
	d, err := pglot.Open(background, pglot.Config{URL: u, Point: point, Refresh: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func wantPoints(t *testing.T, d *pglot.Directory, id peer.ID, want ...string) {
	t.Helper()
	got, err := d.Find(t.Context(), id)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q at %q, %v; want %q", id, got, err, want)
	}
}

// await waits for what another connection brings about.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
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

func found(t *testing.T, d *pglot.Directory, id peer.ID) []string {
	got, err := d.Find(t.Context(), id)
	if err != nil {
		return []string{err.Error()}
	}
	return got
}

const urlA, urlB, urlC = "http://a:1/", "http://b:1/", "http://c:1/"

// A callee is found from the points where it is not, as soon as it is noted, at
// the last that it came to first.
func TestFind(t *testing.T) {
	u := place(t)
	a, b, c := open(t, u, urlA), open(t, u, urlB), open(t, u, urlC)
	wantPoints(t, b, "x")
	<-a.Park("x")
	wantPoints(t, b, "x", urlA)
	wantPoints(t, a, "x")
	<-b.Park("x")
	wantPoints(t, c, "x", urlB, urlA)
	wantPoints(t, a, "x", urlB)
	<-a.Park("x") // again, from another network
	wantPoints(t, c, "x", urlA, urlB)
	a.Leave("x")
	await(t, "gone from the first", func() bool { return slices.Equal(found(t, c, "x"), []string{urlB}) })
	<-a.Park("y")
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	wantPoints(t, c, "y")
	if _, err := a.Find(t.Context(), "y"); err == nil {
		t.Error("found by a directory that is closed")
	}
	<-a.Park("z") // does not hang
}

// A point that comes again has nobody yet; one that is forgotten while it runs
// says all again.
func TestAgain(t *testing.T) {
	u := place(t)
	a, b := open(t, u, urlA), open(t, u, urlB)
	<-a.Park("x")
	run(t, u, "truncate muster_reach_point, muster_reach_callee")
	await(t, "said again", func() bool { return slices.Equal(found(t, b, "x"), []string{urlA}) })
	run(t, u, "update muster_reach_point set expires = now() - interval '1 second' where url = '"+urlA+"'")
	await(t, "alive again", func() bool { return slices.Equal(found(t, b, "x"), []string{urlA}) })
	second := open(t, u, urlB) // in place of one that died a moment ago
	wantPoints(t, second, "x", urlA)
}

// What a point that dies has said ends with it.
func TestDead(t *testing.T) {
	u := place(t)
	b := open(t, u, urlB)
	run(t, u, "insert into muster_reach_point values (1, '"+urlA+"', now() + interval '500 milliseconds')")
	run(t, u, "insert into muster_reach_callee values ('x', 1)")
	wantPoints(t, b, "x", urlA)
	await(t, "forgotten", func() bool { return len(found(t, b, "x")) == 0 })
	await(t, "swept", func() bool {
		db, err := pgx.Connect(background, u)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close(background) }()
		var n int
		if err := db.QueryRow(background, "select count(*) from muster_reach_callee").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 0
	})
}

// While the database is away nobody waits, and what changed meanwhile is there
// when it is back.
func TestAway(t *testing.T) {
	ctl := os.Getenv("MUSTER_TEST_PG_CTL")
	if ctl == "" {
		t.Skip("needs a PostgreSQL server that it may stop: run make test-pg")
	}
	u := place(t)
	a, b := open(t, u, urlA), open(t, u, urlB)
	<-a.Park("stays")
	<-a.Park("leaves")
	control := func(verb string) {
		t.Helper()
		if out, err := exec.Command(ctl, verb).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", verb, err, out)
		}
	}
	control("stop")
	await(t, "known to be away", func() bool { return a.Health() != nil && b.Health() != nil })
	if _, err := b.Find(t.Context(), "stays"); err == nil {
		t.Error("found without a database")
	}
	<-a.Park("comes")
	a.Leave("leaves")
	control("start")
	for id, want := range map[peer.ID][]string{"stays": {urlA}, "comes": {urlA}, "leaves": nil} {
		await(t, string(id), func() bool { return slices.Equal(found(t, b, id), want) })
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, cfg := range []pglot.Config{{}, {URL: "postgres://x"}, {Point: urlA}, {URL: "postgres://x", Point: "ftp://a/"}, {URL: "postgres://u:secret@%", Point: urlA}} {
		if _, err := pglot.Open(t.Context(), cfg); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
