package lines

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"
)

// answerTimeout is how long a peer may take over one command. Peers give up by
// themselves before.
const answerTimeout = 60 * time.Second

// A Peer is a running peer, whose answers are of type A: a struct that embeds
// [Answer]. It is not safe for concurrent use.
type Peer[A interface{ head() Answer }] struct {
	Addr string // multiaddr with /p2p/ID
	ID   string

	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan A
}

// Start runs argv and waits until it listens. Its stderr goes to log.
func Start[A interface{ head() Answer }](ctx context.Context, log io.Writer, argv ...string) (*Peer[A], error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stderr = log
	// What a peer leaves running must not hold Wait.
	cmd.WaitDelay = 2 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Peer[A]{cmd: cmd, stdin: stdin, lines: make(chan A, 16)}
	go p.read(stdout)
	first, err := p.next()
	if err != nil || first.head().Event != "listen" {
		p.Close()
		return nil, fmt.Errorf("%s does not listen: %v %v", argv[0], first, err)
	}
	p.Addr, p.ID = first.head().Addr, first.head().Peer
	return p, nil
}

func (p *Peer[A]) read(stdout io.Reader) {
	defer close(p.lines)
	scanner := bufio.NewScanner(stdout)
	scanner.Buffer(nil, 4<<20)
	for scanner.Scan() {
		var a A
		if json.Unmarshal(scanner.Bytes(), &a) != nil {
			continue // some libraries print warnings
		}
		p.lines <- a
	}
}

func (p *Peer[A]) next() (a A, err error) {
	select {
	case a, ok := <-p.lines:
		if !ok {
			return a, errors.New("the peer is gone")
		}
		return a, nil
	case <-time.After(answerTimeout):
		return a, errors.New("no answer in time")
	}
}

// Do sends one command and returns the answer; a peer's error is an error.
func (p *Peer[A]) Do(words ...any) (A, error) {
	if _, err := fmt.Fprintln(p.stdin, words...); err != nil {
		var none A
		return none, err
	}
	a, err := p.next()
	if err == nil && a.head().Event == "error" {
		err = errors.New(a.head().Error)
	}
	return a, err
}

// Close asks the peer to quit and makes sure that it does.
func (p *Peer[A]) Close() {
	_, _ = io.WriteString(p.stdin, "quit\n")
	_ = p.stdin.Close()
	kill := time.AfterFunc(2*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	p.wait()
}

// Kill ends the peer at once, as a crash would.
func (p *Peer[A]) Kill() {
	_ = p.cmd.Process.Kill()
	p.wait()
}

func (p *Peer[A]) wait() {
	for range p.lines { //nolint:revive // drained so that the reader ends
	}
	_ = p.cmd.Wait()
}
