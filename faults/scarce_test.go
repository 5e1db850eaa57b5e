package faults_test

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// TestDiskFull fills the disk under a running daemon: what it has is listed on,
// new registrations are refused, and taken again when there is room.
func TestDiskFull(t *testing.T) {
	small := os.Getenv("MUSTER_TEST_SMALL_DISK")
	if small == "" {
		t.Skip("needs a small disk, and so root: run make faults")
	}
	ballast := filepath.Join(small, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	d := start(t, setup{dir: filepath.Join(small, "data")})
	var cs []*client
	for range 40 {
		c := newClient(t, "127.0.0.1")
		c.use(t, d)
		cs = append(cs, c)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var refusal error
	first, stored := "", 0
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	fill := func() { // until each of them is refused
		for w, c := range cs {
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					ns := fmt.Sprintf("disk/%d/%d/%s", w, i%900, strings.Repeat("x", 200))
					err := c.register(ctx, ns)
					mu.Lock()
					if err != nil {
						refusal = cmp.Or(refusal, err)
						mu.Unlock()
						return
					}
					if stored++; w == 0 && first == "" {
						first = ns
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	// What Pebble rewrites once it may write no more can make room again.
	code, body := 200, ""
	for code == 200 && ctx.Err() == nil {
		fill()
		code, body = d.get("/readyz")
	}
	if refusal == nil {
		t.Fatal("the disk was not filled")
	}
	if ok, err := cs[1].has(t.Context(), first, cs[0]); !ok || err != nil {
		t.Errorf("reads while the disk is full: %v, %v", ok, err)
	}
	if code == 200 {
		t.Errorf("readyz says %d %s", code, body)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	took := eventually(t, "a registration after room was made", patience, func() bool {
		return cs[0].register(t.Context(), "disk/again") == nil
	})
	d.stop()
	verdict(t, "refused after %d registrations (%v), readyz %d, reads went on, back %v after there was room",
		stored, refusal, code, took.Round(time.Millisecond))
}

// TestDatabaseAway stops PostgreSQL for a minute.
func TestDatabaseAway(t *testing.T) {
	u, ctl := os.Getenv("MUSTER_TEST_POSTGRES"), os.Getenv("MUSTER_TEST_PG_CTL")
	if u == "" || ctl == "" {
		t.Skip("needs a PostgreSQL server that can be stopped: run make faults")
	}
	away := time.Duration(envInt("FAULTS_AWAY", 60)) * time.Second
	d := start(t, setup{args: []string{"--store", u}})
	c, other := newClient(t, "127.0.0.1"), newClient(t, "127.0.0.1")
	c.use(t, d)
	other.use(t, d)
	for i := range 20 {
		if err := c.register(t.Context(), fmt.Sprintf("away/%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	control := func(what string) {
		t.Helper()
		if out, err := exec.Command(ctl, what).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", what, err, out)
		}
	}
	control("stop")
	gone := time.Now()
	refusal := c.register(t.Context(), "away/refused")
	if refusal == nil {
		t.Error("acknowledged without a database")
	}
	slowest, reads := time.Duration(0), 0
	for time.Since(gone) < away {
		begun := time.Now()
		if ok, err := other.has(t.Context(), fmt.Sprintf("away/%d", reads%20), c); !ok || err != nil {
			t.Errorf("reads while the database is away: %v, %v", ok, err)
		}
		slowest, reads = max(slowest, time.Since(begun)), reads+1
		wait(t, 50*time.Millisecond)
	}
	code, _ := d.get("/readyz")
	if code == 200 {
		t.Error("readyz says nothing")
	}
	if x, y, err := pair(d, "127.0.0.1", "away"); err != nil {
		t.Errorf("relay without a database: %v", err)
	} else {
		_, _ = x.Close(), y.Close()
	}
	control("start")
	took := eventually(t, "a registration after the database is back", patience, func() bool {
		return c.register(t.Context(), "away/again") == nil
	})
	eventually(t, "ready again", patience, func() bool { code, _ := d.get("/readyz"); return code == 200 })
	d.stop()
	d = start(t, setup{dir: d.dir, args: []string{"--store", u}})
	other.use(t, d)
	for i := range 20 {
		if ok, err := other.has(t.Context(), fmt.Sprintf("away/%d", i), c); !ok || err != nil {
			t.Errorf("after it: %v, %v", ok, err)
		}
	}
	verdict(t, "away %v: %d reads, slowest %v; writes refused (%v); back in %v", away, reads, slowest.Round(time.Millisecond), refusal,
		took.Round(time.Millisecond))
}

// TestFewFiles floods a daemon that may have 256 descriptors with connections.
func TestFewFiles(t *testing.T) {
	d := start(t, setup{prefix: []string{"sh", "-c", `ulimit -n 256; exec "$@"`, "sh"}})
	c := newClient(t, "127.0.0.1")
	c.use(t, d)
	if err := c.register(t.Context(), "files"); err != nil {
		t.Fatal(err)
	}
	conns := flood(t, d, 600)
	open := files(d)
	if ok, err := c.has(t.Context(), "files", c); !ok || err != nil {
		t.Errorf("a client that was there: %v, %v", ok, err)
	}
	if err := c.register(t.Context(), "files/2"); err != nil {
		t.Errorf("it registers: %v", err)
	}
	if code, _ := d.get("/livez"); code != 200 {
		t.Errorf("livez says %d", code)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	fresh := newClient(t, "127.0.0.2")
	fresh.use(t, d)
	took := eventually(t, "a newcomer after the flood", patience, func() bool { return fresh.register(t.Context(), "files/new") == nil })
	eventually(t, "a pair after the flood", patience, func() bool {
		x, y, err := pair(d, "127.0.0.2", "files")
		if err == nil {
			_, _ = x.Close(), y.Close()
		}
		return err == nil
	})
	d.stop()
	verdict(t, "1200 connections at 256 descriptors: %d open, who was there is served, a newcomer %v after", open, took.Round(time.Millisecond))
}

// flood opens n connections to each listener, and leaves them.
func flood(t *testing.T, d *daemon, n int) (conns []net.Conn) {
	t.Helper()
	u, err := url.Parse(d.rdv)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ma.NewMultiaddr(d.addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	a, _ = ma.SplitLast(a) // without /p2p
	peers, err := manet.ToNetAddr(a)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		for _, addr := range []string{u.Host, peers.String()} {
			dialer := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i%200+1))}}
			conn, err := dialer.Dial("tcp", addr)
			if err != nil {
				continue
			}
			conns = append(conns, conn)
		}
	}
	t.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
	return conns
}

func files(d *daemon) int {
	list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	return len(list)
}

// TestLittleMemory loads a daemon whose collector is told to stay below 64 MiB.
func TestLittleMemory(t *testing.T) {
	d := start(t, setup{env: []string{"GOMEMLIMIT=64MiB"}})
	var slow times
	var wg sync.WaitGroup
	for w := range 16 {
		c := newClient(t, "127.0.0.1")
		c.use(t, d)
		wg.Go(func() {
			for i := range 900 {
				begun := time.Now()
				slow.add(begun, c.register(t.Context(), fmt.Sprintf("memory/%d/%d", w, i)))
			}
		})
	}
	wg.Wait()
	_, peak := d.memory()
	if slow.failed > 0 {
		t.Errorf("%d registrations failed, the last with %v", slow.failed, slow.err)
	}
	d.stop()
	verdict(t, "%d registrations at GOMEMLIMIT=64MiB: p99 %v, resident at most %d MiB", len(slow.took), slow.quantile(.99), peak)
}

// TestDrain stops a daemon as an operator does.
func TestDrain(t *testing.T) {
	d := start(t, setup{})
	x, y, err := pair(d, "127.0.0.1", "drain")
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := askRdv(d, "127.0.0.1", "ACCEPT", "waits")
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, "127.0.0.1")
	c.use(t, d)
	if err := c.register(t.Context(), "drain"); err != nil {
		t.Fatal(err)
	}
	d.signal(syscall.SIGTERM)
	if code, err := waiting.status(); code != 503 {
		t.Errorf("who waits is answered %d, %v", code, err)
	}
	late, err := askRdv(d, "127.0.0.1", "ACCEPT", "late")
	code := 0
	if err == nil {
		code, err = late.status()
		_ = late.Close()
	}
	if code != 503 {
		t.Errorf("a newcomer is answered %d, %v", code, err)
	}
	for range 20 {
		if err := talk(x, y); err != nil {
			t.Fatalf("the pair under way: %v", err)
		}
		wait(t, 50*time.Millisecond)
	}
	_, _ = x.Close(), y.Close()
	done := time.Now()
	select {
	case <-d.exited:
	case <-time.After(patience):
		t.Fatal("it does not end when the last pair has")
	}
	took := time.Since(done)
	if d.exitErr != nil {
		t.Errorf("it ended with %v", d.exitErr)
	}

	d = start(t, setup{dir: d.dir})
	x, y, err = pair(d, "127.0.0.1", "drain")
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	d.signal(syscall.SIGTERM)
	select {
	case <-d.exited:
	case <-time.After(patience + 10*time.Second):
		t.Fatal("it waits for ever")
	}
	cut := time.Since(begun)
	if cut < 25*time.Second || cut > 35*time.Second {
		t.Errorf("a pair that does not end was cut after %v", cut)
	}
	_, _ = x.Close(), y.Close()
	verdict(t, "newcomers 503, pair under way served, gone %v after it; one that stays is cut after %v", took.Round(time.Millisecond),
		cut.Round(100*time.Millisecond))
}
