package balancer_test

import (
	"io"
	"net"
	"testing"

	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/internal/balancer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Each connection goes to the next server, past one that is down, and both
// directions pass.
func TestBalances(t *testing.T) {
	var addrs []string
	for _, name := range []string{"a", "b", "down"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, ln.Addr().String())
		if name == "down" {
			_ = ln.Close() // nobody listens there
			continue
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, name)
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}
		}()
		t.Cleanup(func() { _ = ln.Close(); <-done })
	}
	at := balancer.Start(t, addrs...)
	seen := map[string]int{}
	for range 6 {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "hi")
		_ = c.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(c)
		if err != nil {
			t.Error(err)
		}
		_ = c.Close()
		seen[string(got)]++
	}
	if seen["ahi"] < 2 || seen["bhi"] < 2 || seen["ahi"]+seen["bhi"] != 6 {
		t.Errorf("served by %v", seen)
	}
}
