package simnet_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/internal/simnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func listen(t *testing.T, h *simnet.Host, port uint16) *simnet.UDPConn {
	t.Helper()
	c, err := h.ListenUDP(port)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func send(t *testing.T, c *simnet.UDPConn, to netip.AddrPort, text string) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort([]byte(text), to); err != nil {
		t.Fatal(err)
	}
}

// want reads one datagram that must come within a minute.
func want(t *testing.T, c *simnet.UDPConn, text string) netip.AddrPort {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2048)
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatalf("got %v, want %q", err, text)
	}
	if got := string(b[:n]); got != text {
		t.Fatalf("got %q, want %q", got, text)
	}
	return from
}

func wantNothing(t *testing.T, c *simnet.UDPConn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2048)
	if n, from, err := c.ReadFromUDPAddrPort(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %q from %v (%v), want nothing", b[:n], from, err)
	}
}

func TestDatagramTakesTheLinksDelay(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := simnet.New(simnet.Config{Link: simnet.Delay(25 * time.Millisecond)})
		defer n.Close()
		a, b := listen(t, n.Host(addr("192.0.2.1")), 1), listen(t, n.Host(addr("192.0.2.2")), 2)

		start := time.Now()
		buf := []byte("one")
		if _, err := a.WriteToUDPAddrPort(buf, b.AddrPort()); err != nil {
			t.Fatal(err)
		}
		buf[0] = 'X' // the caller's again: the network has a copy
		send(t, a, b.AddrPort(), "two")
		if from := want(t, b, "one"); from != a.AddrPort() {
			t.Errorf("from %v, want %v", from, a.AddrPort())
		}
		want(t, b, "two")
		if d := time.Since(start); d != 25*time.Millisecond {
			t.Errorf("took %v, want 25ms", d)
		}
		want := simnet.Stats{Sent: 2, Bytes: 6, Delivered: 2}
		if got := n.Stats(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func TestShorterDelayOvertakes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		far := addr("192.0.2.1")
		n := simnet.New(simnet.Config{Link: func(from, _ netip.Addr) simnet.Link {
			if from == far {
				return simnet.Link{Latency: 100 * time.Millisecond}
			}
			return simnet.Link{Latency: 10 * time.Millisecond}
		}})
		defer n.Close()
		a, b, c := listen(t, n.Host(far), 1), listen(t, n.Host(addr("192.0.2.2")), 1), listen(t, n.Host(addr("192.0.2.3")), 1)
		send(t, a, c.AddrPort(), "slow")
		send(t, b, c.AddrPort(), "fast")
		want(t, c, "fast")
		want(t, c, "slow")
	})
}

// fates tells which of 2000 datagrams over a bad link came, in which order.
func fates(t *testing.T, seed uint64) []string {
	var got []string
	bubble.Test(t, func(t *testing.T) {
		n := simnet.New(simnet.Config{Seed: seed, Queue: 10_000, Link: simnet.Same(simnet.Link{
			Latency: time.Millisecond, Jitter: time.Second, Loss: 0.25, Duplicate: 0.1,
		})})
		defer n.Close()
		a, b := listen(t, n.Host(addr("192.0.2.1")), 1), listen(t, n.Host(addr("192.0.2.2")), 1)
		for i := range 2000 {
			send(t, a, b.AddrPort(), fmt.Sprint(i))
		}
		time.Sleep(2 * time.Second)
		for range n.Stats().Delivered {
			buf := make([]byte, 16)
			k, _, err := b.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(buf[:k]))
		}
		lost := n.Stats().Lost
		if lost < 400 || lost > 600 {
			t.Errorf("lost %d of 2000, want about 500", lost)
		}
		if double := len(got) + int(lost) - 2000; double < 100 || double > 200 {
			t.Errorf("%d came twice, want about 150", double)
		}
	})
	if slices.IsSorted(got) {
		t.Error("nothing was reordered")
	}
	return got
}

func TestFateFollowsTheSeed(t *testing.T) {
	one, again, other := fates(t, 7), fates(t, 7), fates(t, 8)
	if !slices.Equal(one, again) {
		t.Error("the same seed gave another run")
	}
	if slices.Equal(one, other) {
		t.Error("another seed gave the same run")
	}
}

func TestPartitionAndHealing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := simnet.New(simnet.Config{})
		defer n.Close()
		a, b, c := listen(t, n.Host(addr("192.0.2.1")), 1), listen(t, n.Host(addr("192.0.2.2")), 1), listen(t, n.Host(addr("198.51.100.1")), 1)
		west := netip.MustParsePrefix("192.0.2.0/24")
		n.SetLink(simnet.Partition(simnet.Delay(time.Millisecond), west.Contains))
		send(t, a, b.AddrPort(), "same side")
		send(t, a, c.AddrPort(), "lost")
		want(t, b, "same side")
		wantNothing(t, c)
		n.SetLink(nil)
		send(t, a, c.AddrPort(), "healed")
		want(t, c, "healed")
	})
}

func TestQueueIsBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := simnet.New(simnet.Config{Queue: 3})
		defer n.Close()
		a, b := listen(t, n.Host(addr("192.0.2.1")), 1), listen(t, n.Host(addr("192.0.2.2")), 1)
		for i := range 5 {
			send(t, a, b.AddrPort(), fmt.Sprint(i))
		}
		synctest.Wait()
		for i := range 3 {
			want(t, b, fmt.Sprint(i))
		}
		wantNothing(t, b)
		if got := n.Stats().Overflow; got != 2 {
			t.Errorf("overflow %d, want 2", got)
		}
	})
}

func TestSpoofedSource(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := simnet.New(simnet.Config{})
		defer n.Close()
		victim, b := listen(t, n.Host(addr("192.0.2.1")), 1), listen(t, n.Host(addr("192.0.2.2")), 1)
		n.Inject(victim.AddrPort(), b.AddrPort(), []byte("junk"))
		from := want(t, b, "junk")
		send(t, b, from, "answer")
		want(t, victim, "answer")
	})
}

func TestTapSeesAndDrops(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := simnet.New(simnet.Config{Tap: func(d simnet.Datagram) simnet.Fate {
			if string(d.Payload) == "bad" {
				return simnet.Drop
			}
			return simnet.Pass
		}})
		defer n.Close()
		a, b := listen(t, n.Host(addr("192.0.2.1")), 1), listen(t, n.Host(addr("192.0.2.2")), 1)
		send(t, a, b.AddrPort(), "bad")
		send(t, a, b.AddrPort(), "good")
		want(t, b, "good")
		wantNothing(t, b)
	})
}

func TestSocketContract(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := simnet.New(simnet.Config{})
		h := n.Host(addr("192.0.2.1"), addr("2001:db8::1"))
		c := listen(t, h, 30303)
		if _, err := h.ListenUDP(30303); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("second socket on a port: %v", err)
		}
		d := listen(t, h, 0)
		if p := d.AddrPort().Port(); p < 49152 {
			t.Errorf("free port %d is not a dynamic one", p)
		}
		send(t, d, ap("192.0.2.1:30303"), "to itself")
		want(t, c, "to itself")
		send(t, d, ap("[2001:db8::1]:30303"), "over IPv6")
		if from := want(t, c, "over IPv6"); from.Addr() != addr("2001:db8::1") {
			t.Errorf("from %v", from)
		}
		if _, err := d.WriteToUDPAddrPort(make([]byte, 65508), c.AddrPort()); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("too long: %v", err)
		}
		if _, err := d.WriteToUDPAddrPort(nil, netip.AddrPort{}); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("to nowhere: %v", err)
		}
		if _, err := d.WriteTo([]byte("net.Addr"), c.LocalAddr()); err != nil {
			t.Error(err)
		}
		b := make([]byte, 3) // cut off, as the kernel does
		if k, from, err := c.ReadFrom(b); k != 3 || err != nil || from.String() != d.LocalAddr().String() {
			t.Errorf("got %d bytes from %v (%v)", k, from, err)
		}

		freed := make(chan error)
		go func() { _, _, err := c.ReadFromUDPAddrPort(b); freed <- err }()
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := <-freed; !errors.Is(err, net.ErrClosed) {
			t.Errorf("reader freed with %v", err)
		}
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
		listen(t, h, 30303) // the port is free again

		n.Close()
		n.Close()
		if _, err := d.WriteToUDPAddrPort(nil, c.AddrPort()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after Net.Close: %v", err)
		}
		if _, err := h.ListenUDP(0); !errors.Is(err, net.ErrClosed) {
			t.Errorf("listen after Net.Close: %v", err)
		}
	})
}

func TestHostLeaves(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := simnet.New(simnet.Config{})
		defer n.Close()
		h := n.Host(addr("192.0.2.1"))
		a, b := listen(t, h, 1), listen(t, n.Host(addr("192.0.2.2")), 1)
		h.Leave()
		if _, err := a.WriteTo(nil, b.LocalAddr()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after it left: %v", err)
		}
		again := listen(t, n.Host(addr("192.0.2.1")), 1)
		send(t, b, again.AddrPort(), "newcomer")
		want(t, again, "newcomer")
	})
}

func TestReadDeadlineMoves(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := simnet.New(simnet.Config{})
		defer n.Close()
		c := listen(t, n.Host(addr("192.0.2.1")), 1)
		read := func() error { _, _, err := c.ReadFromUDPAddrPort(make([]byte, 1)); return err }

		start := time.Now()
		_ = c.SetDeadline(start.Add(time.Second))
		moved := make(chan error)
		go func() { moved <- read() }()
		synctest.Wait()
		_ = c.SetReadDeadline(start.Add(3 * time.Second)) // while somebody waits
		if err := <-moved; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %v, want a timeout after 3s", err, time.Since(start))
		}
		if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a passed deadline stays passed: %v", err)
		}
		_ = c.SetReadDeadline(time.Time{})
		send(t, c, c.AddrPort(), "x")
		if err := read(); err != nil {
			t.Errorf("deadline taken back: %v", err)
		}
	})
}

func TestTwoReadersShareAQueue(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := simnet.New(simnet.Config{})
		defer n.Close()
		c := listen(t, n.Host(addr("192.0.2.1")), 1)
		for range 100 {
			send(t, c, c.AddrPort(), "x")
		}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for range 50 {
					if _, _, err := c.ReadFromUDPAddrPort(make([]byte, 1)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	})
}

// Thousands of sockets, each heard by the next: the clock of a bubble must
// not be held up by any of them.
func TestThousandsOfNodes(t *testing.T) {
	nodes := 5000
	if testing.Short() {
		nodes = 1000
	}
	bubble.Test(t, func(t *testing.T) {
		n := simnet.New(simnet.Config{Link: simnet.Delay(25 * time.Millisecond)})
		conns := make([]*simnet.UDPConn, nodes)
		for i := range conns {
			conns[i] = listen(t, n.Host(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})), 30303)
		}
		var wg sync.WaitGroup
		for i, c := range conns {
			next := conns[(i+1)%nodes].AddrPort()
			wg.Go(func() {
				b := make([]byte, 8)
				for {
					k, _, err := c.ReadFromUDPAddrPort(b)
					if err != nil {
						return
					}
					_, _ = c.WriteToUDPAddrPort(b[:k], next)
				}
			})
		}
		start := time.Now()
		for i := range 100 {
			send(t, conns[i], conns[i+1].AddrPort(), "pass on")
		}
		time.Sleep(10*time.Second + time.Millisecond) // 400 delays, and a moment for the last
		got := n.Stats().Delivered
		n.Close()
		wg.Wait()
		if want := uint64(100 * 400); got != want {
			t.Errorf("delivered %d in %v, want %d", got, time.Since(start), want)
		}
	})
}

func TestRealTime(t *testing.T) {
	n := simnet.New(simnet.Config{Link: simnet.Delay(time.Millisecond)})
	defer n.Close()
	a, b := listen(t, n.Host(addr("192.0.2.1")), 1), listen(t, n.Host(addr("192.0.2.2")), 1)
	send(t, a, b.AddrPort(), "hello")
	want(t, b, "hello")
}
