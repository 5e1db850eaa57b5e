package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// builder makes the programs, each once.
type builder struct {
	ctx     context.Context
	dir     string // this folder
	out     string // where programs go
	verbose bool

	mu   sync.Mutex
	done map[string]error
}

// once runs a build step unless it has run.
func (b *builder) once(name string, step func() error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done == nil {
		b.done = map[string]error{}
	}
	err, ok := b.done[name]
	if !ok {
		err = step()
		b.done[name] = err
	}
	return err
}

func (b *builder) command(dir, name string, args ...string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("%s is not installed", name)
	}
	cmd := exec.CommandContext(b.ctx, path, args...)
	cmd.Dir = filepath.Join(b.dir, dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, lines[len(lines)-1])
	}
	return nil
}

// goProgram builds a package of the module in dir and returns the program.
func (b *builder) goProgram(dir, pkg, name string) (string, error) {
	path := filepath.Join(b.out, name)
	err := b.once(name, func() error {
		if err := os.MkdirAll(b.out, 0o755); err != nil {
			return err
		}
		return b.command(dir, "go", "build", "-o", path, pkg)
	})
	return path, err
}

func (b *builder) muster() (string, error) {
	return b.goProgram("../..", "./cmd/muster", "muster")
}

func (b *builder) devp2p() (string, error) {
	return b.goProgram(".", "github.com/ethereum/go-ethereum/cmd/devp2p", "devp2p")
}

func musterKind(b *builder) kind {
	return kind{name: "muster", title: "muster", verbose: b.verbose, program: func() ([]string, error) {
		path, err := b.goProgram("musterpeer", ".", "musterpeer")
		return []string{path}, err
	}}
}

func gethKind(b *builder) kind {
	return kind{name: "geth", title: "go-ethereum v1.17.10", verbose: b.verbose, program: func() ([]string, error) {
		path, err := b.goProgram(".", "./gethpeer", "gethpeer")
		return []string{path}, err
	}}
}

func chainsafeKind(b *builder) kind {
	return kind{name: "chainsafe", title: "@chainsafe/discv5 11.0.4", verbose: b.verbose, program: func() ([]string, error) {
		err := b.once("chainsafe", func() error {
			return b.command("chainsafe", "npm", "ci", "--omit=dev", "--no-audit", "--no-fund")
		})
		return []string{"node", filepath.Join(b.dir, "chainsafe", "peer.mjs")}, err
	}}
}

func sigpKind(b *builder) kind {
	return kind{name: "sigp", title: "sigp/discv5 0.12.0", verbose: b.verbose, program: func() ([]string, error) {
		err := b.once("sigp", func() error {
			return b.command("sigp", "cargo", "build", "--release", "--locked", "--quiet")
		})
		return []string{filepath.Join(b.dir, "sigp", "target", "release", "sigp-peer")}, err
	}}
}
