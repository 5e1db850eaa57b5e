package link_test

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/muster-p2p/muster/link"
)

// TestFirstByteOnLoopback: from Dial to the first byte at the peer, through a
// server, in at most 50 ms, the best of a few; or, where the machine has so much
// other work, in the time of a few handshakes of TLS.
func TestFirstByteOnLoopback(t *testing.T) {
	server := newServer(t)
	a, b := newEndpoint(t, link.Config{}), newEndpoint(t, link.Config{})
	m := link.Meeting{Servers: []string{server}, Token: "first-byte"}
	var took []time.Duration
	for range 5 {
		first := make(chan time.Time, 1)
		go func() {
			c, err := b.Accept(t.Context(), m, nil)
			if err != nil {
				t.Error(err)
				close(first)
				return
			}
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Error(err)
			}
			first <- time.Now()
			c.Close() //nolint:errcheck // the other side has what it wanted
		}()
		time.Sleep(20 * time.Millisecond) // the acceptor waits at the server
		start := time.Now()
		c, err := a.Dial(t.Context(), b.ID(), m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		took = append(took, (<-first).Sub(start))
		c.Close() //nolint:errcheck // done
	}
	t.Logf("first byte after %v", took)
	if best := slices.Min(took); best > 50*time.Millisecond {
		const some = 10 // one for TLS, one for three connections, and a link's goroutines
		var yardstick time.Duration
		for range some {
			start := time.Now()
			plainTLS(t)
			yardstick += time.Since(start)
		}
		if t.Logf("%d handshakes take %v", some, yardstick); best > yardstick {
			t.Errorf("first byte after %v at best", best)
		}
	}
}

// TestIdleMemory: what a link costs that is idle, with its two paths, beyond
// what two connections of TLS cost.
func TestIdleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 100 links; -short asks for less")
	}
	const n = 50
	live := func() uint64 {
		for range 3 {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := live()
	for range n {
		a, b := plainTLS(t)
		chat(t, a, b)
		defer runtime.KeepAlive(a)
		defer runtime.KeepAlive(b)
	}
	plain := (live() - before) / (2 * n) // each end is one
	server := newServer(t)
	a, b := newEndpoint(t, link.Config{}), newEndpoint(t, link.Config{})
	before = live()
	var links []*link.Conn
	for range n {
		x, y := pair(t, a, b, server)
		for _, c := range []*link.Conn{x, y} {
			awaitDirect(t, c)
		}
		chat(t, x, y)
		links = append(links, x, y)
	}
	each := (live() - before) / (2 * n)
	relay := uint64(26 << 10) // the relay's part of a pair is in this process, too
	t.Logf("a connection of TLS costs %d bytes, an end of a link with two paths %d, with half of the server's pair", plain, each)
	if over := int64(each) - int64(2*plain) - int64(relay); over > 64<<10 {
		t.Errorf("an idle link costs %d bytes beyond its TLS", over)
	}
	for _, c := range links {
		c.Abort("the test is over")
	}
}

func awaitDirect(t testing.TB, c *link.Conn) {
	t.Helper()
	for ev := range c.Events() {
		if ev.Kind == link.Switched && ev.Path.Kind == link.Direct {
			return
		}
	}
	t.Fatal("no direct path")
}

// chat sends 100,000 bytes each way.
func chat(t testing.TB, a, b io.ReadWriter) {
	t.Helper()
	data := bytes.Repeat([]byte("muster "), 100_000/7)
	for _, c := range [][2]io.ReadWriter{{a, b}, {b, a}} {
		sent := make(chan error, 1)
		go func() {
			_, err := c[0].Write(data)
			sent <- err
		}()
		got := make([]byte, len(data))
		if _, err := io.ReadFull(c[1], got); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("read: %v", err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
}

// TestDeadlines: waiting ends in time, and the link goes on.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	a, b := pair(t, newEndpoint(t, link.Config{Paths: link.RelayOnly}), newEndpoint(t, link.Config{}), newServer(t))
	if err := a.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	isTimeout := func(err error) bool {
		timeout, ok := err.(interface{ Timeout() bool })
		return ok && timeout.Timeout()
	}
	if _, err := a.Read(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("read: %v", err)
	}
	if err := a.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 8<<20) // nobody reads
	n, err := a.Write(big)
	if !isTimeout(err) || n == 0 || n == len(big) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if err := a.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); err != nil || len(got) != n {
		t.Errorf("read %d of %d, %v", len(got), n, err)
	}
	chatBack(t, b, a)
}

func chatBack(t testing.TB, from, to *link.Conn) {
	t.Helper()
	if _, err := from.Write([]byte("bye")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 3)
	if _, err := io.ReadFull(to, got); err != nil || string(got) != "bye" {
		t.Errorf("%q, %v", got, err)
	}
	if err := from.Close(); err != nil {
		t.Error(err)
	}
	if n, err := to.Read(got); n != 0 || err != io.EOF { //nolint:errorlint // the contract of io.Reader
		t.Errorf("after the end: %d, %v", n, err)
	}
	to.Close() //nolint:errcheck // the peer has closed
}

// TestDirectOnly: nothing goes through the server.
func TestDirectOnly(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	for _, c := range []struct {
		name string
		a, b link.Paths
	}{{"dialer", link.DirectOnly, link.Auto}, {"acceptor", link.Auto, link.DirectOnly}, {"both", link.DirectOnly, link.DirectOnly}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := pairAt(t, newEndpoint(t, link.Config{Paths: c.a}), newEndpoint(t, link.Config{Paths: c.b}), "direct-only-"+c.name, server)
			exchange(t, a, b, 300_000)
			if s := a.Stats(); s.RelaySent != 0 || s.RelayReceived != 0 {
				t.Errorf("%+v", s)
			}
			a.Close() //nolint:errcheck // done
			b.Close() //nolint:errcheck // done
		})
	}
	t.Run("impossible", func(t *testing.T) {
		t.Parallel()
		a, b := newEndpoint(t, link.Config{Paths: link.DirectOnly}), newEndpoint(t, link.Config{Paths: link.RelayOnly})
		m := link.Meeting{Servers: []string{server}, Token: "impossible"}
		accepts(t, b, m, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := a.Dial(ctx, b.ID(), m); err == nil {
			t.Error("connected")
		} else {
			t.Log(err)
		}
	})
}
