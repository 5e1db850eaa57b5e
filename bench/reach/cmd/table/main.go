// table prints results as a table in Markdown: a row for each topology, a
// column for each file, named by what comes before the colon.
//
//	table pion:natlab-pion.json libp2p:natlab-libp2p.json
//
// A cell says which path the first byte took and the median of its time, and
// after an arrow the median time to a direct connection, where one came later.
// It reads results of every probe there is: "path" may be that of the first byte
// or that of the last.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
)

type result struct {
	Scenario string  `json:"scenario"`
	OK       bool    `json:"ok"`
	Path     string  `json:"path"`
	PingMS   float64 `json:"ping_ms"`
	DirectMS float64 `json:"direct_ms"`
}

func main() {
	var names, scenarios []string
	cells := map[string]map[string][]result{} // scenario, name
	for _, arg := range os.Args[1:] {
		name, file, _ := strings.Cut(arg, ":")
		names = append(names, name)
		for _, r := range load(file) {
			if cells[r.Scenario] == nil {
				cells[r.Scenario] = map[string][]result{}
				scenarios = append(scenarios, r.Scenario)
			}
			cells[r.Scenario][name] = append(cells[r.Scenario][name], r)
		}
	}
	fmt.Printf("| topology | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for _, sc := range scenarios {
		fmt.Printf("| %s |", sc)
		for _, name := range names {
			fmt.Printf(" %s |", cell(cells[sc][name]))
		}
		fmt.Println()
	}
}

func load(file string) (rs []result) {
	f, err := os.Open(file)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	for d := json.NewDecoder(bufio.NewReader(f)); d.More(); {
		var r result
		if err := d.Decode(&r); err != nil {
			log.Fatalf("%s: %v", file, err)
		}
		rs = append(rs, r)
	}
	return rs
}

func cell(rs []result) string {
	var out []string
	for _, path := range []string{"direct", "relay", "**fails**"} {
		var first, direct []float64
		for _, r := range rs {
			if pathOf(r) != path {
				continue
			}
			first = append(first, r.PingMS)
			if r.DirectMS > 0 {
				direct = append(direct, r.DirectMS)
			}
		}
		if len(first) == 0 {
			continue
		}
		text := path + share(len(first), len(rs))
		if path != "**fails**" {
			text += fmt.Sprintf(" %.0f", median(first))
		}
		if path == "relay" && len(direct) > 0 {
			text += fmt.Sprintf(" → direct%s %.0f", share(len(direct), len(first)), median(direct))
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func pathOf(r result) string {
	switch {
	case !r.OK:
		return "**fails**"
	case r.DirectMS > r.PingMS:
		return "relay"
	case r.Path == "p2p":
		return "direct"
	}
	return r.Path
}

// share says how many of all, unless it is all.
func share(n, all int) string {
	if n == all {
		return ""
	}
	return fmt.Sprintf(" %d/%d", n, all)
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
