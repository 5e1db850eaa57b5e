package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// suiteTests is how many tests go-ethereum v1.17.10 has for discv5.
const suiteTests = 10

// listener is a running `muster discv5 listen`.
type listener struct {
	cmd    *exec.Cmd
	record string
}

// listen starts the command on its defaults and waits for its record.
func listen(ctx context.Context, program string, args ...string) (*listener, error) {
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	l := &listener{cmd: exec.CommandContext(ctx, program, append([]string{"discv5", "listen", "--addr", addr}, args...)...)}
	l.cmd.Stderr = os.Stderr
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	first := make(chan string, 1)
	go func() {
		in := bufio.NewScanner(out)
		in.Scan()
		first <- in.Text()
		for in.Scan() { // it must not block on a full pipe
		}
	}()
	select {
	case l.record = <-first:
	case <-time.After(answerTime):
	}
	if !strings.HasPrefix(l.record, "enr:") {
		l.stop()
		return nil, fmt.Errorf("muster discv5 listen printed %q, want its record", l.record)
	}
	return l, nil
}

// stop interrupts the command, as Ctrl-C does, and waits for it.
func (l *listener) stop() {
	_ = l.cmd.Process.Signal(syscall.SIGINT)
	kill := time.AfterFunc(5*time.Second, func() { _ = l.cmd.Process.Kill() })
	defer kill.Stop()
	_ = l.cmd.Wait() // what it exits with is not what is checked here
}

// conformance runs go-ethereum's suite against a fresh muster node.
func conformance(ctx context.Context, b *builder, r *report) {
	suite, err := b.devp2p()
	if err != nil {
		r.skip("devp2p", err)
		return
	}
	muster, err := b.muster()
	if err != nil {
		r.check("build muster", err)
		return
	}
	home, err := os.MkdirTemp("", "muster-interop-*")
	if err != nil {
		r.check("temporary directory", err)
		return
	}
	defer func() { _ = os.RemoveAll(home) }()
	l, err := listen(ctx, muster, "--key", filepath.Join(home, "key"))
	if err != nil {
		r.check("start muster", err)
		return
	}
	defer l.stop()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, suite, "discv5", "test", "--tap", "--listen1", "127.0.0.1", "--listen2", "127.0.0.2", l.record)
	out, err := cmd.CombinedOutput()
	passed := tap(r, string(out))
	if passed != suiteTests && err == nil {
		err = errors.New("it says all is well")
	}
	if passed != suiteTests {
		err = fmt.Errorf("%d of %d: %w", passed, suiteTests, err)
	}
	r.check(fmt.Sprintf("%d of %d", passed, suiteTests), err)
}

var tapLine = regexp.MustCompile(`^(not ok|ok)\s+\d+\s+-?\s*(.*)$`)

// tap reports each line of the suite's output (Test Anything Protocol) and
// counts the good ones.
func tap(r *report, out string) int {
	passed := 0
	lines := strings.Split(out, "\n")
	for i, line := range lines {
		m := tapLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if m[1] == "ok" {
			passed++
			r.check(m[2], nil)
			continue
		}
		var why []string
		for _, more := range lines[i+1:] {
			if tapLine.MatchString(more) {
				break
			}
			why = append(why, strings.TrimSpace(more))
		}
		r.check(m[2], errors.New(strings.Join(why, " ")))
	}
	return passed
}
