// Command rdv-load puts the same load on muster's rdv server and on that of
// github.com/betamos/rdv v0.0.6, in turns, and prints what each needed for it:
//
//	go run . [-rounds 3] [-only lobby,pairs,rate,latency,relay1,relay100,fair,stuck]
//
// Both are processes of their own; this one is all their clients. MUSTER_BIN
// names a muster to use instead of building one. It needs Linux, for /proc,
// and 20,000 file descriptors. Figures are medians of the rounds; each line
// ends with the ratio of ours to theirs, and with the target where there is
// one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A measure is one kind of load. It returns figures by name.
type measure struct {
	name string
	run  func(ctx context.Context, s *server) (figures, error)
	args []string // of ours only, for what theirs cannot do
}

type figures map[string]float64

// A line is a figure in the report.
type line struct {
	measure, figure, unit, what string
	target                      string // of the ratio or of ours, in words
}

var measures = []measure{
	{"lobby", waitingPeers, nil},
	{"pairs", pairMemory, nil},
	{"rate", matchRate, nil},
	{"latency", matchLatency, nil},
	{"relay1", func(ctx context.Context, s *server) (figures, error) { return relay(ctx, s, 1, 4<<30) }, nil},
	{"relay100", func(ctx context.Context, s *server) (figures, error) { return relay(ctx, s, 100, 60<<20) }, nil},
	{"fair", fairness, nil},
	{"limited", limitedFairness, []string{"--total-rate", "200M"}},
	{"stuck", stuck, nil},
}

var lines = []line{
	{"lobby", "kib", "KiB", "memory of a waiting peer, 9,000 of them", "ours at most 6"},
	{"pairs", "kib", "KiB", "memory of a pair that has carried data, 1,000 of them", "ours at most 26"},
	{"rate", "pairs", "/s", "matches, 50 at a time", "ratio at least 1"},
	{"rate", "cpu", "ms", "server CPU of a match", ""},
	{"latency", "p50", "ms", "request of the second peer to CONTINUE at the acceptor, 500 pairs/s, median", ""},
	{"latency", "p99", "ms", "the same, 99th percentile", "ours below 100"},
	{"relay1", "cpu", "s/GB", "server CPU, 1 pair", "ratio at most 0.75"},
	{"relay1", "gbit", "Gbit/s", "throughput, 1 pair", ""},
	{"relay100", "cpu", "s/GB", "server CPU, 100 pairs", "ratio at most 0.35"},
	{"relay100", "gbit", "Gbit/s", "throughput, 100 pairs", ""},
	{"limited", "spread", "x", "fastest to slowest of 100 pairs that share 200 MiB/s, over 10 s", "ours at most 1.5"},
	{"fair", "spread", "x", "the same without a limit, where the clients are the bottleneck", "see the next"},
	{"fair", "none", "x", "the same 100 connections without any relay", ""},
	{"stuck", "left", "", "of 5,000 stuck connections, left after 15 s", "ours 0"},
	{"stuck", "seconds", "s", "until the last of them was gone (15: never)", "ours at most 12"},
	{"stuck", "fds", "", "file descriptors more than before", "ours at most 5"},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "rdv-load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	rounds := flag.Int("rounds", 3, "times that each load is put on each server")
	only := flag.String("only", "", "comma-separated loads; all if empty")
	flag.Parse()
	dir, err := os.MkdirTemp("", "rdv-load-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	programs, err := build(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Printf("# %s, %s, %d CPUs, %s, rounds %d\n", time.Now().UTC().Format(time.DateTime), kernel(), runtime.NumCPU(), runtime.Version(), *rounds)
	results := map[string]map[string]map[string][]float64{} // measure, figure, whose
	for _, m := range measures {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), m.name) {
			continue
		}
		results[m.name] = map[string]map[string][]float64{}
		for round := range *rounds {
			for _, whose := range []string{theirs, ours} {
				if whose == theirs && m.args != nil {
					continue
				}
				fig, err := once(ctx, m, programs, whose)
				if err != nil {
					return fmt.Errorf("%s against %s: %w", m.name, whose, err)
				}
				fmt.Printf("raw %-9s %-7s round %d %s\n", m.name, whose, round+1, fig)
				for name, v := range fig {
					if results[m.name][name] == nil {
						results[m.name][name] = map[string][]float64{}
					}
					results[m.name][name][whose] = append(results[m.name][name][whose], v)
				}
			}
		}
	}
	report(results)
	return nil
}

// once starts a server for one load, so that none inherits another's memory.
func once(ctx context.Context, m measure, programs map[string]string, whose string) (_ figures, err error) {
	s, err := startServer(ctx, programs[whose], whose, m.args)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	return m.run(ctx, s)
}

func (f figures) String() string {
	var out []string
	for name, v := range f {
		out = append(out, fmt.Sprintf("%s=%.3f", name, v))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func report(results map[string]map[string]map[string][]float64) {
	fmt.Printf("\n%-80s %10s %10s %7s  %s\n", "", theirs, ours, "ratio", "target")
	for _, l := range lines {
		by := results[l.measure][l.figure]
		if by == nil {
			continue
		}
		t, o := "-", median(by[ours])
		ratio := "-"
		if v := median(by[theirs]); len(by[theirs]) > 0 {
			t = fmt.Sprintf("%.2f", v)
			if v != 0 {
				ratio = fmt.Sprintf("%.2f", o/v)
			}
		}
		what := l.what
		if l.unit != "" {
			what += ", " + l.unit
		}
		fmt.Printf("%-80s %10s %10.2f %7s  %s\n", what, t, o, ratio, l.target)
	}
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

const (
	theirs = "v0.0.6"
	ours   = "muster"
)

func build(ctx context.Context, dir string) (map[string]string, error) {
	programs := map[string]string{theirs: filepath.Join(dir, "rdv"), ours: os.Getenv("MUSTER_BIN")}
	err := goBuild(ctx, ".", programs[theirs], "github.com/betamos/rdv/cmd")
	if err == nil && programs[ours] == "" {
		programs[ours] = filepath.Join(dir, "muster")
		err = goBuild(ctx, "../..", programs[ours], "./cmd/muster")
	}
	return programs, err
}

func goBuild(ctx context.Context, dir, out, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Dir = dir
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, b)
	}
	return nil
}

func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return "Linux " + strings.TrimSpace(string(b))
}
