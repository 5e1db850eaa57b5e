// Command rendezvous measures our rendezvous point against berty's
// go-libp2p-rendezvous in one run: two processes filled with the same rows,
// asked the same by eight clients on persistent streams over TCP loopback.
//
//	rendezvous [-rows 1000,10000,100000] [-time 3s] [-points DIR] [-only muster]
//
// The points' programs are point-muster and point-berty in DIR. A point that
// is not there is left out, and said to be.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-p2p/muster/bench/rendezvous/internal/rows"
)

func main() {
	sizes := flag.String("rows", "1000,10000,100000", "registrations at the start, one table for each")
	span := flag.Duration("time", 3*time.Second, "how long each load runs")
	points := flag.String("points", ".", "folder of point-muster and point-berty")
	only := flag.String("only", "", "measure this point alone")
	dir := flag.String("dir", os.TempDir(), "where stores are kept while they are measured")
	expire := flag.Int("expire", 0, "also let so many of our rows expire within one second under load")
	flag.Parse()
	b := bench{span: *span, points: *points, dir: *dir}
	err := b.run(*sizes, *only)
	if err == nil && *expire > 0 {
		err = b.expiry(*expire)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "rendezvous:", err)
		os.Exit(1)
	}
}

type bench struct {
	span        time.Duration
	points, dir string
}

func (b bench) run(sizes, only string) error {
	fmt.Printf("%s, %d cores, %s, %d clients, persistent streams over TCP loopback, %v per load\n",
		time.Now().UTC().Format(time.DateTime), runtime.NumCPU(), runtime.Version(), clients, b.span)
	fmt.Println("muster: pebble store, durability group. berty: v0.5.1, SQLite. Both on the same disk.")
	for _, size := range strings.Split(sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil {
			return err
		}
		fmt.Printf("\n%d registrations\n%-22s %-7s %10s %9s %9s %9s %9s %9s\n", n,
			"load", "point", "per s", "p50 ms", "p99 ms", "point µs", "all µs", "records")
		var ours, theirs []result
		for _, name := range []string{"muster", "berty"} {
			if only != "" && only != name {
				continue
			}
			res, err := b.point(name, n)
			switch {
			case errors.Is(err, os.ErrNotExist):
				fmt.Printf("%s left out: %v\n", name, err)
			case err != nil:
				return fmt.Errorf("%s: %w", name, err)
			case name == "muster":
				ours = res
			default:
				theirs = res
			}
		}
		ratios(ours, theirs)
	}
	return nil
}

// ratios prints how many times more often ours answers, and the share of CPU
// that it takes.
func ratios(ours, theirs []result) {
	for _, o := range ours {
		i := slices.IndexFunc(theirs, func(t result) bool { return t.load == o.load })
		if i < 0 || theirs[i].rate == 0 {
			continue
		}
		fmt.Printf("%-22s ratio  %9.1fx   CPU per request %.3f of theirs, p99 %.3f of theirs\n", o.load,
			o.rate/theirs[i].rate, float64(o.cpu)/float64(theirs[i].cpu), float64(o.p99)/float64(theirs[i].p99))
	}
}

// point measures all loads on one point.
func (b bench) point(name string, n int) ([]result, error) {
	p, err := b.start(name, "-rows", strconv.Itoa(n))
	if err != nil {
		return nil, err
	}
	defer p.close()
	if p.Heap > 0 && n > 0 {
		fmt.Printf("%-22s %-7s %d B of heap per registration\n", "", name, p.Heap/int64(n))
	}
	c, err := connect(p.Addr, name == "berty", p.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	defer c.close()
	loads := []load{
		{"REGISTER new record", c.register, true},
		{"REGISTER refresh", c.refresh, false},
		{"DISCOVER 100", c.discover(100, n), false},
		{"DISCOVER 1000", c.discover(1000, n), false},
		{"poll, nothing new", c.poll, false},
	}
	var all []result
	for _, l := range loads {
		res, err := c.measure(l, b.span)
		if err != nil {
			return all, fmt.Errorf("%s: %w", l.name, err)
		}
		fmt.Printf("%-22s %-7s %10.0f %9.3f %9.3f %9.1f %9.1f %9.0f\n", l.name, name, res.rate,
			ms(res.p50), ms(res.p99), us(res.pointCPU), us(res.cpu), res.records)
		all = append(all, res)
	}
	return all, nil
}

// expiry asks our point for pages while n of its rows expire within a second.
func (b bench) expiry(n int) error {
	const before = 4 * time.Second
	p, err := b.start("muster", "-rows", strconv.Itoa(n), "-expire", (20 * time.Second).String())
	if err != nil {
		return err
	}
	defer p.close()
	end := p.started.Add(20 * time.Second)
	c, err := connect(p.Addr, false, p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	defer c.close()
	time.Sleep(time.Until(end.Add(-before)))
	fmt.Printf("\n%d registrations expire within one second\n", n)
	quiet, err := c.measure(load{name: "DISCOVER 100", next: c.discover(100, n)}, time.Until(end)-time.Second/2)
	if err != nil {
		return err
	}
	busy, err := c.measure(load{name: "DISCOVER 100", next: c.discover(100, n)}, 2*time.Second)
	if err != nil {
		return err
	}
	fmt.Printf("before: %.0f per s, p99 %.3f ms. Around it: %.0f per s, p99 %.3f ms, longest %.3f ms\n",
		quiet.rate, ms(quiet.p99), busy.rate, ms(busy.p99), ms(busy.longest))
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// A process is a point that is filled and serves.
type process struct {
	rows.Ready
	cmd     *exec.Cmd
	stdin   io.Closer
	dir     string
	started time.Time
}

func (b bench) start(name string, args ...string) (_ *process, err error) {
	dir, err := os.MkdirTemp(b.dir, "bench-rendezvous-")
	if err != nil {
		return nil, err
	}
	p := &process{dir: dir, started: time.Now()}
	p.cmd = exec.Command(filepath.Join(b.points, "point-"+name), append(args, "-dir", dir)...)
	p.cmd.Stderr = os.Stderr
	p.cmd.Env = append(os.Environ(), "GOLOG_LOG_LEVEL=fatal") // berty's logger
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.Ready)
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("the point does not get ready: %w", err)
	}
	return p, nil
}

func (p *process) close() {
	_ = p.stdin.Close()
	kill := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	_ = p.cmd.Wait()
	_ = os.RemoveAll(p.dir)
}
