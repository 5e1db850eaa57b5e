package pglobby_test

import (
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// wire is what lies between a directory and its database, which the test cuts.
type wire struct {
	network, addr string
	l             net.Listener
	wg            sync.WaitGroup

	mu    sync.Mutex
	away  bool
	conns []net.Conn
}

// newWire returns a wire, and the URL that leads through it to where u leads.
func newWire(t testing.TB, u string) (*wire, string) {
	t.Helper()
	cfg, err := pgconn.ParseConfig(u)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{}
	w.network, w.addr = pgconn.NetworkAddress(cfg.Host, cfg.Port)
	parsed, err := url.Parse(u)
	if err != nil {
		t.Fatal(err)
	}
	q := parsed.Query()
	if w.network == "unix" {
		dir := t.TempDir()
		w.l, err = net.Listen("unix", filepath.Join(dir, ".s.PGSQL."+strconv.Itoa(int(cfg.Port))))
		q.Set("host", dir)
	} else if w.l, err = net.Listen("tcp", "127.0.0.1:0"); err == nil {
		parsed.Host = w.l.Addr().String()
	}
	if err != nil {
		t.Fatal(err)
	}
	parsed.RawQuery = q.Encode()
	w.wg.Go(w.accept)
	t.Cleanup(func() {
		_ = w.l.Close()
		w.setAway(true)
		w.wg.Wait()
	})
	return w, parsed.String()
}

func (w *wire) accept() {
	for {
		c, err := w.l.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial(w.network, w.addr)
		if err != nil || !w.add(c, s) {
			_ = c.Close()
			continue
		}
		for _, ends := range [][2]net.Conn{{c, s}, {s, c}} {
			w.wg.Go(func() {
				_, _ = io.Copy(ends[0], ends[1])
				_, _ = c.Close(), s.Close()
			})
		}
	}
}

func (w *wire) add(c, s net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away {
		_ = s.Close()
		return false
	}
	w.conns = append(w.conns, c, s)
	return true
}

// setAway cuts, and refuses, all connections, or takes them again.
func (w *wire) setAway(away bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away = away; !away {
		return
	}
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}
