// Command discv5 measures muster's discv5 against go-ethereum's, on the same work, in
// the same run, and prints the ratios.
//
//	go run . [-run wire,net,memory,flood] [-rounds 3] [-time 1s] [-out FILE]
//
// The two take turns, so that what else the machine does hits both, and the
// best of the rounds counts: the least time, the highest rate. Rates over
// loopback are of a client and a server in one process, and so is the CPU
// time per round trip.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/log"
)

type config struct {
	out    io.Writer
	rounds int
	span   time.Duration // of one measurement of a rate
}

func main() {
	parts := flag.String("run", "wire,net,memory,flood", "what to measure")
	rounds := flag.Int("rounds", 3, "take turns this often and count the best")
	span := flag.Duration("time", time.Second, "how long to measure each rate")
	outFile := flag.String("out", "", "also write the table to this file")
	flag.Parse()
	log.SetDefault(log.NewLogger(log.DiscardHandler()))
	c := config{out: os.Stdout, rounds: *rounds, span: *span}
	if *outFile != "" {
		f, err := os.Create(*outFile)
		if err != nil {
			fmt.Fprintln(os.Stderr, "discv5:", err)
			os.Exit(1)
		}
		defer f.Close()
		c.out = io.MultiWriter(os.Stdout, f)
	}
	if err := run(c, strings.Split(*parts, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "discv5:", err)
		os.Exit(1)
	}
}

func run(c config, parts []string) error {
	fmt.Fprintf(c.out, "%s %s/%s, %d CPUs, best of %d rounds of %v; ratio > 1: muster is better\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), c.rounds, c.span)
	fmt.Fprintf(c.out, "%-44s %14s %14s %8s %8s\n", "", "muster", "go-ethereum", "ratio", "aim")
	for _, part := range []struct {
		name string
		run  func(config) error
	}{{"wire", wireBench}, {"net", netBench}, {"memory", memoryBench}, {"flood", floodBench}} {
		if !slices.Contains(parts, part.name) {
			continue
		}
		if err := part.run(c); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// better says which of two figures is the better one.
type better int

const (
	less better = iota
	more
)

// row prints one comparison. aim is what muster wants, 0 for nothing.
func (c config) row(name, unit string, muster, geth float64, b better, aim float64) {
	ratio := muster / geth
	if b == less {
		ratio = geth / muster
	}
	want := ""
	if aim > 0 {
		want = fmt.Sprintf("%7.1fx", aim)
	}
	fmt.Fprintf(c.out, "%-44s %14s %14s %7.1fx %8s\n", name, number(muster)+" "+unit, number(geth)+" "+unit, ratio, want)
}

func number(f float64) string {
	switch {
	case f >= 100 || f == 0:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	default:
		return fmt.Sprintf("%.2f", f)
	}
}

// best runs f as often as c says and keeps the best of each figure.
func (c config) best(b better, f func() (float64, error)) (float64, error) {
	var top float64
	for i := range c.rounds {
		v, err := f()
		if err != nil {
			return 0, err
		}
		if i == 0 || b == less && v < top || b == more && v > top {
			top = v
		}
	}
	return top, nil
}
