package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p/enode"
)

// answerTime bounds any one command; a lookup in a network of ten takes one or two seconds.
const answerTime = 20 * time.Second

// kind is an implementation.
type kind struct {
	name, title string
	verbose     bool
	program     func() ([]string, error) // builds it if need be
}

// peer is a running node of some kind.
type peer struct {
	kind  kind
	key   *ecdsa.PrivateKey
	addr  string
	boot  []string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // closed when the program ends

	record string
	id     string
}

// start runs a node with a fresh identity on a free port of 127.0.0.1.
func (k kind) start(ctx context.Context, boot ...string) (*peer, error) {
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	key, err := crypto.GenerateKey()
	if err != nil {
		return nil, err
	}
	p := &peer{kind: k, key: key, addr: addr, boot: boot}
	return p, p.run(ctx)
}

// restart ends the node and runs it again: same identity, no sessions.
func (p *peer) restart(ctx context.Context) error {
	p.stop()
	return p.run(ctx)
}

func (p *peer) run(ctx context.Context) error {
	argv, err := p.kind.program()
	if err != nil {
		return err
	}
	argv = append(argv, "--addr", p.addr, "--key", hex.EncodeToString(crypto.FromECDSA(p.key)))
	for _, record := range p.boot {
		argv = append(argv, "--bootnode", record)
	}
	p.cmd = exec.CommandContext(ctx, argv[0], argv[1:]...)
	if p.kind.verbose {
		p.cmd.Stderr = os.Stderr
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.lines = make(chan string, 16)
	go func(lines chan<- string) {
		defer close(lines)
		for in := bufio.NewScanner(stdout); in.Scan(); {
			lines <- in.Text()
		}
	}(p.lines)
	first, err := p.answer()
	if err != nil {
		return fmt.Errorf("%s did not start: %w", p.kind.name, err)
	}
	return p.adopt(first)
}

// adopt takes a record as the node's own.
func (p *peer) adopt(record string) error {
	n, err := enode.Parse(enode.ValidSchemes, record)
	if err != nil {
		return fmt.Errorf("%s's record %q: %w", p.kind.name, record, err)
	}
	p.record, p.id = record, n.ID().String()
	return nil
}

func (p *peer) answer() (string, error) {
	select {
	case line, ok := <-p.lines:
		if !ok {
			return "", errors.New("the program ended")
		}
		return line, nil
	case <-time.After(answerTime):
		return "", fmt.Errorf("no answer in %v", answerTime)
	}
}

// do sends a command and returns the words of its answer after ok.
func (p *peer) do(words ...string) ([]string, error) {
	if _, err := fmt.Fprintln(p.stdin, strings.Join(words, " ")); err != nil {
		return nil, err
	}
	line, err := p.answer()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", p.kind.name, words[0], err)
	}
	if line == "ok" {
		return nil, nil
	}
	rest, ok := strings.CutPrefix(line, "ok ")
	if !ok {
		return nil, fmt.Errorf("%s %s: %s", p.kind.name, words[0], strings.TrimPrefix(line, "err "))
	}
	return strings.Fields(rest), nil
}

// stop ends the program: by the end of its input, or after two seconds by force.
func (p *peer) stop() {
	if p == nil || p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.stdin.Close() // the program may be gone
	kill := time.AfterFunc(2*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	for range p.lines { // until it closes its stdout
	}
	_ = p.cmd.Wait() // killed or not, it is gone
}

// freePort finds a UDP port on 127.0.0.1 that nobody has at this moment.
func freePort() (string, error) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.LocalAddr().String(), nil
}
