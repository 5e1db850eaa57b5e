package discv5

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
)

const (
	// crawlWidth is how many nodes a crawl asks at once by default.
	crawlWidth = 64
	// crawlDistances is how many distances one request of a crawl asks for:
	// their nodes fit one answer as a rule.
	crawlDistances = 3
	// crawlLimit bounds the nodes of one crawl by default; ten thousand is
	// the size of the largest networks known.
	crawlLimit = 100_000
)

// CrawlConfig configures a crawl. The zero value is good.
type CrawlConfig struct {
	// Width is how many nodes are asked at once; zero means 64.
	Width int
	// Limit is how many nodes are looked at in all; zero means 100,000.
	Limit int
	// Lowest is the smallest distance asked for; zero means 240, below which
	// only networks of more than 65,000 nodes have any.
	Lowest int
}

// A CrawlResult is what a crawl found out about one node.
type CrawlResult struct {
	Record *enr.Record    // the newest that was seen
	Addr   netip.AddrPort // where it was asked, zero if its record names no reachable place
	RTT    time.Duration  // of the first answer, handshake included
	Found  int            // nodes it told of
	Met    int            // nodes the crawl has met so far, asked or not
	Err    error          // why it did not answer; nil if it did
}

// Crawl asks every node that can be found, from seeds on, for all the nodes
// it knows, and yields each node once, when it has answered or failed to. It
// ends when all have been asked, at the limit, or with ctx.
func (n *Node) Crawl(ctx context.Context, seeds []*enr.Record, cfg CrawlConfig) iter.Seq[CrawlResult] {
	setDefault(&cfg.Width, crawlWidth)
	setDefault(&cfg.Limit, crawlLimit)
	setDefault(&cfg.Lowest, lowDistance-1)
	return func(yield func(CrawlResult) bool) {
		ctx, cancel := context.WithCancel(ctx)
		c := crawl{n: n, cfg: cfg, newest: make(map[enr.ID]uint64), done: make(chan crawled)}
		defer func() {
			cancel()
			for ; c.open > 0; c.open-- {
				<-c.done // each ends soon, with ctx
			}
		}()
		c.add(seeds)
		for {
			c.send(ctx)
			if c.open == 0 {
				return
			}
			r := <-c.done
			c.open--
			c.add(r.nodes)
			r.Met = len(c.newest)
			if !yield(r.CrawlResult) || ctx.Err() != nil {
				return
			}
		}
	}
}

type crawl struct {
	n      *Node
	cfg    CrawlConfig
	newest map[enr.ID]uint64
	queue  []*enr.Record
	open   int // nodes being asked
	done   chan crawled
}

type crawled struct {
	CrawlResult
	nodes []*enr.Record
}

// add queues the nodes not met before.
func (c *crawl) add(nodes []*enr.Record) {
	for _, r := range nodes {
		if _, ok := c.newest[r.ID()]; ok || r.ID() == c.n.id || len(c.newest) >= c.cfg.Limit {
			continue
		}
		c.newest[r.ID()] = r.Seq()
		c.queue = append(c.queue, r)
	}
}

func (c *crawl) send(ctx context.Context) {
	for c.open < c.cfg.Width && len(c.queue) > 0 && ctx.Err() == nil {
		r := c.queue[0]
		c.queue = c.queue[1:]
		c.open++
		go func() { c.done <- c.n.ask(ctx, r, c.cfg.Lowest) }()
	}
}

// ask asks one node for all its nodes, the farthest buckets first, and stops
// after a request that brought none, unless there are so few that a bucket may
// be empty by chance.
func (n *Node) ask(ctx context.Context, r *enr.Record, lowest int) crawled {
	out := crawled{CrawlResult: CrawlResult{Record: r}}
	out.Addr, out.Err = n.reach(r)
	if out.Err != nil {
		return out
	}
	start := time.Now()
	pong, err := n.Ping(ctx, r)
	if err != nil {
		out.Err = err
		return out
	}
	out.RTT = time.Since(start)
	if pong.Seq > r.Seq() {
		if own, err := n.FindNode(ctx, r, 0); err == nil && len(own) > 0 {
			out.Record = newer(r, own[0])
		}
	}
	for d := wire.MaxDistance; d >= lowest; d -= crawlDistances {
		var ds []int
		for i := d; i > d-crawlDistances && i >= max(lowest, 1); i-- {
			ds = append(ds, i)
		}
		found, err := n.FindNode(ctx, r, ds...)
		if err != nil {
			if !errors.Is(err, ErrTimeout) {
				out.Err = err
			}
			break
		}
		if len(found) == 0 && len(out.nodes) >= maxNodesRecords {
			break
		}
		// A full answer may have cut off the last distances: ask one by one.
		if len(found) >= maxNodesRecords-1 && len(ds) > 1 {
			found = append(found, n.oneByOne(ctx, r, ds[1:])...)
		}
		out.nodes = append(out.nodes, found...)
	}
	out.Found = len(out.nodes)
	return out
}

func (n *Node) oneByOne(ctx context.Context, r *enr.Record, distances []int) (found []*enr.Record) {
	for _, d := range distances {
		more, err := n.FindNode(ctx, r, d)
		if err != nil {
			return found
		}
		found = append(found, more...)
	}
	return found
}
