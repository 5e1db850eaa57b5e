package faults_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/muster-p2p/muster/rendezvous"
)

// memoryLimit is what the daemon gets under all floods.
const memoryLimit = 256 << 20

// limitMemory returns a prefix that puts a command into a control group of its
// own with the limit, or nil where that cannot be had.
func limitMemory(t *testing.T) []string {
	t.Helper()
	for _, kind := range []struct{ root, file string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
		{"/sys/fs/cgroup", "memory.max"},
	} {
		dir := filepath.Join(kind.root, "muster-faults-"+strconv.Itoa(os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
		if err := os.WriteFile(filepath.Join(dir, kind.file), []byte(strconv.Itoa(memoryLimit)), 0o600); err == nil {
			return []string{"sh", "-c", `echo $$ >` + dir + `/cgroup.procs; exec "$@"`, "sh"}
		}
		_ = os.Remove(dir)
	}
	return nil
}

// An attack does one thing again and again until ctx ends, as often as its
// pace allows. It counts what it has done.
type attack struct {
	name  string
	pace  time.Duration
	doers int
	do    func(ctx context.Context, f *floods, doer, i int)
	done  atomic.Int64
}

// floods is what attacks know of their victim.
type floods struct {
	t       *testing.T
	d       *daemon
	rdv     string // host:port
	libp2p  string // host:port
	discv5  string // host:port, or empty
	point   peer.AddrInfo
	path    string
	mu      sync.Mutex
	held    []net.Conn // the newest of what attackers keep open
	clients []*client
}

// maxHeld bounds the attackers' own descriptors.
const maxHeld = 3000

func (f *floods) hold(c net.Conn) {
	f.mu.Lock()
	f.held = append(f.held, c)
	var old net.Conn
	if len(f.held) > maxHeld {
		old, f.held = f.held[0], f.held[1:]
	}
	f.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
}

func (f *floods) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.held {
		_ = c.Close()
	}
}

// from is an address that no honest client has.
func from(i int) string { return fmt.Sprintf("127.%d.%d.%d", 1+i/50000%100, i/250%200, i%250+1) }

func dialFrom(ip, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	return d.Dial("tcp", addr)
}

// silent connects and says nothing.
func (f *floods) silent(_ context.Context, addr string, doer, i int) {
	if c, err := dialFrom(from(doer*1000+i), addr); err == nil {
		f.hold(c)
	}
}

func attacks() []*attack {
	return []*attack{
		{name: "silent connections to libp2p", pace: 10 * time.Millisecond, doers: 2, do: func(ctx context.Context, f *floods, doer, i int) {
			f.silent(ctx, f.libp2p, doer, i)
		}},
		{name: "half a request to rdv", pace: 10 * time.Millisecond, doers: 2, do: func(_ context.Context, f *floods, doer, i int) {
			if c, err := dialFrom(from(doer*1000+i), f.rdv); err == nil {
				_, _ = io.WriteString(c, "DIAL "+f.path+"/x HTTP/1.1\r\nHost: x\r\nX: ")
				f.hold(c)
			}
		}},
		{name: "waiting in the lobby", pace: 10 * time.Millisecond, doers: 2, do: func(_ context.Context, f *floods, doer, i int) {
			if c, err := askRdv(f.d, from(doer*1000+i), "ACCEPT", fmt.Sprintf("flood-%d-%d", doer, i)); err == nil {
				f.hold(c.Conn)
			}
		}},
		{name: "pairs that pick nothing", pace: 20 * time.Millisecond, doers: 2, do: func(_ context.Context, f *floods, doer, i int) {
			token := fmt.Sprintf("idle-%d-%d", doer, i)
			for _, method := range []string{"ACCEPT", "DIAL"} {
				if c, err := askRdv(f.d, from(doer*1000+i), method, token); err == nil {
					f.hold(c.Conn)
				}
			}
		}},
		{name: "garbage to rdv", pace: 5 * time.Millisecond, doers: 2, do: func(_ context.Context, f *floods, doer, i int) {
			if c, err := dialFrom(from(doer*1000+i), f.rdv); err == nil {
				_, _ = c.Write(garbage(4 << 10))
				_ = c.Close()
			}
		}},
		{name: "registrations", pace: time.Millisecond, doers: 6, do: func(ctx context.Context, f *floods, doer, i int) {
			_ = f.clients[doer].register(ctx, fmt.Sprintf("flood/%d/%d", doer, i))
		}},
		{name: "listing of what is not there", pace: time.Millisecond, doers: 6, do: func(ctx context.Context, f *floods, doer, i int) {
			c := f.clients[doer]
			_, _ = c.Discover(ctx, c.point, fmt.Sprint("nothing", i%7), rendezvous.Query{Cookie: garbage(64)})
		}},
		{name: "streams of garbage", pace: 5 * time.Millisecond, doers: 4, do: func(ctx context.Context, f *floods, doer, i int) {
			protos := []protocol.ID{rendezvous.ProtocolID, "/meshsub/1.1.0", "/muster/reach/1.0.0", "/ipfs/id/push/1.0.0"}
			s, err := f.clients[doer].h.NewStream(ctx, f.point.ID, protos[i%len(protos)])
			if err != nil {
				return
			}
			_ = s.SetDeadline(time.Now().Add(time.Second))
			_, _ = s.Write(append(binary.AppendUvarint(nil, uint64(rand.N(1<<17))), garbage(8<<10)...))
			if i%2 == 0 {
				_ = s.Reset()
			}
		}},
		{name: "new identities", pace: 50 * time.Millisecond, doers: 2, do: func(ctx context.Context, f *floods, doer, i int) {
			h := newHost(f.t, from(doer*1000+i))
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_ = h.Connect(ctx, f.point)
			_ = h.Close()
		}},
		{name: "datagrams to discv5", pace: 500 * time.Microsecond, doers: 2, do: func(_ context.Context, f *floods, _, _ int) {
			if f.discv5 == "" {
				return
			}
			c, err := net.Dial("udp", f.discv5)
			if err == nil {
				_, _ = c.Write(garbage(63 + rand.N(1200)))
				_ = c.Close()
			}
		}},
	}
}

func garbage(n int) []byte {
	b := make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rand.Uint64())
	}
	return b
}

// newFloods looks the victim's doors up.
func newFloods(t *testing.T, d *daemon) *floods {
	t.Helper()
	u, err := url.Parse(d.rdv)
	if err != nil {
		t.Fatal(err)
	}
	info, err := peer.AddrInfoFromString(d.addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	addr, err := manet.ToNetAddr(info.Addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	f := &floods{t: t, d: d, rdv: u.Host, libp2p: addr.String(), point: *info, path: strings.TrimSuffix(u.Path, "/"), discv5: udpOf(d)}
	for i := range 6 {
		c := newClient(t, from(90000+i))
		c.use(t, d)
		f.clients = append(f.clients, c)
	}
	t.Cleanup(f.release)
	return f
}

// udpOf is the daemon's UDP address, as the kernel lists it.
func udpOf(d *daemon) string {
	inodes := map[string]bool{}
	dir := fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid)
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			inodes[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	b, _ := os.ReadFile("/proc/net/udp")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 10 || !inodes[f[9]] {
			continue
		}
		if _, port, ok := strings.Cut(f[1], ":"); ok {
			if n, err := strconv.ParseUint(port, 16, 16); err == nil {
				return fmt.Sprint("127.0.0.1:", n)
			}
		}
	}
	return ""
}

// TestFloods runs all attacks at once, for two minutes, against a daemon that
// has 256 MiB, while honest clients go on.
func TestFloods(t *testing.T) {
	s := setup{prefix: limitMemory(t), args: []string{"--relay-pair-rate", "50M"}}
	bound := "in a control group of 256 MiB"
	if s.prefix == nil {
		bound = "no control group here, so GOMEMLIMIT=218MiB"
		s.env = []string{"GOMEMLIMIT=218MiB"}
	}
	d := start(t, s)
	f := newFloods(t, d)
	duration := time.Duration(envInt("FAULTS_FLOOD", 120)) * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	list := attacks()
	var wg sync.WaitGroup
	for _, a := range list {
		for doer := range a.doers {
			wg.Go(func() {
				tick := time.NewTicker(a.pace)
				defer tick.Stop()
				for i := 0; ; i++ {
					select {
					case <-tick.C:
						a.do(ctx, f, doer, i)
						a.done.Add(1)
					case <-ctx.Done():
						return
					}
				}
			})
		}
	}
	var registers, discovers, pairs, newcomers times
	honest := newClient(t, "127.200.0.1")
	honest.use(t, d)
	each := func(every time.Duration, do func(i int)) {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				do(i)
				wait(t, every)
			}
		})
	}
	each(100*time.Millisecond, func(i int) {
		begun := time.Now()
		registers.add(begun, honest.register(t.Context(), fmt.Sprint("honest/", i%20)))
		begun = time.Now()
		ok, err := honest.has(t.Context(), fmt.Sprint("honest/", i%20), honest)
		if err == nil && !ok {
			err = fmt.Errorf("not listed")
		}
		discovers.add(begun, err)
	})
	each(100*time.Millisecond, func(i int) {
		begun := time.Now()
		x, y, err := pair(d, "127.200.0.2", fmt.Sprint("honest-", i))
		if err == nil {
			err = talk(x, y)
			_, _ = x.Close(), y.Close()
		}
		pairs.add(begun, err)
	})
	each(time.Second, func(i int) {
		c := newClient(t, fmt.Sprintf("127.201.0.%d", i%250+1))
		c.use(t, d)
		begun := time.Now()
		newcomers.add(begun, c.register(t.Context(), "honest/newcomer"))
		_, _ = c.Close(), c.h.Close()
	})
	wg.Wait()
	_, peak := d.memory()
	if !d.alive() {
		t.Fatalf("the daemon ended: %v\n%s", d.exitErr, d.output())
	}
	var what, honestly []string
	for _, a := range list {
		what = append(what, fmt.Sprintf("%d %s", a.done.Load(), a.name))
	}
	for _, h := range []struct {
		name string
		*times
	}{{"register", &registers}, {"discover", &discovers}, {"pair", &pairs}, {"newcomer", &newcomers}} {
		p99 := h.quantile(.99)
		if h.failed*100 > len(h.took) || p99 > time.Second {
			t.Errorf("%s: p99 %v, %d of %d failed, the last with %v", h.name, p99, h.failed, len(h.took), h.err)
		}
		honestly = append(honestly, fmt.Sprintf("%s p99 %v (%d, %d failed)", h.name, p99, len(h.took), h.failed))
	}
	f.release()
	if peak > memoryLimit>>20 {
		t.Errorf("resident %d MiB", peak)
	}
	if code, body := d.get("/readyz"); code != 200 {
		t.Errorf("afterwards readyz says %d %s", code, firstLine(body))
	}
	d.stop()
	verdict(t, "%v, %s, resident at most %d MiB; honest: %s; floods: %s", duration, bound, peak, strings.Join(honestly, ", "), strings.Join(what, ", "))
}
