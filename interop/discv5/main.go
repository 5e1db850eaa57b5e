// Command discv5 runs muster against the other implementations of Node Discovery v5:
// go-ethereum's conformance suite against the muster binary, then every
// request in both directions between muster and each foreign node.
// README.md says what it needs and what the peers' line protocol is.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	fs := flag.NewFlagSet("discv5", flag.ContinueOnError)
	only := fs.String("only", "", "comma-separated part of: suite, cli, geth, chainsafe, sigp")
	control := fs.Bool("control", false, "also run the foreign peers against each other, to see whose fault a failure is")
	outFile := fs.String("out", "", "also write the report to this file")
	verbose := fs.Bool("v", false, "pass on what the peers say on stderr")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	wants := func(name string) bool {
		return *only == "" || slices.Contains(strings.Split(*only, ","), name)
	}
	dir, err := filepath.Abs(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	b := &builder{ctx: ctx, dir: dir, out: filepath.Join(dir, "target"), verbose: *verbose}
	r := &report{start: time.Now(), out: os.Stdout}
	if *outFile != "" {
		f, err := os.Create(*outFile)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer f.Close()
		r.out = io.MultiWriter(os.Stdout, f)
	}

	if wants("suite") {
		r.section("go-ethereum v1.17.10: devp2p discv5 test against muster discv5 listen")
		conformance(ctx, b, r)
	}
	if wants("cli") {
		r.section("the muster command against a go-ethereum node")
		commands(ctx, b, r)
	}
	muster := musterKind(b)
	foreign := []kind{gethKind(b), chainsafeKind(b), sigpKind(b)}
	for _, f := range foreign {
		if wants(f.name) {
			r.section("muster and " + f.title)
			pair(ctx, r, muster, f)
		}
	}
	if *control {
		for i, f := range foreign {
			for _, g := range foreign[i+1:] {
				r.section("control: " + f.title + " and " + g.title)
				pair(ctx, r, f, g)
			}
		}
	}
	return r.end()
}

// report prints a line per check and counts them.
type report struct {
	start                 time.Time
	out                   io.Writer
	passed, failed, skips int
}

func (r *report) section(title string) { fmt.Fprintf(r.out, "# %s\n", title) }

// check prints the verdict on one thing; err nil means that it holds.
func (r *report) check(name string, err error) bool {
	if err != nil {
		r.failed++
		fmt.Fprintf(r.out, "FAIL  %s: %v\n", name, err)
		return false
	}
	r.passed++
	fmt.Fprintf(r.out, "ok    %s\n", name)
	return true
}

func (r *report) skip(name string, why error) {
	r.skips++
	fmt.Fprintf(r.out, "SKIP  %s: %v\n", name, why)
}

func (r *report) end() int {
	fmt.Fprintf(r.out, "# %d ok, %d failed, %d skipped in %v\n", r.passed, r.failed, r.skips, time.Since(r.start).Round(time.Second))
	if r.failed > 0 {
		return 1
	}
	return 0
}
