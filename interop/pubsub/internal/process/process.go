// Package process starts a pubsub peer and talks its lines; see peerproc.
package process

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/muster-p2p/muster/interop/pubsub/internal/peerproc"
)

// answerTimeout is how long a peer may take over one command. Peers give up by
// themselves after half of it.
const answerTimeout = 60 * time.Second

// An Event is one line that a peer wrote.
type Event struct {
	Event       string                      `json:"event"`
	Addr        string                      `json:"addr"`
	Peer        string                      `json:"peer"`
	Count       int                         `json:"count"`
	Duplicates  int                         `json:"duplicates"`
	Corrupt     int                         `json:"corrupt"`
	Mesh        []string                    `json:"mesh"`
	Subscribers []string                    `json:"subscribers"`
	Connected   []string                    `json:"connected"`
	Counts      map[string]peerproc.Traffic `json:"counts"`
	Rejected    map[string]int              `json:"rejected"`
	Dropped     int                         `json:"dropped"`
	Error       string                      `json:"error"`
}

// Peer is a running pubsub peer. It is not safe for concurrent use.
type Peer struct {
	Addr string // multiaddr with /p2p/ID
	ID   string

	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan Event
}

// Start runs argv and waits until it listens. stderr goes to log.
func Start(ctx context.Context, log io.Writer, argv ...string) (*Peer, error) {
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
	p := &Peer{cmd: cmd, stdin: stdin, lines: make(chan Event, 16)}
	go p.read(stdout)
	ev, err := p.next()
	if err != nil || ev.Event != "listen" {
		p.Close()
		return nil, fmt.Errorf("%s does not listen: %v %v", argv[0], ev, err)
	}
	p.Addr, p.ID = ev.Addr, ev.Peer
	return p, nil
}

func (p *Peer) read(stdout io.Reader) {
	defer close(p.lines)
	scanner := bufio.NewScanner(stdout)
	scanner.Buffer(nil, 4<<20)
	for scanner.Scan() {
		var ev Event
		if json.Unmarshal(scanner.Bytes(), &ev) != nil {
			continue // some libraries print warnings
		}
		p.lines <- ev
	}
}

func (p *Peer) next() (Event, error) {
	select {
	case ev, ok := <-p.lines:
		if !ok {
			return ev, errors.New("the peer is gone")
		}
		return ev, nil
	case <-time.After(answerTimeout):
		return Event{}, errors.New("no answer in time")
	}
}

// Do sends one command and returns the answer; a peer's error is an error.
func (p *Peer) Do(words ...any) (Event, error) {
	line := strings.TrimSuffix(fmt.Sprintln(words...), "\n")
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		return Event{}, err
	}
	ev, err := p.next()
	if err == nil && ev.Event == "error" {
		err = errors.New(ev.Error)
	}
	return ev, err
}

// Close asks the peer to quit and makes sure that it does.
func (p *Peer) Close() {
	_, _ = io.WriteString(p.stdin, "quit\n")
	_ = p.stdin.Close()
	kill := time.AfterFunc(2*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	for range p.lines { //nolint:revive // drained so that the reader ends
	}
	_ = p.cmd.Wait()
}

// Kill ends the peer at once, as a crash would.
func (p *Peer) Kill() {
	_ = p.cmd.Process.Kill()
	for range p.lines { //nolint:revive // drained so that the reader ends
	}
	_ = p.cmd.Wait()
}
