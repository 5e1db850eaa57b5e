package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// A server is the process under load.
type server struct {
	cmd  *exec.Cmd
	addr string
}

func startServer(ctx context.Context, program, whose string, extra []string) (*server, error) {
	s := &server{}
	if whose == theirs {
		// It cannot choose a port itself.
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		s.addr = l.Addr().String()
		if err := l.Close(); err != nil {
			return nil, err
		}
		s.cmd = exec.CommandContext(ctx, program, "-l", s.addr, "serve")
		if err := s.cmd.Start(); err != nil {
			return nil, err
		}
		return s, s.listening(ctx)
	}
	args := append([]string{"rdv", "serve", "--listen", "127.0.0.1:0", "--max-waiting-per-source", "-1"}, extra...)
	s.cmd = exec.CommandContext(ctx, program, args...)
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("read its URL: %w", err)
	}
	s.addr = strings.TrimPrefix(strings.TrimSpace(url), "http://")
	return s, s.listening(ctx)
}

// listening waits until the server takes connections.
func (s *server) listening(ctx context.Context) error {
	for end := time.Now().Add(5 * time.Second); ; {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *server) stop() error {
	if err := s.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = s.cmd.Wait() // says that it was killed
	return nil
}

// rss is the resident memory in KiB.
func (s *server) rss() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(l, "VmRSS:"); ok {
			return strconv.ParseFloat(strings.Fields(v)[0], 64)
		}
	}
	return 0, errors.New("no VmRSS")
}

// ticks is how many of its clock ticks make a second of /proc.
const ticks = 100

// cpu is the processor time in seconds, in user and kernel mode.
func (s *server) cpu() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b)[strings.LastIndexByte(string(b), ')')+1:])
	user, err1 := strconv.ParseFloat(f[11], 64)
	system, err2 := strconv.ParseFloat(f[12], 64)
	return (user + system) / ticks, errors.Join(err1, err2)
}

func (s *server) fds() (float64, error) {
	d, err := os.Open(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return float64(len(names)), err
}
