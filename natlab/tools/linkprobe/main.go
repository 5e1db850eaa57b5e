// Command linkprobe measures a link, that is 'muster listen' and 'muster call', in a
// running natlab topology.
//
// Each run starts LISTEN in its namespace, takes the ticket from its stderr, and
// starts CALL with it in the other one. Then, with a line every 5 ms from the
// caller to the listener, it looks when the first byte arrives, when the path
// is direct, how long nothing came at worst (the stall), and by the byte counter
// of the server's interface over which path it all goes in the end.
//
// With -ready N it waits for that many of the listener's events "registered" and
// "reachable" in place of a ticket: CALL names it.
//
// With -bytes it sends that many bytes instead, compares their SHA-256, and runs
// -do once -after bytes have arrived: to cut a cable, or to restart the server.
// How long nothing came after -do was done, back_ms tells: when it ends with the
// network there again, that is how long the link took to notice.
//
// Output: one JSON object per run on stdout, a summary on stderr.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type result struct {
	Scenario string  `json:"scenario"`
	Run      int     `json:"run"`
	OK       bool    `json:"ok"`
	Err      string  `json:"err,omitempty"`
	Path     string  `json:"path,omitempty"`        // in the end, by the byte counter
	PingMS   float64 `json:"ping_ms"`               // start of the caller to its first byte at the listener
	DialMS   float64 `json:"dial_ms,omitempty"`     // to the first path, as the caller says
	DirectMS float64 `json:"direct_ms,omitempty"`   // to the direct path, as the caller says
	StallMS  float64 `json:"stall_ms"`              // the longest time without a byte
	StallAt  float64 `json:"stall_at_ms,omitempty"` // when that ended, after the start of the caller
	Lost     int64   `json:"lost,omitempty"`        // segments that the kernels sent again meanwhile: a pause of 300 ms may be one
	Bytes    int     `json:"bytes,omitempty"`
	Seconds  float64 `json:"seconds,omitempty"`
	Hash     bool    `json:"hash_equal,omitempty"`
	BackMS   float64 `json:"back_ms,omitempty"` // from the end of -do to the end of the longest pause since its begin
	Events   string  `json:"events,omitempty"`
}

var (
	scenario = flag.String("scenario", "", "label")
	runs     = flag.Int("runs", 3, "runs")
	callNS   = flag.String("call-ns", "", "namespace of the caller")
	listenNS = flag.String("listen-ns", "", "namespace of the listener")
	listen   = flag.String("listen", "", "shell command of the listener")
	call     = flag.String("call", "", "shell command of the caller; {ticket} is replaced")
	srvNS    = flag.String("srv-ns", "", "namespace whose eth0 is watched")
	ready    = flag.Int("ready", 0, "events of the listener to wait for; 0: a ticket")
	lead     = flag.Duration("lead", 500*time.Millisecond, "the listener is started this much earlier")
	settle   = flag.Duration("settle", 4*time.Second, "how long lines are sent")
	timeout  = flag.Duration("timeout", 20*time.Second, "for the first byte")
	size     = flag.Int("bytes", 0, "send this many bytes and compare")
	after    = flag.Int("after", 0, "-do is run when this many bytes have arrived")
	do       = flag.String("do", "", "shell command to run in mid-transfer")
	limit    = flag.Duration("limit", 5*time.Minute, "for the transfer")
)

const pace = 5 * time.Millisecond

// A proc is one of the two commands.
type proc struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.Reader

	mu     sync.Mutex
	log    bytes.Buffer
	ticket chan string
	paths  []pathEvent

	standing int     // events of being registered and reachable
	dial     float64 // of the caller, in milliseconds
}

type pathEvent struct {
	Event  string  `json:"event"`
	Path   string  `json:"path"`
	MS     float64 `json:"ms"`
	Ticket string  `json:"ticket"`
}

func start(ns, command string) (*proc, error) {
	p := &proc{ticket: make(chan string, 1)}
	p.cmd = exec.Command("ip", "netns", "exec", ns, "sh", "-c", "exec "+command)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.out, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	go p.read(stderr)
	return p, p.cmd.Start()
}

// read takes the events from stderr.
func (p *proc) read(r io.Reader) {
	for s := bufio.NewScanner(r); s.Scan(); {
		var ev pathEvent
		err := json.Unmarshal(s.Bytes(), &ev)
		p.mu.Lock()
		switch ev.Event {
		case "registered", "reachable":
			if p.standing++; p.standing == *ready {
				p.ticket <- ""
			}
		case "connected":
			p.dial = ev.MS
		}
		if err != nil || ev.Event == "" {
			p.log.Write(append(s.Bytes(), '\n'))
		} else if ev.Path != "" {
			p.paths = append(p.paths, ev)
		}
		p.mu.Unlock()
		if ev.Ticket != "" && *ready == 0 {
			p.ticket <- ev.Ticket
		}
	}
}

func (p *proc) events() ([]pathEvent, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.paths), p.log.String()
}

func (p *proc) stop() {
	p.in.Close()
	done := make(chan struct{})
	go func() { p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-done
	}
}

// A sink reads what the listener writes, and notes when.
type sink struct {
	mu    sync.Mutex
	n     int
	first time.Time
	last  time.Time
	gap   time.Duration // the longest since the first byte
	until time.Time     // when that ended
	sum   []byte        // SHA-256, at the end
	at    map[int]chan struct{}
	err   error
	done  chan struct{}
}

func newSink(r io.Reader) *sink {
	s := &sink{at: map[int]chan struct{}{}, done: make(chan struct{})}
	go s.run(r)
	return s
}

func (s *sink) run(r io.Reader) {
	defer close(s.done)
	h := sha256.New()
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		h.Write(buf[:n])
		now := time.Now()
		s.mu.Lock()
		if n > 0 {
			if s.first.IsZero() {
				s.first = now
			} else if gap := now.Sub(s.last); gap > s.gap {
				s.gap, s.until = gap, now
			}
			s.last = now
		}
		s.n += n
		for at, ch := range s.at {
			if s.n >= at {
				close(ch)
				delete(s.at, at)
			}
		}
		if err != nil {
			s.err, s.sum = err, h.Sum(nil)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}

// wait waits until n bytes have arrived.
func (s *sink) wait(n int, limit time.Duration) error {
	ch := make(chan struct{})
	s.mu.Lock()
	if s.n >= n {
		close(ch)
	} else {
		s.at[n] = ch
	}
	s.mu.Unlock()
	select {
	case <-ch:
		return nil
	case <-s.done:
		return fmt.Errorf("%d bytes of %d, then the end", s.count(), n)
	case <-time.After(limit):
		return fmt.Errorf("%d bytes of %d after %v", s.count(), n, limit)
	}
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// rxBytes is what the server's interface has received.
func rxBytes() int64 {
	b, err := exec.Command("ip", "netns", "exec", *srvNS, "cat", "/proc/net/dev").Output()
	if err != nil {
		return -1
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) > 2 && f[0] == "eth0:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return -1
}

// resent is how many segments of TCP the caller, the listener and the server have
// sent again.
func resent() (sum int64) {
	for _, ns := range []string{*callNS, *listenNS, *srvNS} {
		b, _ := exec.Command("ip", "netns", "exec", ns, "cat", "/proc/net/snmp").Output()
		var names []string
		for l := range strings.Lines(string(b)) {
			f := strings.Fields(l)
			if f[0] != "Tcp:" {
				continue
			}
			if names == nil {
				names = f
				continue
			}
			if i := slices.Index(names, "RetransSegs"); i > 0 && i < len(f) {
				n, _ := strconv.ParseInt(f[i], 10, 64)
				sum += n
			}
		}
	}
	return sum
}

// one makes a run.
func one(i int) (r result) {
	r = result{Scenario: *scenario, Run: i}
	b, err := start(*listenNS, *listen)
	if err != nil {
		r.Err = err.Error()
		return r
	}
	defer b.stop()
	var ticket string
	select {
	case ticket = <-b.ticket:
	case <-time.After(*timeout):
		_, log := b.events()
		r.Err = "no ticket: " + log
		return r
	}
	time.Sleep(*lead)
	s := newSink(b.out)
	before := resent()
	defer func() { r.Lost = resent() - before }()
	t0 := time.Now()
	a, err := start(*callNS, strings.ReplaceAll(*call, "{ticket}", ticket))
	if err != nil {
		r.Err = err.Error()
		return r
	}
	go io.Copy(io.Discard, a.out)
	if *size > 0 {
		b.in.Close() // the listener says nothing
		err = transfer(&r, a, s, t0)
	} else {
		err = lines(&r, a, s, t0)
	}
	a.stop()
	events, log := a.events()
	for _, ev := range events {
		if ev.Path == "direct" && r.DirectMS == 0 {
			r.DirectMS = ev.MS
		}
		r.Events += fmt.Sprintf(" %s@%.0f", ev.Path, ev.MS)
	}
	if err != nil {
		_, blog := b.events()
		r.Err = err.Error() + "\ncall: " + log + "\nlisten: " + blog
		return r
	}
	r.OK, r.DialMS = true, a.dial
	return r
}

// lines sends a line every 5 ms, and looks at the path at the end.
func lines(r *result, a *proc, s *sink, t0 time.Time) error {
	sent := 0
	write := func(text string) error {
		n, err := io.WriteString(a.in, text)
		sent += n
		return err
	}
	if err := write("PING\n"); err != nil {
		return err
	}
	if err := s.wait(1, *timeout); err != nil {
		return err
	}
	r.PingMS = ms(s.first.Sub(t0))
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for end := time.Now().Add(*settle); time.Now().Before(end); <-tick.C {
		if err := write("tick\n"); err != nil {
			return err
		}
	}
	if err := s.wait(sent, *timeout); err != nil {
		return err
	}
	s.mu.Lock()
	r.StallMS = ms(max(s.gap-pace, 0))
	s.mu.Unlock()
	const bulk = 256 << 10
	before := rxBytes()
	if err := write(strings.Repeat("x", bulk)); err != nil {
		return err
	}
	if err := s.wait(sent, *timeout); err != nil {
		return err
	}
	time.Sleep(20 * time.Millisecond)
	r.Path = "p2p"
	if rxBytes()-before > bulk*3/4 {
		r.Path = "relay"
	}
	return nil
}

// transfer sends many bytes while something is done to the network.
func transfer(r *result, a *proc, s *sink, t0 time.Time) error {
	h := sha256.New()
	failed := make(chan error, 1)
	go func() {
		rng := rand.NewChaCha8([32]byte{byte(r.Run)})
		buf := make([]byte, 64<<10)
		for left := *size; left > 0; {
			n := min(left, len(buf))
			rng.Read(buf[:n])
			h.Write(buf[:n])
			if _, err := a.in.Write(buf[:n]); err != nil {
				failed <- err
				return
			}
			left -= n
		}
		failed <- a.in.Close()
	}()
	if err := s.wait(1, *timeout); err != nil {
		return err
	}
	r.PingMS = ms(s.first.Sub(t0))
	var did time.Time
	if *do != "" {
		if err := s.wait(*after, *limit); err != nil {
			return err
		}
		s.mu.Lock()
		s.gap = 0
		s.mu.Unlock()
		if out, err := exec.Command("sh", "-c", *do).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", *do, err, out)
		}
		did = time.Now()
	}
	select {
	case <-s.done:
	case <-time.After(*limit):
		return fmt.Errorf("%d bytes of %d after %v", s.count(), *size, *limit)
	}
	if err := <-failed; err != nil {
		return err
	}
	r.Bytes, r.Seconds = s.n, s.last.Sub(s.first).Seconds()
	r.StallMS, r.StallAt = ms(s.gap), ms(s.until.Sub(t0))
	if *do != "" {
		r.BackMS = ms(s.until.Sub(did))
	}
	if r.Hash = bytes.Equal(s.sum, h.Sum(nil)); !r.Hash {
		return errors.New("other bytes: SHA-256 " + hex.EncodeToString(s.sum))
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func main() {
	flag.Parse()
	enc := json.NewEncoder(os.Stdout)
	var first, dial, direct, stall []float64
	paths := map[string]int{}
	ok := 0
	for i := range *runs {
		r := one(i)
		enc.Encode(r)
		if !r.OK {
			fmt.Fprintf(os.Stderr, "%s: %s\n", *scenario, r.Err)
			continue
		}
		ok++
		first = append(first, r.PingMS)
		dial = append(dial, r.DialMS)
		stall = append(stall, r.StallMS)
		if r.DirectMS > 0 {
			direct = append(direct, r.DirectMS)
		}
		paths[r.Path]++
		if *size > 0 {
			fmt.Fprintf(os.Stderr, "%-40s %d bytes in %.1f s, SHA-256 equal, longest pause %.0f ms until %.0f, back after %.0f ms, %d segments lost, paths%s\n",
				*scenario, r.Bytes, r.Seconds, r.StallMS, r.StallAt, r.BackMS, r.Lost, r.Events)
		}
	}
	if *size == 0 {
		fmt.Fprintf(os.Stderr, "%-20s ok=%d/%d paths=%v first=%.0f dial=%.0f direct=%.0f stall=%.0f (medians, ms)\n", *scenario, ok, *runs, paths, median(first), median(dial), median(direct), median(stall))
	}
	if ok < *runs {
		os.Exit(1)
	}
}
