package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/enr"
)

func newDiscv5CrawlCmd(e *env) *cobra.Command {
	var f discv5Flags
	var limit, width int
	var histogram bool
	cmd := &cobra.Command{
		Use:   "crawl ENR…",
		Short: "Ask every node that can be found for the nodes it knows",
		Long: `Ask every node that can be found, starting from ENR, for the nodes it knows.
stdout gets a JSON object for each node and line: its record, where it was
asked, the time it took to answer, or why it did not. Progress goes to stderr, if that is
a terminal. The exit code is 4 if not one node answered.`,
		Args: rangeArgs(1, -1, "ENR…"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if _, _, err := f.split(args); err != nil {
				return err
			}
			var seeds []*enr.Record
			for _, text := range f.bootnodes {
				r, err := parseRecord(text)
				if err != nil {
					return err
				}
				seeds = append(seeds, r)
			}
			f.bootnodes = nil // the crawl alone decides whom to ask
			n, err := f.start(e)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, n.Close()) }()
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			c := crawlReport{e: e, start: time.Now(), self: n.ID()}
			c.meter = newMeter(e.stderr)
			if err := c.run(ctx, n, seeds, discv5.CrawlConfig{Width: width, Limit: limit}); err != nil {
				return err
			}
			c.finish(histogram)
			if c.alive == 0 {
				return fail(exitTimeout, errors.New("no node answered"), "are the nodes to begin with alive?")
			}
			return nil
		},
	}
	f.add(cmd, "0.0.0.0:0")
	f.addTimeout(cmd, 10*time.Minute)
	cmd.Flags().IntVar(&limit, "limit", 0, "stop after this many nodes (default 100000)")
	cmd.Flags().IntVar(&width, "width", 0, "nodes asked at once (default 64)")
	cmd.Flags().BoolVar(&histogram, "histogram", false, "draw how many nodes are at which distance, on stderr at the end")
	return cmd
}

// A crawlReport prints a crawl as it goes.
type crawlReport struct {
	e         *env
	self      enr.ID
	start     time.Time
	meter     *meter // nil where nobody watches
	n, alive  int
	distances [257]int // of the nodes that answered
}

// crawlView is the line of one node.
type crawlView struct {
	ID    enr.ID  `json:"id"`
	ENR   string  `json:"enr"`
	Seq   uint64  `json:"seq"`
	Addr  string  `json:"addr,omitempty"`
	Alive bool    `json:"alive"`
	MS    float64 `json:"ms,omitempty"`
	Found int     `json:"found"`
	Error string  `json:"error,omitempty"`
}

func (c *crawlReport) run(ctx context.Context, n *discv5.Node, seeds []*enr.Record, cfg discv5.CrawlConfig) error {
	enc := json.NewEncoder(c.e.stdout)
	screen := isTerminal(c.e.stdout)
	for r := range n.Crawl(ctx, seeds, cfg) {
		v := crawlView{ID: r.Record.ID(), ENR: r.Record.String(), Seq: r.Record.Seq(), Alive: r.Err == nil, Found: r.Found}
		if r.Addr.IsValid() {
			v.Addr = r.Addr.String()
		}
		c.n++
		if r.Err != nil {
			v.Error = r.Err.Error()
		} else {
			v.MS = float64(r.RTT.Microseconds()) / 1000
			c.alive++
			c.distances[enr.LogDistance(c.self, v.ID)]++
		}
		if screen {
			c.meter.clear() // they are the same
		}
		if err := enc.Encode(v); err != nil {
			return err
		}
		c.progress(r.Met)
	}
	return nil
}

// progress tells how many of the nodes met have been asked; there are more of
// them while the crawl goes on.
func (c *crawlReport) progress(met int) {
	c.meter.draw(time.Now(), func(int) string {
		return fmt.Sprintf("asked %d of %d nodes, %d answered, %s", c.n, max(met, c.n), c.alive, shortTime(time.Since(c.start)))
	})
}

func (c *crawlReport) finish(histogram bool) {
	c.meter.clear()
	fmt.Fprintf(c.e.stderr, "%d nodes, %d answered, %s\n", c.n, c.alive, time.Since(c.start).Round(time.Millisecond))
	if histogram {
		c.draw()
	}
}

// barWidth is the longest bar of the histogram in characters.
const barWidth = 60

func (c *crawlReport) draw() {
	most := 1
	for _, n := range c.distances {
		most = max(most, n)
	}
	fmt.Fprintln(c.e.stderr, "nodes that answered, by distance from this node")
	for d := len(c.distances) - 1; d >= 0; d-- {
		if n := c.distances[d]; n > 0 {
			fmt.Fprintf(c.e.stderr, "%4d %6d %s\n", d, n, strings.Repeat("#", max(n*barWidth/most, 1)))
		}
	}
}
