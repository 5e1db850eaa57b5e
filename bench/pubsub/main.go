// Command pubsub measures muster's pubsub against go-libp2p-pubsub: the same
// work on the same hosts, in one process and one run, in turns.
//
// Each case is run in rounds, first the one and then the other, and the round
// with the median CPU time counts, so that whatever else the machine does
// weighs on both. CPU time is that of the process, user and system: publisher
// and receivers together. Allocations are those of the process as well.
//
//	go run . -cases pair,mesh,burst,graft,decode,seen,sweep
//
// The simulated WAN is a test, since its time is virtual:
//
//	go test -run WAN -v -wan
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

// The work, in the terms of both libraries.
type (
	impl struct {
		name string
		make func(ctx context.Context, h host.Host, o options) (node, error)
	}
	options struct {
		unsigned bool
		wait     bool // Publish waits for room, if the library can
		count    bool // duplicates
	}
	node interface {
		// join enters a topic; without a subscription messages are only relayed.
		join(ctx context.Context, topic string, subscribe bool) error
		publish(ctx context.Context, data []byte) error
		next(ctx context.Context) ([]byte, error)
		duplicates() uint64
	}
)

var impls = []impl{{"go-libp2p-pubsub", newTheirs}, {"muster", newOurs}}

const topicName = "bench"

// maxMessage lets the largest payload through; both get the same.
const maxMessage = 4 << 20

func main() {
	cases := flag.String("cases", "pair,mesh,burst,graft,decode,seen", "what to measure")
	rounds := flag.Int("rounds", 3, "rounds of each case and library")
	length := flag.Duration("length", 2*time.Second, "length of a round")
	side := flag.String("impl", "", "measure only this library: muster or go-libp2p-pubsub")
	only := flag.String("only", "", "measure only the cases whose names contain this")
	profile := flag.String("cpuprofile", "", "write a profile of muster's rounds to this file, and one of allocations to FILE.mem")
	flag.Parse()
	if *side != "" {
		impls = slices.DeleteFunc(impls, func(im impl) bool { return im.name != *side })
		impls = append(impls, impls...) // so that there is something to compare
	}
	r := &runner{rounds: *rounds, length: *length, only: *only, profile: *profile}
	fmt.Printf("# %s %s/%s, %d CPUs, %d rounds of %v; ratio = muster / go-libp2p-pubsub v0.17.0\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), r.rounds, r.length)
	for c := range strings.SplitSeq(*cases, ",") {
		run, ok := map[string]func() error{
			"pair": r.pairs, "mesh": r.meshes, "burst": r.bursts, "graft": r.grafts, "decode": r.decode, "seen": r.seen, "sweep": r.sweep,
		}[c]
		if !ok {
			fmt.Fprintf(os.Stderr, "no case %q\n", c)
			os.Exit(2)
		}
		if err := run(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", c, err)
			os.Exit(1)
		}
	}
}

type runner struct {
	rounds        int
	length        time.Duration
	only, profile string
}

// result is what one round found. Zero fields are not printed.
type result struct {
	perSecond  float64
	cpu        float64 // µs per delivery
	allocs     float64 // per delivery
	bytes      float64 // allocated per delivery
	p50, p90   time.Duration
	p99, last  time.Duration
	duplicates float64 // per delivery
	delivered  float64 // share
	refused    int     // publishes that returned an error
}

// compare runs a case in turns and prints medians and ratios.
func (r *runner) compare(name string, work func(impl) (result, error)) error {
	if !strings.Contains(name, r.only) {
		return nil
	}
	all := map[string][]result{}
	for range r.rounds {
		for _, im := range impls {
			runtime.GC()
			stop, err := r.startProfile(im)
			if err != nil {
				return err
			}
			res, err := work(im)
			stop()
			if err != nil {
				return fmt.Errorf("%s with %s: %w", name, im.name, err)
			}
			all[im.name] = append(all[im.name], res)
			debug.FreeOSMemory()
		}
	}
	their, our := median(all[impls[0].name]), median(all[impls[1].name])
	fmt.Printf("\n%s\n", name)
	line := func(what string, theirs, ours float64, format string) {
		if theirs == 0 && ours == 0 {
			return
		}
		fmt.Printf("  %-22s "+format+"  "+format+"  ratio %.2f\n", what, theirs, ours, ours/theirs)
	}
	line("messages/s", their.perSecond, our.perSecond, "%12.0f")
	line("CPU µs/delivery", their.cpu, our.cpu, "%12.1f")
	line("allocs/delivery", their.allocs, our.allocs, "%12.1f")
	line("bytes/delivery", their.bytes, our.bytes, "%12.0f")
	line("duplicates/delivery", their.duplicates, our.duplicates, "%12.2f")
	line("p50 ms", ms(their.p50), ms(our.p50), "%12.3f")
	line("p99 ms", ms(their.p99), ms(our.p99), "%12.3f")
	line("delivered", their.delivered, our.delivered, "%12.4f")
	line("refused with an error", float64(their.refused), float64(our.refused), "%12.0f")
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// median is the round with the median CPU time, or rate, or latency.
func median(rs []result) result {
	slices.SortFunc(rs, func(a, b result) int {
		return compareFloat(a.cpu+ms(a.p50)/1e6, b.cpu+ms(b.p50)/1e6)
	})
	return rs[len(rs)/2]
}

func compareFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// meter measures what the process spends between start and stop.
type meter struct {
	cpu    time.Duration
	mem    runtime.MemStats
	begin  time.Time
	passed time.Duration
}

func startMeter() *meter {
	m := &meter{}
	runtime.ReadMemStats(&m.mem)
	m.cpu, m.begin = cpuTime(), time.Now()
	return m
}

func (m *meter) stop(deliveries int) result {
	passed, cpu := time.Since(m.begin), cpuTime()-m.cpu
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	n := float64(deliveries)
	return result{
		perSecond: n / passed.Seconds(),
		cpu:       float64(cpu) / float64(time.Microsecond) / n,
		allocs:    float64(after.Mallocs-m.mem.Mallocs) / n,
		bytes:     float64(after.TotalAlloc-m.mem.TotalAlloc) / n,
	}
}

func cpuTime() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// cluster is hosts with a pubsub each.
type cluster struct {
	ctx   context.Context
	close func()
	hosts []host.Host
	nodes []node
}

func newCluster(im impl, n int, o func(i int) options) (*cluster, error) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &cluster{ctx: ctx}
	c.close = func() {
		cancel()
		for _, h := range c.hosts {
			_ = h.Close()
		}
	}
	for i := range n {
		h, err := newHost()
		if err != nil {
			c.close()
			return nil, err
		}
		c.hosts = append(c.hosts, h)
		nd, err := im.make(ctx, h, o(i))
		if err != nil {
			c.close()
			return nil, err
		}
		c.nodes = append(c.nodes, nd)
	}
	return c, nil
}

func newHost() (host.Host, error) {
	return libp2p.New(
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New), libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.DisableRelay(), libp2p.ResourceManager(unlimited()),
	)
}

func (c *cluster) connect(i, j int) error {
	return c.hosts[i].Connect(c.ctx, peer.AddrInfo{ID: c.hosts[j].ID(), Addrs: c.hosts[j].Addrs()})
}
