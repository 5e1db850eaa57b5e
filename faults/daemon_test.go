package faults_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is the muster under test.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run builds the binary, unless MUSTER_FAULTS_BINARY names one.
func run(m *testing.M) int {
	program = os.Getenv("MUSTER_FAULTS_BINARY")
	if program == "" {
		dir, err := os.MkdirTemp("", "muster-faults")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		program = filepath.Join(dir, "muster")
		if err := build(program); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

func build(to string, args ...string) error {
	cmd := exec.Command("go", append(append([]string{"build"}, args...), "-o", to, "./cmd/muster")...)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// verdict prints what a test has seen.
func verdict(t *testing.T, format string, args ...any) {
	t.Helper()
	state := "ok"
	if t.Failed() {
		state = "FAILED"
	}
	fmt.Printf("verdict: %s: %s (%s)\n", t.Name(), fmt.Sprintf(format, args...), state)
}

// patience bounds what a test waits for; nothing should take as long.
const patience = 30 * time.Second

// setup says how to run a daemon.
type setup struct {
	dir    string   // data directory; empty: a new one
	args   []string // beside those that all have
	env    []string
	prefix []string // a command that runs the rest of its arguments
	binary string   // empty: the one under test
}

// A daemon is a running 'muster serve'.
type daemon struct {
	t       *testing.T
	cmd     *exec.Cmd
	dir     string
	took    time.Duration // from exec to ready
	addrs   []string
	rdv     string // URL
	admin   string // URL
	exited  chan struct{}
	exitErr error

	mu  sync.Mutex
	log bytes.Buffer
}

// start runs a daemon until it is ready.
func start(t *testing.T, s setup) *daemon {
	t.Helper()
	d, ok := launch(t, s)
	if !ok {
		t.Fatalf("the daemon is not ready: %v\n%s", d.exitErr, d.output())
	}
	return d
}

// launch runs a daemon, and reports whether it became ready; else it has ended.
func launch(t *testing.T, s setup) (*daemon, bool) {
	t.Helper()
	if s.dir == "" {
		s.dir = filepath.Join(t.TempDir(), "data")
	}
	if s.binary == "" {
		s.binary = program
	}
	args := append(s.prefix, s.binary, "serve", "--json", "--data-dir", s.dir, "--listen", "/ip4/127.0.0.1/tcp/0",
		"--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--discv5-listen", "127.0.0.1:0",
		"--relay-access", "open", "--i-know-this-is-an-open-relay")
	args = append(args, s.args...)
	d := &daemon{t: t, dir: s.dir, exited: make(chan struct{})}
	d.cmd = exec.Command(args[0], args[1:]...)
	d.cmd.Env = append(os.Environ(), s.env...)
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	go d.read(stderr, ready)
	t.Cleanup(func() { d.signal(syscall.SIGKILL) })
	select {
	case <-ready:
	case <-d.exited:
		return d, false
	case <-time.After(patience):
		d.signal(syscall.SIGKILL)
		return d, false
	}
	d.took = time.Since(begun)
	return d, true
}

// read keeps what the daemon says, and takes from it where it is.
func (d *daemon) read(stderr io.Reader, ready chan struct{}) {
	sc := bufio.NewScanner(stderr)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		d.mu.Lock()
		if d.log.Len() < 1<<20 {
			d.log.Write(append(sc.Bytes(), '\n'))
		}
		d.mu.Unlock()
		var ev struct {
			Event string   `json:"event"`
			Addrs []string `json:"addrs"`
			Rdv   []string `json:"rdv"`
			Admin string   `json:"admin"`
		}
		if json.Unmarshal(sc.Bytes(), &ev) == nil && ev.Event == "ready" {
			d.addrs, d.admin = ev.Addrs, strings.TrimSuffix(ev.Admin, "/")
			if len(ev.Rdv) > 0 {
				d.rdv = ev.Rdv[0]
			}
			close(ready)
		}
	}
	d.exitErr = d.cmd.Wait()
	close(d.exited)
}

func (d *daemon) output() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

// signal sends a signal; a killed daemon is waited for.
func (d *daemon) signal(sig syscall.Signal) {
	_ = d.cmd.Process.Signal(sig)
	if sig == syscall.SIGKILL {
		<-d.exited
	}
}

// stop ends the daemon as an operator does, and wants it to end well.
func (d *daemon) stop() {
	d.t.Helper()
	d.signal(syscall.SIGTERM)
	select {
	case <-d.exited:
	case <-time.After(patience + 10*time.Second):
		d.t.Fatal("the daemon does not stop")
	}
	if d.exitErr != nil {
		d.t.Errorf("the daemon ended with %v\n%s", d.exitErr, d.output())
	}
}

func (d *daemon) alive() bool {
	select {
	case <-d.exited:
		return false
	default:
		return true
	}
}

// get fetches a page of the admin listener.
func (d *daemon) get(path string) (int, string) {
	c := http.Client{Timeout: patience}
	resp, err := c.Get(d.admin + path)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(b)
}

// memory returns the resident set in MiB, now and at most.
func (d *daemon) memory() (now, peak int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	field := func(name string) int {
		_, rest, _ := strings.Cut(string(b), name)
		n, _ := strconv.Atoi(strings.Fields(rest + " 0")[0])
		return n >> 10
	}
	return field("VmRSS:"), field("VmHWM:")
}

// eventually waits until ok holds; what it looks at does not announce itself.
func eventually(t *testing.T, what string, within time.Duration, ok func() bool) time.Duration {
	t.Helper()
	begun := time.Now()
	for !ok() {
		if time.Since(begun) > within {
			t.Errorf("not within %v: %s", within, what)
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(begun)
}

// wait waits, or until the test is over.
func wait(t *testing.T, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}
