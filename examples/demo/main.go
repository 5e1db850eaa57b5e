// Command demo runs muster's main job for real on one machine: it starts a
// point and peers as processes, has one peer find the other by name and call it,
// moves a file to it while the link goes from the relay to a direct path,
// publishes a message, and lets two nodes find each other without a server. It
// prints what went where, over which path and in what time.
//
//	go run ./examples/demo bin/muster
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// limit bounds the whole demo: nothing in it waits for people.
const limit = 2 * time.Minute

// fileSize is the size of the file that is moved.
const fileSize = 32 << 20

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: demo MUSTER, the path of the muster command")
		os.Exit(2)
	}
	if err := run(ctx, os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo: "+err.Error())
		stop()
		os.Exit(1)
	}
}

// run is the demo with the given muster command.
func run(ctx context.Context, muster string, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	path, err := filepath.Abs(muster)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "muster-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d := &demo{ctx: ctx, muster: path, dir: dir, out: out}
	defer d.stop()
	for _, step := range []func() error{d.find, d.reach, d.files, d.talk, d.discover} {
		if err := step(); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "\nAll of it worked. 'make help' lists what else there is.")
	return nil
}

type demo struct {
	ctx    context.Context
	muster string
	dir    string // for this run's files
	out    io.Writer
	procs  []*process

	point, token string // its address, and the file with a token for it
	bob          *peer
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// find: a peer is called bob and waits at a point, and is found by that name.
func (d *demo) find() (err error) {
	d.say("FIND  bob waits at a point, and is found by name")
	data := filepath.Join(d.dir, "point")
	d.point, _, err = d.start("point", "serve", "--data-dir", data, "--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0",
		"--admin", "", "--discv5=false", "--pubsub=false")
	if err != nil {
		return err
	}
	d.say("  point     %s", d.point)
	token, err := d.output("token", "issue", "--data-dir", data)
	if err != nil {
		return err
	}
	d.token = filepath.Join(d.dir, "token")
	if err := os.WriteFile(d.token, []byte(token), 0o600); err != nil {
		return err
	}
	if err := d.startBob(); err != nil {
		return err
	}
	start := time.Now()
	found, err := d.output("find", "demo/bob", "--point", d.point)
	if err != nil {
		return err
	}
	id, _, _ := strings.Cut(found, "\t")
	d.say("  bob       is %s (%s)", id, since(start))
	return nil
}

// startBob has bob wait for one caller, and returns when he can be called.
func (d *demo) startBob() error {
	d.bob = newPeer(d, sha256.New(), d.atPoint("listen", "--ns", "demo", "--name", "bob", "--key", filepath.Join(d.dir, "bob.key"))...)
	if err := d.bob.start(); err != nil {
		return err
	}
	for range 3 { // under demo, under demo/bob, and by calls
		if _, err := d.bob.event("registered", "reachable"); err != nil {
			return err
		}
	}
	return nil
}

// atPoint adds what a verb needs to use the point.
func (d *demo) atPoint(args ...string) []string {
	return append(args, "--point", d.point, "--token-file", d.token, "--json")
}

// reach: a file goes to bob, on the relay at once and directly as soon as that
// works.
func (d *demo) reach() error {
	d.say("\nREACH a file of %d MiB goes to bob: on the relay at once, directly as soon as that works", fileSize>>20)
	file := filepath.Join(d.dir, "file")
	sum, err := writeRandomFile(file)
	if err != nil {
		return err
	}
	// Here nothing is far away: the direct path may be there first.
	const tries = 6
	for i := range tries {
		moved, err := d.call(file, sum)
		if err != nil || moved || i == tries-1 {
			return err
		}
		d.say("  the direct path was there first, and nothing had to move; once more")
		if err := d.startBob(); err != nil {
			return err
		}
	}
	return nil
}

// call sends the file to bob, and reports whether the link has moved meanwhile.
func (d *demo) call(file string, sum [32]byte) (moved bool, err error) {
	in, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer in.Close() //nolint:errcheck // only read
	start := time.Now()
	call := newPeer(d, io.Discard, d.atPoint("call", "demo/bob")...)
	call.cmd.Stdin = in
	if err := call.start(); err != nil {
		return false, err
	}
	for {
		e, err := call.event("connected", "path", "closed")
		if err != nil {
			return false, err
		}
		if e.Event == "closed" {
			d.say("  closed    %d bytes by the relay, %d directly", e.Relay, e.Direct)
			break
		}
		moved = moved || e.Event == "path" && e.Path == "direct"
		d.say("  %-9s %s path at %s, after %.0f ms", e.Event, e.Path, e.Addr, e.MS)
	}
	if err := errors.Join(call.end(), d.bob.end()); err != nil {
		return false, err
	}
	if [32]byte(d.bob.out.(hash.Hash).Sum(nil)) != sum {
		return false, errors.New("the file that came is not the file that was sent")
	}
	d.say("  all of it is there after %s, hashes equal", since(start))
	return moved, nil
}

// An event is a line of what a verb tells on stderr with --json.
type event struct {
	Event         string
	Path, Addr    string
	MS            float64
	Relay, Direct int64
	Ticket        string
	Files         int
	Kept, Moved   int64
}

// A peer is a process that tells events.
type peer struct {
	d      *demo
	cmd    *exec.Cmd
	out    io.Writer
	events *json.Decoder
	told   *io.PipeReader // what events reads; ends with the process
	tell   *io.PipeWriter
	ended  chan struct{} // closed when the process has ended, with err
	err    error
}

func newPeer(d *demo, out io.Writer, args ...string) *peer {
	r, w := io.Pipe()
	p := &peer{d: d, cmd: d.command(args...), out: out, events: json.NewDecoder(r), told: r, tell: w, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, w
	return p
}

func (p *peer) start() error {
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		p.err = p.cmd.Wait()
		p.tell.Close() //nolint:errcheck // always nil
		close(p.ended)
	}()
	p.d.procs = append(p.d.procs, &process{name: p.cmd.Args[1], cmd: p.cmd, wait: func() {
		p.told.Close() //nolint:errcheck // always nil
		<-p.ended
	}})
	return nil
}

// event returns the next event of one of some kinds.
func (p *peer) event(kinds ...string) (event, error) {
	for {
		var e event
		switch err := p.events.Decode(&e); {
		case errors.Is(err, io.EOF):
			<-p.ended
			return e, fmt.Errorf("%s: ended without telling of %v: %w", p.cmd, kinds, cmp.Or(p.err, err))
		case err != nil:
			return e, fmt.Errorf("%s: %w", p.cmd, err)
		}
		if slices.Contains(kinds, e.Event) {
			return e, nil
		}
	}
}

// end waits for the process to end. What it still says is of no interest.
func (p *peer) end() error {
	_, _ = io.Copy(io.Discard, p.told)
	<-p.ended
	return p.err
}

// talk: a message from one process reaches two others, one of them through the
// other.
func (d *demo) talk() error {
	d.say("\nTALK  a message on a topic, across three processes")
	_, addr, err := d.start("subscriber 1", "sub", "news", "--listen", "/ip4/127.0.0.1/tcp/0", "--count", "1")
	if err != nil {
		return err
	}
	one := d.procs[len(d.procs)-1]
	_, addr2, err := d.start("subscriber 2", "sub", "news", "--listen", "/ip4/127.0.0.1/tcp/0", "--peer", addr, "--count", "1")
	if err != nil {
		return err
	}
	two := d.procs[len(d.procs)-1]
	start := time.Now()
	if _, err := d.output("pub", "news", "hello from three processes", "--peer", addr, "--peer", addr2, "--min-peers", "2"); err != nil {
		return err
	}
	for _, p := range []*process{one, two} {
		line, err := p.line(d.ctx)
		if err != nil {
			return err
		}
		d.say("  %s got %q (%s)", p.name, line, since(start))
	}
	return nil
}

// discover: two nodes of a network without a server find each other.
func (d *demo) discover() error {
	d.say("\nFIND  without a server: two nodes that only know a third")
	boot, _, err := d.start("node 1", "discv5", "listen", "--addr", "127.0.0.1:0")
	if err != nil {
		return err
	}
	node2, _, err := d.start("node 2", "discv5", "listen", "--addr", "127.0.0.1:0", "--bootnode", boot)
	if err != nil {
		return err
	}
	start := time.Now()
	for {
		found, err := d.output("discv5", "lookup", boot, "--addr", "127.0.0.1:0", "--timeout", "5s")
		if err == nil && strings.Contains(found, node2) {
			break
		}
		// Node 1 passes node 2 on once it has seen it alive; and it answers no
		// more than a few strangers of one address in a second.
		select {
		case <-time.After(500 * time.Millisecond):
		case <-d.ctx.Done():
			return fmt.Errorf("node 3 did not find node 2: %s (%w)", found, err)
		}
	}
	d.say("  node 3, told of node 1 only, found node 2 (%s)", since(start))
	return nil
}

// A process is one that runs until the demo ends.
type process struct {
	name  string
	cmd   *exec.Cmd
	lines chan string // of stdout
	wait  func()      // until it has ended, whatever it still says
}

func (p *process) line(ctx context.Context) (string, error) {
	select {
	case line, ok := <-p.lines:
		if !ok {
			return "", fmt.Errorf("%s ended", p.name)
		}
		return line, nil
	case <-ctx.Done():
		return "", fmt.Errorf("%s: %w", p.name, ctx.Err())
	}
}

func (d *demo) command(args ...string) *exec.Cmd {
	return exec.CommandContext(d.ctx, d.muster, args...)
}

// output runs a command to its end.
func (d *demo) output(args ...string) (string, error) {
	cmd := d.command(args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("muster %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}

// start runs a command in the background and returns the first line that it
// prints: on stdout, or, for one that prints data there, on stderr.
func (d *demo) start(name string, args ...string) (stdout, stderr string, err error) {
	cmd := d.command(args...)
	outPipe, err := cmd.StdoutPipe()
	if err != nil {
		return "", "", err
	}
	errPipe, err := cmd.StderrPipe()
	if err != nil {
		return "", "", err
	}
	if err := cmd.Start(); err != nil {
		return "", "", err
	}
	p := &process{name: name, cmd: cmd, lines: scan(outPipe), wait: func() {
		cmd.Wait() //nolint:errcheck // was killed
	}}
	errs := scan(errPipe)
	d.procs = append(d.procs, p)
	if args[0] == "sub" {
		select {
		case stderr = <-errs:
		case <-d.ctx.Done():
			return "", "", d.ctx.Err()
		}
	} else if stdout, err = p.line(d.ctx); err != nil {
		return "", "", fmt.Errorf("muster %s: %w: %s", strings.Join(args, " "), err, <-errs)
	}
	return stdout, stderr, nil
}

// scan sends the lines of r, and closes the channel at its end. Lines that
// nobody wants are dropped once a few wait.
func scan(r io.Reader) chan string {
	lines := make(chan string, 16)
	go func() {
		defer close(lines)
		s := bufio.NewScanner(r)
		for s.Scan() {
			select {
			case lines <- s.Text():
			default:
			}
		}
	}()
	return lines
}

// stop ends the processes that still run.
func (d *demo) stop() {
	for _, p := range d.procs {
		p.cmd.Process.Kill() //nolint:errcheck // may have ended
		p.wait()
	}
}

// writeRandomFile writes fileSize bytes that do not compress, and returns
// their hash.
func writeRandomFile(name string) (sum [32]byte, err error) {
	f, err := os.Create(name)
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	hash := sha256.New()
	src := rand.NewChaCha8([32]byte{})
	if _, err := io.CopyN(io.MultiWriter(f, hash), src, fileSize); err != nil {
		return sum, err
	}
	return [32]byte(hash.Sum(nil)), nil
}

func since(start time.Time) string {
	return time.Since(start).Round(time.Millisecond).String()
}
