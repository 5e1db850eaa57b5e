package faults_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDamagedStore writes over the files of the store: the next start moves
// them aside, says so, and begins an empty one.
func TestDamagedStore(t *testing.T) {
	c := newClient(t, "127.0.0.1")
	d := start(t, setup{})
	c.use(t, d)
	for i := range 500 {
		if err := c.register(t.Context(), fmt.Sprintf("damage/%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	d.stop()
	d = start(t, setup{dir: d.dir}) // so that there is more than a log
	d.stop()
	damaged := 0
	err := filepath.WalkDir(d.dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		ext := filepath.Ext(name)
		if ext != ".sst" && ext != ".log" && !strings.HasPrefix(e.Name(), "MANIFEST") {
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil || len(b) < 64 {
			return err
		}
		for i := len(b) / 4; i < len(b)/2; i++ {
			b[i] ^= 0x5a
		}
		damaged++
		return os.WriteFile(name, b, 0o600)
	})
	if err != nil || damaged == 0 {
		t.Fatalf("%d files damaged, %v", damaged, err)
	}
	d = start(t, setup{dir: d.dir})
	code, body := d.get("/readyz")
	if !strings.Contains(body, "moved") && !strings.Contains(body, "damaged") && !strings.Contains(d.output(), "damaged") {
		t.Errorf("nothing is said of it: readyz %d %s\n%s", code, body, d.output())
	}
	c.use(t, d)
	if err := c.register(t.Context(), "damage/new"); err != nil {
		t.Errorf("registration in the new store: %v", err)
	}
	d.stop()
	d = start(t, setup{dir: d.dir})
	c.use(t, d)
	if ok, err := c.has(t.Context(), "damage/new", c); !ok || err != nil {
		t.Errorf("the new store lost it: %v, %v", ok, err)
	}
	later, _ := d.get("/readyz")
	d.stop()
	verdict(t, "%d files damaged: moved aside, empty store, readyz %d %q; next start %d", damaged, code, firstLine(body), later)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line[:min(len(line), 160)]
}

// TestBadKey corrupts the identity, and shows it to others: the daemon refuses
// to start, and says what is wrong.
func TestBadKey(t *testing.T) {
	d := start(t, setup{})
	d.stop()
	keys, err := filepath.Glob(filepath.Join(d.dir, "*.key"))
	if err != nil || len(keys) == 0 {
		t.Fatalf("no key in %s, %v", d.dir, err)
	}
	var said []string
	for _, key := range keys {
		said = append(said, badKey(t, d, key)...)
	}
	verdict(t, "%d keys, each corrupted, cut short, empty, readable by others: refused with %q", len(keys), said)
}

// badKey does to one key what can be done to it, and returns what is said.
func badKey(t *testing.T, d *daemon, key string) (said []string) {
	t.Helper()
	good, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	refuses := func(what string, code int) {
		t.Helper()
		d, ok := launch(t, setup{dir: d.dir})
		var exit *exec.ExitError
		switch {
		case ok:
			t.Errorf("%s: it started", what)
		case !errors.As(d.exitErr, &exit) || exit.ExitCode() != code || strings.Contains(d.output(), "panic"):
			t.Errorf("%s: %v, want exit code %d\n%s", what, d.exitErr, code, d.output())
		}
		if line := firstLine(d.output()); !strings.Contains(line, filepath.Base(key)) {
			t.Errorf("%s: %q does not name the file", what, line)
		} else {
			said = append(said, line[strings.Index(line, filepath.Base(key)):])
		}
	}
	bad := append([]byte{}, good...)
	for i := range bad {
		bad[i] ^= 1
	}
	write := func(b []byte, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.WriteFile(key, b, mode), os.Chmod(key, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write(bad, 0o600)
	refuses("corrupted", 2)
	write(good[:len(good)/2], 0o600)
	refuses("cut short", 2)
	write(nil, 0o600)
	refuses("empty", 2)
	write(good, 0o644)
	refuses("readable by others", 2)
	write(good, 0o600)
	again := start(t, setup{dir: d.dir})
	if again.addrs[0][strings.Index(again.addrs[0], "/p2p/"):] != d.addrs[0][strings.Index(d.addrs[0], "/p2p/"):] {
		t.Error("another identity")
	}
	again.stop()
	return said
}

// TestClock steps the clock of a running daemon by a day, back and forth, and
// restarts it in between: what was registered stays, and does not live longer
// than it may. The binary is built with a standard library whose time.Now adds
// what a file says, since libfaketime does not reach programs that do not ask
// the C library for the time.
func TestClock(t *testing.T) {
	if os.Getenv("MUSTER_FAULTS_BINARY") != "" && testing.Short() {
		t.Skip("needs to build a binary of its own")
	}
	stepping, file := steppingBinary(t)
	step := func(d time.Duration) {
		t.Helper()
		if err := os.WriteFile(file+".new", fmt.Appendf(nil, "%+d\n", int64(d/time.Second)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
		wait(t, 300*time.Millisecond)
	}
	step(0)
	s := setup{dir: filepath.Join(t.TempDir(), "data"), binary: stepping, env: []string{"MUSTER_FAKE_CLOCK=" + file}}
	d := start(t, s)
	c := newClient(t, "127.0.0.1")
	n := 0
	works := func(what string) {
		t.Helper()
		c.use(t, d)
		for i := range n {
			if ok, err := c.has(t.Context(), fmt.Sprintf("clock/%d", i), c); !ok || err != nil {
				t.Errorf("%s: registration %d: %v, %v", what, i, ok, err)
			}
		}
		if err := c.register(t.Context(), fmt.Sprintf("clock/%d", n)); err != nil {
			t.Errorf("%s: register: %v", what, err)
		}
		n++
		x, y, err := pair(d, "127.0.0.1", fmt.Sprintf("clock%d", n))
		if err != nil {
			t.Errorf("%s: pair: %v", what, err)
			return
		}
		_, _ = x.Close(), y.Close()
	}
	const day = 24 * time.Hour
	works("at first")
	step(day)
	works("a day later")
	step(-day)
	works("two days back")
	step(0)
	works("right again")
	d.stop()

	// A day passes while it is down, as far as the clock can tell: what was
	// registered for two hours is gone. Back in time it does not return.
	step(day)
	d = start(t, s)
	c.use(t, d)
	ok, err := c.has(t.Context(), "clock/0", c)
	if ok || err != nil {
		t.Errorf("a day later it is listed still, or %v", err)
	}
	n = 0
	works("a day later, after a start")
	d.stop()
	step(-day)
	d = start(t, s)
	c.use(t, d)
	if code, body := d.get("/livez"); code != 200 {
		t.Errorf("livez %d %s", code, body)
	}
	if err := c.register(t.Context(), "clock/back"); err != nil {
		t.Errorf("after a start two days back: %v", err)
	}
	d.stop()
	verdict(t, "steps of +1, -2, +1 day under it lose nothing; registrations of 2 h are gone after a day down; it starts at either time")
}

// steppingBinary builds a muster whose clock is moved by a file.
func steppingBinary(t *testing.T) (bin, file string) {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	src, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if !strings.Contains(string(src), now) {
		t.Skip("this Go's time.Now is not the one that we know")
	}
	fake := filepath.Join(dir, "time.go")
	if err := os.WriteFile(fake, []byte(strings.Replace(string(src), now, now+"\tsec += fakeClock.Load()\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	clock := filepath.Join(dir, "fakeclock.go")
	if err := os.WriteFile(clock, []byte(fakeClock), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	text := fmt.Sprintf(`{"Replace":{%q:%q,%q:%q}}`, name, fake, filepath.Join(filepath.Dir(name), "fakeclock.go"), clock)
	if err := os.WriteFile(overlay, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	bin = filepath.Join(dir, "muster")
	if err := build(bin, "-overlay", overlay); err != nil {
		t.Fatal(err)
	}
	return bin, filepath.Join(dir, "clock")
}

// fakeClock is put into package time, which can open files by itself.
const fakeClock = `package time

import (
	"sync/atomic"
	"syscall"
)

var fakeClock atomic.Int64

func init() {
	name, ok := syscall.Getenv("MUSTER_FAKE_CLOCK")
	if !ok {
		return
	}
	readFakeClock(name)
	go func() {
		for {
			Sleep(50 * Millisecond)
			readFakeClock(name)
		}
	}()
}

func readFakeClock(name string) {
	b, err := readFile(name)
	if err != nil || len(b) < 3 {
		return
	}
	n := int64(0)
	for _, c := range b[1 : len(b)-1] {
		n = n*10 + int64(c-'0')
	}
	if b[0] == '-' {
		n = -n
	}
	fakeClock.Store(n)
}
`
