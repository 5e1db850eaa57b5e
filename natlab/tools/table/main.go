// Command table prints results as a table in Markdown: a row for each topology, a
// column for each file, named by what comes before the colon.
//
//	table rdv:natlab-rdv.json pion:natlab-pion.json libp2p:natlab-libp2p.json
//
// A cell says which path the first byte took and the median of its time, and
// after an arrow the median time to a direct connection, where one came later.
// It reads results of every probe there is: "path" may be that of the first byte
// or that of the last. A name that begins with + gives its file three columns:
// first byte, direct after, and the longest stall; topologies that the first
// file does not have are left out then.
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
	StallMS  float64 `json:"stall_ms"`
}

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: table NAME:FILE…")
	}
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
	var heads []string
	for _, name := range names {
		if long, ok := strings.CutPrefix(name, "+"); ok {
			heads = append(heads, long+": first byte", "direct after", "stall")
		} else {
			heads = append(heads, name)
		}
	}
	fmt.Printf("| topology | %s |\n|---|%s\n", strings.Join(heads, " | "), strings.Repeat("---|", len(heads)))
	for _, sc := range scenarios {
		if strings.HasPrefix(names[0], "+") && len(cells[sc][names[0]]) == 0 {
			continue
		}
		fmt.Printf("| %s |", sc)
		for _, name := range names {
			if strings.HasPrefix(name, "+") {
				fmt.Printf(" %s |", stages(cells[sc][name]))
			} else {
				fmt.Printf(" %s |", cell(cells[sc][name]))
			}
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

// stages are the three cells of a link: medians, and the worst stall.
func stages(rs []result) string {
	var first, direct []float64
	stall := 0.0
	for _, r := range rs {
		if !r.OK {
			continue
		}
		first = append(first, r.PingMS)
		if r.DirectMS > 0 {
			direct = append(direct, r.DirectMS)
		}
		stall = max(stall, r.StallMS)
	}
	switch {
	case len(first) == 0:
		return "**fails** | – | –"
	case len(direct) == 0:
		return fmt.Sprintf("%.0f | – | %.0f", median(first), stall)
	}
	return fmt.Sprintf("%.0f | %.0f | %.0f", median(first), median(direct), stall)
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
