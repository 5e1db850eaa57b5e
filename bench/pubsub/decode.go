package main

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p-pubsub/timecache"
	"google.golang.org/protobuf/proto"

	"github.com/muster-p2p/muster/pubsub/wire"
)

// decode: the codec alone.
func (r *runner) decode() error {
	fmt.Printf("\nRPC decode%42s\n", "ns and allocations")
	for _, f := range frames() {
		theirs := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var rpc pb.RPC
				if err := proto.Unmarshal(f.bytes, &rpc); err != nil {
					b.Fatal(err)
				}
			}
		})
		lim := wire.Limits{RPC: maxMessage}.WithDefaults()
		var rpc wire.RPC
		ours := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := rpc.Decode(f.bytes, &lim); err != nil {
					b.Fatal(err)
				}
			}
		})
		t, o := perOp(theirs), perOp(ours)
		fmt.Printf("  %-22s %10.0f %6d  %10.0f %6d  %.1f times as fast\n",
			f.name, t, theirs.AllocsPerOp(), o, ours.AllocsPerOp(), t/o)
	}
	return nil
}

func perOp(r testing.BenchmarkResult) float64 { return float64(r.T.Nanoseconds()) / float64(r.N) }

type frame struct {
	name  string
	bytes []byte
}

func frames() []frame {
	publish := func(n, size int) []byte {
		f := wire.Fields{
			From: make([]byte, 38), Data: make([]byte, size), Seqno: make([]byte, 8), Topic: "bench-topic", Signature: make([]byte, 64),
		}
		return []byte(strings.Repeat(string(wire.AppendPublishRaw(nil, f.AppendMessage(nil))), n))
	}
	var subs []byte
	for i := range 100 {
		subs = wire.AppendSubscription(subs, fmt.Sprintf("topic-number-%03d", i), true)
	}
	var ids []string
	for i := range 1000 {
		ids = append(ids, fmt.Sprintf("%046d", i))
	}
	ihave := wire.Control{IHave: []wire.OutIHave{{Topic: "bench-topic", IDs: ids}}}
	idontwant := wire.Control{IDontWant: []string{"twenty bytes of an id"}}
	return []frame{
		{"publish 100 B", publish(1, 100)},
		{"publish 1 KiB", publish(1, 1<<10)},
		{"publish 64 KiB", publish(1, 64<<10)},
		{"10 publish 200 B", publish(10, 200)},
		{"IHAVE 1000 ids", ihave.AppendControl(nil)},
		{"IDONTWANT 1 id", idontwant.AppendControl(nil)},
		{"100 subscriptions", subs},
	}
}

// seenIDs is five thousand messages a second for two minutes.
const seenIDs = 600_000

// seen: the memory of ids in go-libp2p-pubsub's cache. Ours is measured by a
// test of its own, at the same rate: go test -run TestSeenMemory -v ./pubsub.
func (r *runner) seen() error {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c := filledCache()
	defer c.Done()
	runtime.GC()
	runtime.ReadMemStats(&after)
	fmt.Printf("\nseen cache: go-libp2p-pubsub %.1f bytes per id, the id itself included\n",
		float64(after.HeapAlloc-before.HeapAlloc)/seenIDs)
	runtime.KeepAlive(c)
	return nil
}

// sweep: the longest that a lookup takes in go-libp2p-pubsub's cache while ids
// expire, which it looks for once a minute. Ours never walks over its ids.
func (r *runner) sweep() error {
	c := filledCache()
	defer c.Done()
	longest := time.Duration(0)
	for until := time.Now().Add(130 * time.Second); time.Now().Before(until); time.Sleep(100 * time.Microsecond) {
		begin := time.Now()
		c.Has("an id")
		longest = max(longest, time.Since(begin))
	}
	fmt.Printf("\nseen cache: go-libp2p-pubsub's longest lookup while %d ids expire %v\n", seenIDs, longest)
	return nil
}

func filledCache() timecache.TimeCache {
	c := timecache.NewTimeCache(time.Minute)
	for i := range seenIDs {
		c.Add(fmt.Sprintf("%046d", i))
	}
	return c
}
