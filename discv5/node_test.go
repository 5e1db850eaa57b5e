package discv5_test

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/enr"
	"github.com/muster-p2p/muster/internal/bubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}

// patience is the time-out of nodes on real sockets that are to answer: no
// test is to depend on how fast this machine is.
const patience = time.Minute

// listen starts a node on loopback that is closed with the test.
func listen(t testing.TB, cfg discv5.Config) *discv5.Node {
	t.Helper()
	if cfg.Key == nil {
		key, err := enr.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		cfg.Key = key
	}
	if cfg.Listen == nil && cfg.Conns == nil {
		cfg.Listen = loopback
	}
	if cfg.Conns == nil {
		cfg.HandshakeTimeout = cmp.Or(cfg.HandshakeTimeout, patience)
		cfg.ResponseTimeout = cmp.Or(cfg.ResponseTimeout, patience)
	}
	n, err := discv5.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func TestPing(t *testing.T) {
	a, b := listen(t, discv5.Config{}), listen(t, discv5.Config{})
	for range 3 {
		pong, err := a.Ping(t.Context(), b.LocalRecord())
		if err != nil {
			t.Fatal(err)
		}
		want, _ := a.LocalRecord().UDPEndpoint4()
		if pong.Seq != b.LocalRecord().Seq() || pong.Endpoint != want {
			t.Errorf("pong %+v, want seq %d from %s", pong, b.LocalRecord().Seq(), want)
		}
	}
	if s := a.Stats(); s.HandshakesOut != 1 {
		t.Errorf("%d handshakes for three pings, want 1", s.HandshakesOut)
	}
}

func TestFindNodeSelf(t *testing.T) {
	a, b := listen(t, discv5.Config{}), listen(t, discv5.Config{})
	got, err := a.FindNode(t.Context(), b.LocalRecord(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || !got[0].Equal(b.LocalRecord()) {
		t.Errorf("got %v, want the record of the node asked", got)
	}
}

func TestTalk(t *testing.T) {
	a, b := listen(t, discv5.Config{}), listen(t, discv5.Config{})
	echo := func(_ context.Context, req discv5.TalkRequest) []byte {
		if req.From != a.ID() {
			t.Errorf("request from %s, want %s", req.From, a.ID())
		}
		return append([]byte("echo "), req.Payload...)
	}
	if err := b.RegisterTalkProtocol("echo", echo); err != nil {
		t.Fatal(err)
	}
	if err := b.RegisterTalkProtocol("echo", echo); err == nil {
		t.Error("a second handler was registered")
	}
	got, err := a.TalkRequest(t.Context(), b.LocalRecord(), "echo", []byte("hello"))
	if err != nil || string(got) != "echo hello" {
		t.Errorf("answer %q, %v", got, err)
	}
	// "it must respond with a TALKRESP response containing empty response data"
	got, err = a.TalkRequest(t.Context(), b.LocalRecord(), "nosuch", []byte("hello"))
	if err != nil || len(got) != 0 {
		t.Errorf("unknown protocol: answer %q, %v", got, err)
	}
	big := make([]byte, 1150)
	if got, err = a.TalkRequest(t.Context(), b.LocalRecord(), "echo", big); err != nil || len(got) != len(big)+5 {
		t.Errorf("large request: %d bytes, %v", len(got), err)
	}
	if _, err = a.TalkRequest(t.Context(), b.LocalRecord(), "echo", make([]byte, 1200)); !errors.Is(err, discv5.ErrTooLarge) {
		t.Errorf("request that does not fit: %v, want %v", err, discv5.ErrTooLarge)
	}
}

// TestLargeRequestMakesTheSession sends a request that does not fit a
// handshake packet where there is no session.
func TestLargeRequestMakesTheSession(t *testing.T) {
	a, b := listen(t, discv5.Config{}), listen(t, discv5.Config{})
	if err := b.RegisterTalkProtocol("len", func(_ context.Context, req discv5.TalkRequest) []byte {
		return []byte{byte(len(req.Payload) >> 8), byte(len(req.Payload))}
	}); err != nil {
		t.Fatal(err)
	}
	got, err := a.TalkRequest(t.Context(), b.LocalRecord(), "len", make([]byte, 1100))
	if err != nil || len(got) != 2 || int(got[0])<<8|int(got[1]) != 1100 {
		t.Errorf("answer %x, %v", got, err)
	}
}

func TestPipelining(t *testing.T) {
	a, b := listen(t, discv5.Config{}), listen(t, discv5.Config{})
	errs := make(chan error)
	for range 64 {
		go func() {
			_, err := a.Ping(t.Context(), b.LocalRecord())
			errs <- err
		}()
	}
	for range 64 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if s := a.Stats(); s.HandshakesOut != 1 {
		t.Errorf("%d handshakes for 64 pings at once, want 1", s.HandshakesOut)
	}
}

func TestTimeout(t *testing.T) {
	a := listen(t, discv5.Config{HandshakeTimeout: 50 * time.Millisecond})
	b := listen(t, discv5.Config{})
	gone := b.LocalRecord()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Ping(t.Context(), gone); !errors.Is(err, discv5.ErrTimeout) {
		t.Errorf("ping of a node that is gone: %v, want %v", err, discv5.ErrTimeout)
	}
}

// Who knows one bootnode finds the others that do.
func TestBootstrap(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		for range 9 {
			w.join()
		}
		last := w.nodes[8]
		time.Sleep(10 * time.Second) // the tables fill by and by
		for i, n := range w.nodes[bootN:8] {
			if r, err := n.Resolve(t.Context(), last.ID()); err != nil || r == nil {
				t.Errorf("node %d does not find the last one: %v, %v", bootN+i, r, err)
			}
		}
	})
}

// TestDualStack runs a node on both families: each peer reaches it over its
// own, and it prefers IPv4 where a record names both.
func TestDualStack(t *testing.T) {
	six := netip.MustParseAddrPort("[::1]:0")
	probe, err := net.ListenUDP("udp6", net.UDPAddrFromAddrPort(six))
	if err != nil {
		t.Skipf("no IPv6 on loopback: %v", err)
	}
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	both := listen(t, discv5.Config{Listen: []netip.AddrPort{loopback[0], six}})
	only4 := listen(t, discv5.Config{})
	only6 := listen(t, discv5.Config{Listen: []netip.AddrPort{six}})
	ap4, ok4 := both.LocalRecord().UDPEndpoint4()
	ap6, ok6 := both.LocalRecord().UDPEndpoint6()
	if !ok4 || !ok6 || ap4.Port() == ap6.Port() {
		t.Errorf("record names %s and %s", ap4, ap6)
	}
	for name, p := range map[string]struct{ from, to *discv5.Node }{
		"4 to both": {only4, both}, "6 to both": {only6, both},
		"both to 4": {both, only4}, "both to 6": {both, only6},
	} {
		pong, err := p.from.Ping(t.Context(), p.to.LocalRecord())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if declared := pong.Endpoint; !declaresEndpoint(p.from.LocalRecord(), declared) {
			t.Errorf("%s: seen at %s", name, declared)
		}
	}
	if _, err := only4.Ping(t.Context(), only6.LocalRecord()); !errors.Is(err, discv5.ErrNoEndpoint) {
		t.Errorf("4 to 6: %v, want %v", err, discv5.ErrNoEndpoint)
	}
	if _, err := both.Ping(t.Context(), both.LocalRecord()); !errors.Is(err, discv5.ErrSelf) {
		t.Errorf("to itself: %v, want %v", err, discv5.ErrSelf)
	}
}

// TestDualStackSocket gives a node one socket that takes both families.
func TestDualStackSocket(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	if conn.LocalAddr().(*net.UDPAddr).IP.To4() != nil {
		t.Skip("this system binds IPv4 only")
	}
	both := listen(t, discv5.Config{
		Conns:     []discv5.PacketConn{conn},
		Advertise: []netip.AddrPort{loopback[0], netip.MustParseAddrPort("[::1]:0")},
	})
	only4 := listen(t, discv5.Config{})
	for range 2 { // by a's initiative, then by b's
		for a, b := range map[*discv5.Node]*discv5.Node{only4: both, both: only4} {
			pong, err := a.Ping(t.Context(), b.LocalRecord())
			if err != nil {
				t.Error(err)
			} else if !declaresEndpoint(a.LocalRecord(), pong.Endpoint) {
				t.Errorf("seen at %s", pong.Endpoint)
			}
		}
	}
}

func declaresEndpoint(r *enr.Record, ap netip.AddrPort) bool {
	ap4, _ := r.UDPEndpoint4()
	ap6, _ := r.UDPEndpoint6()
	return ap == ap4 || ap == ap6
}

// TestIterator checks that Nodes finds the nodes of a small network, each
// once, and ends with its context.
func TestIterator(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		want := map[enr.ID]bool{}
		for range 5 {
			want[w.join().ID()] = true
		}
		n := w.join()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		seen := map[enr.ID]uint64{}
		for r := range n.Nodes(ctx) {
			if seq, ok := seen[r.ID()]; ok && seq >= r.Seq() {
				t.Errorf("node %s comes twice", r.ID())
			}
			seen[r.ID()] = r.Seq()
			delete(want, r.ID())
			if len(want) == 0 {
				cancel()
			}
		}
		if len(want) > 0 {
			t.Errorf("%d nodes not found", len(want))
		}
	})
}

// TestCrawl checks that a crawl finds and asks every node once, dead ones too.
func TestCrawl(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		for range 5 {
			w.join()
		}
		n := w.join()
		dead := signedRecord(t, testKey(t, 100), 1, worldAddr(100))
		time.Sleep(time.Minute) // the network settles
		found := map[enr.ID]error{}
		for r := range n.Crawl(t.Context(), []*enr.Record{w.nodes[0].LocalRecord(), dead}, discv5.CrawlConfig{}) {
			if _, ok := found[r.Record.ID()]; ok {
				t.Errorf("node %s comes twice", r.Record.ID())
			}
			found[r.Record.ID()] = r.Err
		}
		if err := found[dead.ID()]; !errors.Is(err, discv5.ErrTimeout) {
			t.Errorf("dead node: %v, want %v", err, discv5.ErrTimeout)
		}
		for i, other := range w.nodes[:5] {
			if err, ok := found[other.ID()]; !ok || err != nil {
				t.Errorf("node %d: found %t, %v", i, ok, err)
			}
		}
	})
}
