// Package balancer is a load balancer for tests of several points: a port on
// loopback behind which each connection goes to the next server that takes it.
// It hides which servers are up, as the one before a real cluster does.
package balancer

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Start balances over backends, HOST:PORT each, until the test ends, and
// returns where it listens. The end of one direction is passed on; the end of
// what the server sends ends the connection.
func Start(t testing.TB, backends ...string) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{backends: backends}
	b.wg.Go(func() { b.run(ln) })
	t.Cleanup(func() {
		_ = ln.Close()
		b.wg.Wait()
	})
	return ln.Addr().String()
}

type balancer struct {
	backends []string
	next     atomic.Uint64
	wg       sync.WaitGroup
}

func (b *balancer) run(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		b.wg.Go(func() { b.serve(c) })
	}
}

func (b *balancer) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	first := int(b.next.Add(1))
	for i := range b.backends {
		s, err := net.Dial("tcp", b.backends[(first+i)%len(b.backends)])
		if err != nil {
			continue
		}
		b.wg.Go(func() {
			_, _ = io.Copy(s, c)
			_ = s.(*net.TCPConn).CloseWrite() // as dialled
		})
		_, _ = io.Copy(c, s)
		_ = s.Close()
		return
	}
}
