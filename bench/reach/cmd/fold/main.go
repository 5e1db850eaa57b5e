// fold turns results of the laboratory's probe that keep the peers' logs into
// results without logs, and adds what the acceptor saw: "self_path" as the
// program itself names it, and, if a direct connection came after the first
// byte, "direct_ms", counted like "ping_ms" from the start of the dialler, and
// "direct_over". A run that failed keeps its log.
package main

import (
	"bufio"
	"encoding/json"
	"log"
	"os"
	"strings"

	"github.com/muster-p2p/muster/bench/reach/internal/pipe"
)

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var r map[string]any
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			log.Fatal(err)
		}
		line, err := json.Marshal(fold(r))
		if err != nil {
			log.Fatal(err)
		}
		os.Stdout.Write(append(line, '\n'))
	}
	if err := in.Err(); err != nil {
		log.Fatal(err)
	}
}

func fold(r map[string]any) map[string]any {
	text, _ := r["stderr"].(string)
	var first, direct *pipe.Seen
	for line := range strings.Lines(text) {
		at := strings.Index(line, "{")
		if at < 0 {
			continue
		}
		s := new(pipe.Seen)
		if json.Unmarshal([]byte(line[at:]), s) != nil {
			continue
		}
		switch s.Seen {
		case "first":
			first = s
		case "direct":
			direct = s
		}
	}
	if ok, _ := r["ok"].(bool); ok {
		delete(r, "stderr")
	}
	if first != nil {
		r["self_path"] = first.Path
		r["self_detail"] = first.Detail
	}
	ping, _ := r["ping_ms"].(float64)
	if first != nil && direct != nil {
		r["direct_ms"] = ping + direct.SeenMS - first.SeenMS
		r["direct_over"] = direct.Detail
	}
	return r
}
