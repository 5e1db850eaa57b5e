// Command linktable turns results of linkprobe into a table in Markdown.
//
//	linktable natlab-link.json
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"slices"
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
	var scenarios []string
	rows := map[string][]result{}
	f, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for s := bufio.NewScanner(f); s.Scan(); {
		var r result
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			log.Fatal(err)
		}
		if rows[r.Scenario] == nil {
			scenarios = append(scenarios, r.Scenario)
		}
		rows[r.Scenario] = append(rows[r.Scenario], r)
	}
	fmt.Println("| topology | first byte | direct after | stall, at worst | path in the end |")
	fmt.Println("|---|---|---|---|---|")
	for _, name := range scenarios {
		rs := rows[name]
		fmt.Printf("| %s | %s | %s | %s | %s |\n", name,
			number(rs, func(r result) float64 { return r.PingMS }, median),
			number(rs, func(r result) float64 { return r.DirectMS }, median),
			number(rs, func(r result) float64 { return r.StallMS }, slices.Max[[]float64]),
			paths(rs))
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// number summarises what is not zero.
func number(rs []result, of func(result) float64, sum func([]float64) float64) string {
	var v []float64
	for _, r := range rs {
		if x := of(r); r.OK && x > 0 {
			v = append(v, x)
		}
	}
	if len(v) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f", sum(v))
}

// paths says which path was taken, and how often if it is not always the same.
func paths(rs []result) string {
	n := map[string]int{}
	for _, r := range rs {
		switch {
		case !r.OK:
			n["**fails**"]++
		case r.Path == "p2p":
			n["direct"]++
		default:
			n[r.Path]++
		}
	}
	text := ""
	for _, path := range []string{"direct", "relay", "**fails**"} {
		switch {
		case n[path] == 0:
		case n[path] == len(rs):
			return path
		default:
			text += fmt.Sprintf("%s %d/%d ", path, n[path], len(rs))
		}
	}
	return text
}
