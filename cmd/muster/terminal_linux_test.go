package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// offered sends a file of so many bytes from a terminal, and returns the code
// that takes it.
func offered(t *testing.T, size int64, columns int, env []string, args ...string) (sender *terminal, code string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "a file with a name of more than forty columns.bin")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	sender = newTerminal(t, columns, env, append([]string{"send", file}, args...)...)
	return sender, sender.waitFor(`muster recv (\S+)`)
}

// server runs an rdv server for a test.
func server(t *testing.T, args ...string) string {
	t.Helper()
	lines, _ := startVerb(t, append([]string{"rdv", "serve", "--listen", "127.0.0.1:0"}, args...)...)
	return nextLine(t, lines)
}

// TestTerminalTransfer: what a person sees of a transfer: a question, a line that
// is drawn anew and fits, and in the end what has happened and nothing else.
func TestTerminalTransfer(t *testing.T) {
	t.Parallel()
	url := server(t)
	for _, tt := range []struct {
		name    string
		columns int
		env     []string
		bar     bool
	}{
		{"wide", 120, nil, true},
		{"usual", 80, nil, true},
		{"narrow", 40, nil, true},
		{"no colours", 80, []string{"NO_COLOR=1"}, true},
		{"dumb", 80, []string{"TERM=dumb"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			sender, code := offered(t, 32<<20, tt.columns, tt.env, "--server", url)
			receiver := newTerminal(t, tt.columns, tt.env, "recv", code, "--out", out)
			receiver.waitFor(`write to .*\? \[Y/n\] `)
			receiver.press("y\r")
			for who, x := range map[string]*terminal{"sending": sender, "receiving": receiver} {
				exit, raw, lines := x.end()
				all := strings.Join(lines, "\n")
				if exit != exitOK || !strings.Contains(strings.Join(lines, ""), "done "+who) {
					t.Errorf("%s: exit %d: %s", who, exit, all)
				}
				if drawn := strings.Contains(raw, "% "); drawn != tt.bar {
					t.Errorf("%s: a line was drawn: %v", who, drawn)
				}
				if strings.Contains(all, "%") || strings.Contains(all, "[=") {
					t.Errorf("%s: the line is still there: %s", who, all)
				}
				if strings.ContainsRune(raw, 0x1b) {
					t.Errorf("%s: escape codes in %q", who, raw)
				}
				for drawn := range strings.SplitSeq(raw, "\r") {
					if strings.Contains(drawn, "% ") && columnsIn(drawn) >= tt.columns {
						t.Errorf("%s: %q does not fit", who, drawn)
					}
				}
			}
		})
	}
}

// TestTerminalInterrupt: Ctrl-C in the middle leaves the terminal as it was and
// what has come where it is: the next try goes on from there. A window that
// becomes narrow in between gets lines that fit.
func TestTerminalInterrupt(t *testing.T) {
	t.Parallel()
	url, out := server(t, "--pair-rate", "4M"), t.TempDir()
	sender, code := offered(t, 24<<20, 100, nil, "--server", url, "--relay")
	receiver := newTerminal(t, 100, nil, "recv", code, "--out", out, "--yes", "--relay")
	before := receiver.settings()
	receiver.waitFor(`\] +[1-9]\d?%`)
	receiver.resize(40)
	receiver.waitFor(`\n\r[^\r]{0,39}\r[^\r]* (\d+%)`) // on a line of its own
	receiver.press("\x03")
	if after := receiver.settings(); after != before {
		t.Errorf("the terminal was %+v, and is %+v", before, after)
	}
	exit, _, lines := receiver.end()
	if last := lines[len(lines)-2:]; exit != exitSignal+2 || !strings.Contains(last[0], "interrupt signal received") || last[1] != "" {
		t.Errorf("exit %d: %q", exit, lines)
	}
	part, err := filepath.Glob(filepath.Join(out, "*"+".muster-part"))
	if err != nil || len(part) != 1 {
		t.Fatalf("left %v, %v", part, err)
	}
	again := newTerminal(t, 100, nil, "recv", code, "--out", out, "--yes")
	exit, _, lines = again.end()
	if all := strings.Join(lines, ""); exit != exitOK || !strings.Contains(all, "had come before") {
		t.Errorf("exit %d: %s", exit, all)
	}
	if exit, _, lines := sender.end(); exit != exitOK {
		t.Errorf("the sender: exit %d: %q", exit, lines)
	}
}

// TestTerminalQuestion: no is no, and Ctrl-C at the question is Ctrl-C.
func TestTerminalQuestion(t *testing.T) {
	url := server(t)
	for keys, want := range map[string]int{"n\r": exitRefused, "no\r": exitRefused, "\x04": exitRefused, "\x03": exitSignal + 2} {
		out := t.TempDir()
		_, code := offered(t, 1<<10, 80, nil, "--server", url)
		receiver := newTerminal(t, 80, nil, "recv", code, "--out", out)
		receiver.waitFor(`\? \[Y/n\] `)
		receiver.press(keys)
		if exit, _, lines := receiver.end(); exit != want {
			t.Errorf("%q: exit %d: %q", keys, exit, lines)
		}
		if left, err := os.ReadDir(out); err != nil || len(left) > 0 {
			t.Errorf("%q: left %v, %v", keys, left, err)
		}
	}
}

// TestTerminalQR: a code that fits, in colours if there may be any, and a word
// where it does not fit. TestQRIsRead reads it as a camera does.
func TestTerminalQR(t *testing.T) {
	url := server(t)
	for _, tt := range []struct {
		columns       int
		env           []string
		code, colours bool
	}{
		{80, nil, true, true},
		{40, nil, true, true},
		{80, []string{"NO_COLOR=1"}, true, false},
		{80, []string{"TERM=dumb"}, true, false},
		{30, nil, false, false},
	} {
		x := newTerminal(t, tt.columns, tt.env, "listen", "--server", url, "--qr")
		if tt.code {
			x.waitFor(`▄[\s\S]*(█{20,}[^█▄▀]*\n)$`)
		} else {
			x.waitFor("columns wide")
		}
		x.press("\x03")
		_, raw, lines := x.end()
		all := strings.Join(lines, "\n")
		if got := strings.Contains(all, "▄"); got != tt.code {
			t.Errorf("%+v: a code: %v: %s", tt, got, all)
		}
		if got := strings.ContainsRune(raw, 0x1b); got != tt.colours {
			t.Errorf("%+v: colours: %v", tt, got)
		}
		for _, l := range lines {
			if strings.Contains(l, "▄") && columnsIn(l) > tt.columns {
				t.Errorf("%+v: %q is too wide", tt, l)
			}
		}
	}
}
