//go:build unix

package rendezvous_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/pebblestore"
	"github.com/muster-p2p/muster/rendezvous/wire"
)

// sizes are how many registrations there are at the start: 1 k, and with
// MUSTER_BENCH_N=100000,1000000 more.
func sizes(b *testing.B) []int {
	b.Helper()
	out := []int{1000}
	for _, s := range strings.Split(os.Getenv("MUSTER_BENCH_N"), ",") {
		if n, err := strconv.Atoi(s); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// A benchClient asks on one stream, one request after the other.
type benchClient struct {
	s   network.Stream
	r   *bufio.Reader
	buf []byte
	lat []time.Duration
}

func (c *benchClient) ask(frame []byte) error {
	start := time.Now()
	if _, err := c.s.Write(frame); err != nil {
		return err
	}
	size, err := binary.ReadUvarint(c.r)
	if err != nil {
		return err
	}
	c.buf = slices.Grow(c.buf[:0], int(size))[:size]
	_, err = io.ReadFull(c.r, c.buf)
	c.lat = append(c.lat, time.Since(start))
	return err
}

// A benchLoad is eight clients of one point.
type benchLoad struct {
	point   host.Host
	clients []*benchClient
	keys    []crypto.PrivKey
	ids     []peer.ID
}

func newBenchLoad(b *testing.B, point host.Host) *benchLoad {
	l := &benchLoad{point: point}
	for range 8 {
		key := newKey(b)
		h := hostWithKey(b, key)
		know(h, point)
		s, err := h.NewStream(b.Context(), point.ID(), rendezvous.ProtocolID)
		if err != nil {
			b.Fatal(err)
		}
		l.clients = append(l.clients, &benchClient{s: s, r: bufio.NewReaderSize(s, 64<<10)})
		l.keys, l.ids = append(l.keys, key), append(l.ids, h.ID())
	}
	return l
}

// run asks b.N times in all, with what next says for a client's i-th request.
// It reports p99 and the CPU time per request, client and server together.
func (l *benchLoad) run(b *testing.B, next func(client, i int) []byte) {
	var left atomic.Int64
	left.Store(int64(b.N))
	for _, c := range l.clients {
		c.lat = c.lat[:0]
	}
	cpu := cpuTime()
	b.ResetTimer()
	var wg sync.WaitGroup
	for n, c := range l.clients {
		wg.Go(func() {
			for i := 0; left.Add(-1) >= 0; i++ {
				if err := c.ask(next(n, i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	var all []time.Duration
	for _, c := range l.clients {
		all = append(all, c.lat...)
	}
	slices.Sort(all)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-us/op")
	if len(all) > 0 {
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// prefill puts n registrations of 211 bytes into namespaces of 1000.
func prefill(b testing.TB, store rendezvous.Store, n int) {
	b.Helper()
	const per = 1000
	for i := range n / per {
		fill(b, store, fmt.Sprintf("ns%d", i), per)
	}
}

// BenchmarkWire measures requests over TCP loopback, Noise and yamux: eight
// clients, one persistent stream each. N is what the point holds at the start.
func BenchmarkWire(b *testing.B) {
	for _, n := range sizes(b) {
		store := rendezvous.NewMemory()
		_, ph := newPoint(b, open(store))
		prefill(b, store, n)
		l := newBenchLoad(b, ph)
		b.Run(fmt.Sprintf("N=%d", n), func(b *testing.B) {
			b.Run("RegisterNew", func(b *testing.B) { l.registerNew(b) })
			b.Run("Refresh", func(b *testing.B) { l.refresh(b) })
			for _, limit := range []uint64{100, 1000} {
				frame := wire.AppendFrame(nil, wire.Libp2p, ptr(discover("ns0", limit, nil)))
				b.Run(fmt.Sprintf("Discover%d", limit), func(b *testing.B) {
					l.run(b, func(int, int) []byte { return frame })
				})
			}
			b.Run("Poll", func(b *testing.B) { l.poll(b) })
		})
	}
}

// registerNew registers a record that the point has not seen: it is verified.
func (l *benchLoad) registerNew(b *testing.B) {
	const records = 64 // signed ahead; each is new to the point when it comes
	frames := make([][][]byte, len(l.clients))
	for c := range l.clients {
		for i := range records {
			rec := sign(b, l.keys[c], l.ids[c], 1, fmt.Sprintf("/ip4/192.0.2.1/tcp/%d", i+1), "/ip4/192.0.2.2/tcp/4001", "/ip6/2001:db8::1/tcp/4001")
			frames[c] = append(frames[c], wire.AppendFrame(nil, wire.Libp2p, ptr(register(fmt.Sprintf("new%d", c), rec, 7200))))
		}
	}
	l.run(b, func(c, i int) []byte { return frames[c][i%records] })
}

// refresh registers the same record again.
func (l *benchLoad) refresh(b *testing.B) {
	frames := make([][]byte, len(l.clients))
	for c := range l.clients {
		rec := sign(b, l.keys[c], l.ids[c], 1, someAddr)
		frames[c] = wire.AppendFrame(nil, wire.Libp2p, ptr(register(fmt.Sprintf("new%d", c), rec, 7200)))
	}
	l.run(b, func(c, _ int) []byte { return frames[c] })
}

// poll asks with the cookie of a listing that has come to its end.
func (l *benchLoad) poll(b *testing.B) {
	raw := dialRaw(b, newHost(b), l.point, wire.Libp2p)
	res := raw.wantStatus(wire.OK, discover("ns0", 0, nil))
	frame := wire.AppendFrame(nil, wire.Libp2p, ptr(discover("ns0", 0, res.Cookie)))
	l.run(b, func(int, int) []byte { return frame })
}

// BenchmarkWirePebble is REGISTER with a store that syncs in groups.
func BenchmarkWirePebble(b *testing.B) {
	store, err := pebblestore.New(pebblestore.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	_, ph := newPoint(b, open(store))
	l := newBenchLoad(b, ph)
	b.Run("RegisterNew", func(b *testing.B) { l.registerNew(b) })
	b.Run("Refresh", func(b *testing.B) { l.refresh(b) })
}

// BenchmarkExpire lets 100,000 registrations run out in one second while a
// client polls, and reports the p99 of the polls from then until all are gone.
func BenchmarkExpire(b *testing.B) {
	for b.Loop() {
		store := rendezvous.NewMemory()
		p, ph := newPoint(b, open(store))
		expires := time.Now().Add(3 * time.Second)
		for i := range 100_000 {
			id := peer.ID(fmt.Sprintf("\x00\x24\x08\x01\x12\x20%032d", i))
			err := store.Commit(b.Context(), []rendezvous.Change{{Registration: rendezvous.Registration{
				Key: rendezvous.Key{Realm: rendezvous.RealmLibp2p, NS: fmt.Sprint("ns", i%100), Peer: id}, Record: make([]byte, 211),
				Form: rendezvous.FormSigned, TTL: 3 * time.Second, Expires: expires,
			}}})
			if err != nil {
				b.Fatal(err)
			}
		}
		l := newBenchLoad(b, ph)
		frame := wire.AppendFrame(nil, wire.Libp2p, ptr(discover("ns0", 10, nil)))
		c := l.clients[0]
		for time.Now().Before(expires) {
			if err := c.ask(frame); err != nil {
				b.Fatal(err)
			}
		}
		c.lat = c.lat[:0]
		for p.Stats().Registrations > 0 {
			if err := c.ask(frame); err != nil {
				b.Fatal(err)
			}
		}
		slices.Sort(c.lat)
		b.ReportMetric(float64(c.lat[len(c.lat)*99/100].Microseconds()), "p99-us")
		b.ReportMetric(float64(c.lat[len(c.lat)-1].Microseconds()), "max-us")
	}
}

// TestHeapPerRegistration holds the memory of a registration to its bound. It
// takes 100,000 of them; MUSTER_BENCH_N=1000000 takes as many.
func TestHeapPerRegistration(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a registry")
	}
	n := 100_000
	if s, err := strconv.Atoi(os.Getenv("MUSTER_BENCH_N")); err == nil {
		n = s
	}
	store := rendezvous.NewMemory()
	p, _ := newPoint(t, open(store))
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	const per = 1000
	for ns := range n / per {
		name := fmt.Sprintf("ns%d", ns)
		for i := range per {
			id := peer.ID(fmt.Sprintf("\x00\x24\x08\x01\x12\x20%032d", ns*per+i))
			err := store.Commit(t.Context(), []rendezvous.Change{{Registration: rendezvous.Registration{
				Key: rendezvous.Key{Realm: rendezvous.RealmLibp2p, NS: name, Peer: id}, Record: make([]byte, 211),
				Form: rendezvous.FormSigned, Seq: 1, TTL: 2 * time.Hour, Expires: time.Now().Add(2 * time.Hour),
			}}})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	per1 := float64(heap()-before) / float64(n)
	t.Logf("%d registrations of 211 bytes, a peer each: %.0f bytes of heap each", n, per1)
	if per1 > 550 {
		t.Errorf("%.0f bytes of heap per registration, want 550 at most", per1)
	}
	if p.Stats().Registrations != n {
		t.Errorf("%d registrations", p.Stats().Registrations)
	}
}
