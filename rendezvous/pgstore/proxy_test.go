package pgstore_test

import (
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// proxy is the wire between a store and its database, which the test cuts.
type proxy struct {
	network, addr string
	l             net.Listener
	wg            sync.WaitGroup
	budget        atomic.Int64 // bytes to go until it is cut; negative: not to be cut

	mu    sync.Mutex
	away  bool
	conns map[net.Conn]bool
}

// newProxy returns a proxy, and the URL that leads through it to where u leads.
func newProxy(t testing.TB, u string) (*proxy, string) {
	t.Helper()
	cfg, err := pgconn.ParseConfig(u)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{conns: map[net.Conn]bool{}}
	p.budget.Store(-1)
	p.network, p.addr = pgconn.NetworkAddress(cfg.Host, cfg.Port)
	parsed, err := url.Parse(u)
	if err != nil {
		t.Fatal(err)
	}
	q := parsed.Query()
	if p.network == "unix" {
		dir := t.TempDir()
		p.l, err = net.Listen("unix", filepath.Join(dir, ".s.PGSQL."+strconv.Itoa(int(cfg.Port))))
		q.Set("host", dir)
	} else {
		p.l, err = net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			parsed.Host = p.l.Addr().String()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	parsed.RawQuery = q.Encode()
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = p.l.Close()
		p.cut()
		p.wg.Wait()
	})
	return p, parsed.String()
}

func (p *proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial(p.network, p.addr)
		if err != nil {
			_ = c.Close()
			continue
		}
		if !p.add(c, s) {
			continue
		}
		p.wg.Go(func() { p.pipe(c, s) })
		p.wg.Go(func() { p.pipe(s, c) })
	}
}

// add notes the two ends of a connection, or closes them while it is cut.
func (p *proxy) add(c, s net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		_, _ = c.Close(), s.Close()
		return false
	}
	p.conns[c], p.conns[s] = true, true
	return true
}

// pipe copies, and ends both ends when one ends or the budget is used up.
func (p *proxy) pipe(from, to net.Conn) {
	defer func() {
		_, _ = from.Close(), to.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, from)
		delete(p.conns, to)
	}()
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if n > 0 && !p.spend(int64(n)) {
			p.cut()
			return
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// spend reports whether n bytes may pass.
func (p *proxy) spend(n int64) bool {
	for {
		left := p.budget.Load()
		switch {
		case left < 0:
			return true
		case left < n:
			p.budget.Store(-1)
			return false
		case p.budget.CompareAndSwap(left, left-n):
			return true
		}
	}
}

// cut cuts all connections; new ones may be made.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// setAway cuts, and refuses, all connections, or takes them again.
func (p *proxy) setAway(away bool) {
	p.mu.Lock()
	p.away = away
	p.mu.Unlock()
	if away {
		p.cut()
	}
}

// TestURL keeps passwords out of errors.
func TestURL(t *testing.T) {
	for _, u := range []string{"", "postgres://muster:hunter2@[::1", "postgres://muster:hunter2@host:port/db"} {
		_, err := newConfig(u)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", u, err)
		}
	}
}
