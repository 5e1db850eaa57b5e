package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A terminal is a pseudo-terminal with 'muster' in it, and what a person sees
// of it.
type terminal struct {
	t    *testing.T
	ptm  *os.File
	cmd  *exec.Cmd
	done chan struct{} // the program and its output have ended

	mu    sync.Mutex
	raw   []byte
	shows screen
	more  chan struct{} // closed and made anew when there is more
}

// newTerminal runs a verb in a terminal that is so wide.
func newTerminal(t *testing.T, columns int, env []string, args ...string) *terminal {
	t.Helper()
	ptm, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("skip: no pseudo-terminals: %v", err)
	}
	fd := int(ptm.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	pts, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, ptm: ptm, done: make(chan struct{}), shows: screen{columns: columns}, more: make(chan struct{})}
	x.resize(columns)
	x.cmd = exec.Command("muster", args...) // of TestMain
	x.cmd.Env = append(append(os.Environ(), "TERM=xterm", "NO_COLOR="), env...)
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = pts, pts, pts
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go x.read(pts)
	t.Cleanup(func() {
		_ = x.cmd.Process.Kill()
		<-x.done
		_ = ptm.Close()
		if t.Failed() {
			t.Logf("muster %v:\n%q", args, x.raw)
		}
	})
	return x
}

// read takes what the program writes until it has ended. Pts is open here for
// so long, so that its settings can be asked for.
func (x *terminal) read(pts *os.File) {
	defer close(x.done)
	ended := make(chan struct{})
	go func() {
		_ = x.cmd.Wait()
		_ = pts.Close()
		close(ended)
	}()
	b := make([]byte, 4096)
	for {
		n, err := x.ptm.Read(b)
		x.mu.Lock()
		x.raw = append(x.raw, b[:n]...)
		x.shows.write(b[:n])
		close(x.more)
		x.more = make(chan struct{})
		x.mu.Unlock()
		if err != nil {
			<-ended
			return
		}
	}
}

func (x *terminal) resize(columns int) {
	x.t.Helper()
	if err := unix.IoctlSetWinsize(int(x.ptm.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(columns)}); err != nil {
		x.t.Fatal(err)
	}
	x.mu.Lock()
	x.shows.columns = columns
	x.mu.Unlock()
}

// waitFor returns the first match in all that was written so far.
func (x *terminal) waitFor(pattern string) string {
	x.t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		x.mu.Lock()
		m, more := re.FindSubmatch(x.raw), x.more
		x.mu.Unlock()
		if m != nil {
			return string(m[len(m)-1])
		}
		select {
		case <-more:
		case <-x.done:
			x.t.Fatalf("never wrote %q, %v", pattern, x.cmd.ProcessState)
		}
	}
}

func (x *terminal) press(keys string) {
	x.t.Helper()
	if _, err := x.ptm.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// end waits for the program, and returns its exit code, what it wrote and what
// is on the screen.
func (x *terminal) end() (code int, raw string, lines []string) {
	<-x.done
	return x.cmd.ProcessState.ExitCode(), string(x.raw), x.shows.lines
}

// settings are the terminal's modes.
func (x *terminal) settings() unix.Termios {
	x.t.Helper()
	s, err := unix.IoctlGetTermios(int(x.ptm.Fd()), unix.TCGETS)
	if err != nil {
		x.t.Fatal(err)
	}
	return *s
}

// A screen is what a terminal shows: endless lines, of which those that are too
// long go on below.
type screen struct {
	columns  int
	lines    []string // without blanks at their ends
	cells    []rune   // of the last line
	at       int
	rest     []byte // of a character or a code
	codes    int    // escape codes seen
	overflow int    // lines that were too long
}

var escape = regexp.MustCompile(`^\x1b\[[0-9;]*[A-Za-z]`)

func (s *screen) write(b []byte) {
	b = append(s.rest, b...)
	for len(b) > 0 {
		if b[0] == 0x1b {
			code := escape.Find(b)
			if code == nil {
				break
			}
			s.codes++
			b = b[len(code):]
			continue
		}
		if !utf8.FullRune(b) {
			break
		}
		r, n := utf8.DecodeRune(b)
		b = b[n:]
		s.put(r)
	}
	s.rest = bytes.Clone(b)
	s.show()
}

func (s *screen) put(r rune) {
	switch r {
	case '\r':
		s.at = 0
	case '\n':
		s.next()
	default:
		if s.at >= s.columns {
			s.overflow++
			s.next()
			s.at = 0
		}
		for len(s.cells) <= s.at {
			s.cells = append(s.cells, ' ')
		}
		s.cells[s.at] = r
		s.at++
	}
}

func (s *screen) next() {
	s.show()
	s.lines, s.cells = append(s.lines, ""), nil
}

func (s *screen) show() {
	if len(s.lines) == 0 {
		s.lines = []string{""}
	}
	s.lines[len(s.lines)-1] = strings.TrimRight(string(s.cells), " ")
}
