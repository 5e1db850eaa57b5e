package pgstore_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/pgstore"
	"github.com/muster-p2p/muster/rendezvous/storetest"
)

var background = context.Background()

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Started by a package of go-libp2p when it is linked in.
		goleak.IgnoreAnyFunction("github.com/ipfs/go-log/v2/writer.(*MirrorWriter).logRoutine"))
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
	name := fmt.Sprintf("muster_test_%d_%d", os.Getpid(), schemas.Add(1))
	admin(t, "create schema "+name)
	t.Cleanup(func() { admin(t, "drop schema "+name+" cascade") })
	sep := "?"
	if strings.Contains(base, "?") {
		sep = "&"
	}
	return base + sep + "search_path=" + url.QueryEscape(name)
}

// admin runs a statement on a connection of its own.
func admin(t testing.TB, sql string, args ...any) {
	t.Helper()
	// Not t.Context: that is over when a test cleans up.
	db, err := pgx.Connect(background, server(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(background) }()
	if _, err := db.Exec(background, sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func newStore(t testing.TB, cfg pgstore.Config) *pgstore.Store {
	t.Helper()
	s, err := pgstore.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func maker(t testing.TB) storetest.Maker {
	t.Helper()
	server(t)
	return storetest.Maker{
		Shared: true,
		Place: func(t testing.TB) func() rendezvous.Store {
			u := place(t)
			return func() rendezvous.Store { return newStore(t, pgstore.Config{URL: u}) }
		},
	}
}

func TestSuite(t *testing.T) { storetest.Run(t, maker(t)) }
