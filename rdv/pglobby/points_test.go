package pglobby_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	osexec "os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-p2p/muster/internal/balancer"
	"github.com/muster-p2p/muster/rdv"
	"github.com/muster-p2p/muster/rdv/pglobby"
)

// pointEnv has the test binary run a point over the database that it names.
const pointEnv = "MUSTER_TEST_LOBBY_POINT"

// startPoint serves a point on loopback, and returns its address.
func startPoint(u string) (addr string, srv *rdv.Server, stop func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, nil, err
	}
	addr = ln.Addr().String()
	d, err := pglobby.Open(background, pglobby.Config{URL: u, HandOver: "http://" + addr + "/"})
	if err != nil {
		_ = ln.Close()
		return "", nil, nil, err
	}
	srv = &rdv.Server{Directory: d, LobbyTimeout: time.Minute, MaxWaitingPerSource: -1}
	h := srv.HTTPServer()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = h.Serve(ln)
	}()
	return addr, srv, func() {
		_, _ = h.Close(), srv.Close()
		<-done
		_ = d.Close()
	}, nil
}

// runPoint is a point as a process, until its stdin ends.
func runPoint(u string) int {
	addr, _, stop, err := startPoint(u)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer stop()
	fmt.Println(addr)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func newPoint(t testing.TB, u string) (string, *rdv.Server) {
	t.Helper()
	addr, srv, stop, err := startPoint(u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return addr, srv
}

// process is a point in a process of its own.
type process struct {
	addr string
	cmd  *osexec.Cmd
}

func newProcess(t *testing.T, u string) *process {
	t.Helper()
	cmd := osexec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), pointEnv+"="+u)
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return &process{addr: strings.TrimSpace(line), cmd: cmd}
}

// relayOnly is a client as any, that takes the relay.
var relayOnly = rdv.Client{AddrSpaces: rdv.NoSpaces, Picker: rdv.PickFirst(), Timeout: 20 * time.Second}

// talk has two clients meet, and a message pass each way. When one fails the
// other need not wait.
func talk(ctx context.Context, token, dialer, acceptor string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, 2)
	end := func(method, addr, say, hear string) error {
		conn, _, err := relayOnly.Do(ctx, method, "http://"+addr, token, nil)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetDeadline(time.Now().Add(relayOnly.Timeout)); err != nil {
			return err
		}
		if _, err := io.WriteString(conn, say); err != nil {
			return err
		}
		got := make([]byte, len(hear))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != hear {
			return fmt.Errorf("read %q, %w; want %q", got, err, hear)
		}
		return nil
	}
	go func() { errs <- end(rdv.ACCEPT, acceptor, "from acceptor", "from dialer") }()
	go func() { errs <- end(rdv.DIAL, dialer, "from dialer", "from acceptor") }()
	first := <-errs
	if first != nil {
		cancel()
	}
	if second := <-errs; first == nil {
		return second
	}
	return first
}

// Clients of a release that knows nothing of lobbies meet over two points and
// a real database.
func TestPoints(t *testing.T) {
	u := place(t)
	var addrs []string
	for range 3 {
		addr, _ := newPoint(t, u)
		addrs = append(addrs, addr)
	}
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			if err := talk(t.Context(), fmt.Sprint("token-", i), addrs[i%3], addrs[(i/3)%3]); err != nil {
				t.Errorf("pair %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// A database that goes away stops only those pairs that need it, until it is
// back.
func TestPointsDatabaseAway(t *testing.T) {
	w, through := newWire(t, place(t))
	a, srv := newPoint(t, through)
	b, _ := newPoint(t, through)
	if err := talk(t.Context(), "before", a, b); err != nil {
		t.Fatal(err)
	}
	w.setAway(true)
	if err := talk(t.Context(), "same", a, a); err != nil {
		t.Errorf("at one point: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- talk(t.Context(), "across", a, b) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for srv.Stats().DirectoryErrors == 0 {
		select {
		case err := <-done:
			t.Fatalf("across points without a database: %v", err)
		case <-tick.C:
		}
	}
	w.setAway(false)
	if err := <-done; err != nil {
		t.Errorf("when it is back: %v", err)
	}
}

// TestPointKilled runs pairs through a load balancer over three processes, and
// kills one of them. Pairs that were caught in it try again, as any client of a
// server does that broke; all others do not notice.
func TestPointKilled(t *testing.T) {
	u := place(t)
	var ps []*process
	var addrs []string
	for range 3 {
		p := newProcess(t, u)
		ps, addrs = append(ps, p), append(addrs, p.addr)
	}
	addr := balancer.Start(t, addrs...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	var wg sync.WaitGroup
	var before, after, again atomic.Int64
	var killed, gone atomic.Bool
	killedNow := make(chan struct{})
	const workers, untilKill, afterKill = 8, 200, 400
	for w := range workers {
		wg.Go(func() {
			for i := 0; after.Load() < afterKill && ctx.Err() == nil; i++ {
				token := fmt.Sprintf("token-%d-%d", w, i)
				whole := gone.Load()
				err := talk(ctx, token, addr, addr)
				for try := 0; err != nil && try < 3; try++ {
					if !killed.Load() || whole { // not caught in it
						t.Errorf("%s: %v", token, err)
						return
					}
					again.Add(1)
					err = talk(ctx, token+"-again", addr, addr)
				}
				if err != nil {
					t.Errorf("%s, again: %v", token, err)
				}
				if whole {
					after.Add(1)
				} else if before.Add(1) == untilKill {
					close(killedNow)
				}
			}
		})
	}
	select {
	case <-killedNow:
	case <-ctx.Done():
		t.Fatal("no traffic")
	}
	killed.Store(true)
	if err := ps[0].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = ps[0].cmd.Wait()
	gone.Store(true)
	wg.Wait()
	t.Logf("%d pairs before the kill, %d after it, %d caught in it and tried again", before.Load(), after.Load(), again.Load())
	if after.Load() < afterKill {
		t.Errorf("only %d pairs after the kill", after.Load())
	}
}

// BenchmarkMatch is the time from the request of the second peer to its
// response, where the first waits at the same point, and at another one.
func BenchmarkMatch(b *testing.B) {
	for _, across := range []bool{false, true} {
		b.Run(fmt.Sprintf("points=%d", 1+map[bool]int{true: 1}[across]), func(b *testing.B) {
			u := place(b)
			first, srv := newPoint(b, u)
			second := first
			if across {
				second, _ = newPoint(b, u)
			}
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				token := fmt.Sprintf("token-%d-%d", i, rand.Uint64())
				x := request(b, first, rdv.ACCEPT, token)
				for end := time.Now().Add(time.Minute); srv.Stats().Waiting == 0; time.Sleep(100 * time.Microsecond) {
					if time.Now().After(end) {
						b.Fatal("nobody waits")
					}
				}
				begun := time.Now()
				y := request(b, second, rdv.DIAL, token)
				response(b, y)
				took = append(took, time.Since(begun))
				response(b, x)
				_, _ = x.Close(), y.Close()
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1e3, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1e3, "p99-ms")
		})
	}
}

func request(t testing.TB, addr, method, token string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(c, "%s /%s HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: rdv/1\r\n\r\n", method, token)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func response(t testing.TB, c net.Conn) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
}
