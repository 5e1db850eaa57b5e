// Command fold adds results of the laboratory's probe, which it reads from standard
// input with the peers' logs in them, to a file of results without logs. Those
// of the same topologies are replaced. It adds what the acceptor saw:
// "self_path" as the program itself names it, and, if a direct connection came
// after the first byte, "direct_ms", counted like "ping_ms" from the start of
// the dialler, and "direct_over". A run that failed keeps its log.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"io/fs"
	"log"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/muster-p2p/muster/bench/reach/internal/pipe"
)

type result map[string]any

func main() {
	log.SetFlags(0)
	into := flag.String("into", "", "the file of results")
	waited := flag.Float64("waited", 0, "microseconds in which something waited for a processor")
	of := flag.Float64("of", 0, "microseconds that the runs took; 0 if not known")
	flag.Parse()
	if err := run(*into, *waited, *of); err != nil {
		log.Fatal("fold: ", err)
	}
}

func run(into string, waited, of float64) error {
	fresh, err := read(os.Stdin)
	if err != nil {
		return err
	}
	for _, r := range fresh {
		r.fold()
		if of > 0 {
			r["cpu_wait"] = math.Round(waited/of*100) / 100
		}
	}
	var old []result
	f, err := os.Open(into)
	if err == nil {
		defer f.Close()
		old, err = read(f)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return write(into, merge(old, fresh))
}

func read(from io.Reader) (rs []result, err error) {
	for d := json.NewDecoder(from); ; {
		var r result
		switch err := d.Decode(&r); {
		case errors.Is(err, io.EOF):
			return rs, nil
		case err != nil:
			return nil, err
		}
		rs = append(rs, r)
	}
}

// merge puts fresh where old has results of the same topology, or at the end.
func merge(old, fresh []result) []result {
	again := func(r result) bool {
		return slices.ContainsFunc(fresh, func(f result) bool { return f["scenario"] == r["scenario"] })
	}
	at := slices.IndexFunc(old, again)
	if at < 0 {
		at = len(old)
	}
	rest := slices.DeleteFunc(slices.Clone(old[at:]), again)
	return slices.Concat(old[:at], fresh, rest)
}

func write(name string, rs []result) error {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	for _, r := range rs {
		if err := e.Encode(r); err != nil {
			return err
		}
	}
	return os.WriteFile(name, buf.Bytes(), 0o644)
}

func (r result) fold() {
	text, _ := r["stderr"].(string)
	first, direct := seen(text)
	if ok, _ := r["ok"].(bool); ok {
		delete(r, "stderr")
	}
	if first == nil {
		return
	}
	r["self_path"] = first.Path
	if first.Detail != "" {
		r["self_detail"] = first.Detail
	}
	ping, _ := r["ping_ms"].(float64)
	if direct != nil {
		r["direct_ms"] = math.Round((ping+direct.SeenMS-first.SeenMS)*1000) / 1000
		r["direct_over"] = direct.Detail
	}
}

// seen finds what the acceptor reported; its log comes last.
func seen(text string) (first, direct *pipe.Seen) {
	for line := range strings.Lines(text) {
		at := strings.Index(line, "{")
		s := new(pipe.Seen)
		if at < 0 || json.Unmarshal([]byte(line[at:]), s) != nil {
			continue
		}
		switch s.Seen {
		case "first":
			first = s
		case "direct":
			direct = s
		}
	}
	return first, direct
}
