// table turns results of probe into a table in Markdown: a row for each
// scenario, a column for each file, named by what comes before the colon.
//
//	table muster:muster.json rdv:rdv.json
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
}

func main() {
	var names, scenarios []string
	cells := map[string]map[string][]result{} // scenario, name
	for _, arg := range os.Args[1:] {
		name, file, _ := strings.Cut(arg, ":")
		names = append(names, name)
		f, err := os.Open(file)
		if err != nil {
			log.Fatal(err)
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			var r result
			if err := json.Unmarshal(s.Bytes(), &r); err != nil {
				log.Fatalf("%s: %v", file, err)
			}
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

// cell says how often which path was taken, and the median time to the first
// byte of each.
func cell(rs []result) string {
	if len(rs) == 0 {
		return ""
	}
	times := map[string][]float64{}
	for _, r := range rs {
		path := map[string]string{"p2p": "direct"}[r.Path]
		if path == "" {
			path = r.Path
		}
		if !r.OK {
			path = "**fails**"
		}
		times[path] = append(times[path], r.PingMS)
	}
	var out []string
	for _, path := range []string{"direct", "relay", "**fails**"} {
		ts := times[path]
		if len(ts) == 0 {
			continue
		}
		slices.Sort(ts)
		text := path
		if len(ts) < len(rs) {
			text += fmt.Sprintf(" %d/%d", len(ts), len(rs))
		}
		if path != "**fails**" {
			text += fmt.Sprintf(" %.0f", ts[len(ts)/2])
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}
