package link_test

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"

	"github.com/muster-p2p/muster/link"
)

// plainTLS returns the two ends of a connection of TLS 1.3 over loopback, with
// the certificates of links.
func plainTLS(tb testing.TB) (a, b net.Conn) {
	tb.Helper()
	id, err := libp2ptls.NewIdentity(newKey(tb))
	if err != nil {
		tb.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close() //nolint:errcheck // one connection
	server := make(chan net.Conn, 1)
	go func() {
		raw, err := ln.Accept()
		if err != nil {
			tb.Error(err)
			close(server)
			return
		}
		cfg, _ := id.ConfigForPeer("")
		t := tls.Server(raw, cfg)
		if err := t.Handshake(); err != nil {
			tb.Error(err)
		}
		server <- t
	}()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	cfg, _ := id.ConfigForPeer("")
	t := tls.Client(raw, cfg)
	if err := t.Handshake(); err != nil {
		tb.Fatal(err)
	}
	b = <-server
	tb.Cleanup(func() {
		raw.Close() //nolint:errcheck // the benchmark is over
		b.Close()   //nolint:errcheck // the benchmark is over
	})
	return t, b
}

// directPair returns the two ends of a link that runs directly.
func directPair(tb testing.TB) (dial, accept *link.Conn) {
	tb.Helper()
	dial, accept = pair(tb, newEndpoint(tb, link.Config{}), newEndpoint(tb, link.Config{}), newServer(tb))
	for _, c := range []*link.Conn{dial, accept} {
		for ev := range c.Events() {
			if ev.Kind == link.Switched && ev.Path.Kind == link.Direct {
				break
			}
		}
		tb.Cleanup(func() { c.Abort("the test is over") })
	}
	return dial, accept
}

const benchWrite = 128 << 10

func throughput(b *testing.B, w io.Writer, r io.Reader) {
	b.Helper()
	buf := make([]byte, benchWrite)
	b.SetBytes(benchWrite)
	b.ReportAllocs()
	read := make(chan int64, 1)
	stop := make(chan struct{})
	go func() {
		sink := make([]byte, benchWrite)
		var sum int64
		for {
			n, err := r.Read(sink)
			sum += int64(n)
			if err != nil {
				break
			}
			select {
			case <-stop:
			default:
			}
		}
		read <- sum
	}()
	for b.Loop() {
		if _, err := w.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	close(stop)
}

func BenchmarkThroughput(b *testing.B) {
	b.Run("tls", func(b *testing.B) {
		w, r := plainTLS(b)
		throughput(b, w, r)
	})
	b.Run("link", func(b *testing.B) {
		w, r := directPair(b)
		throughput(b, w, r)
	})
}

// BenchmarkRatio moves the same bytes over TLS and over a link in turns, so
// that other work on the machine hits both, and reports the link's throughput
// as a part of that of TLS, by the clock and by
// the time of the processor.
func BenchmarkRatio(b *testing.B) {
	tw, tr := plainTLS(b)
	lw, lr := directPair(b)
	buf, sink := make([]byte, 16<<20), make([]byte, 128<<10)
	move := func(w io.Writer, r io.Reader) time.Duration {
		start := time.Now()
		done := make(chan error, 1)
		go func() {
			_, err := w.Write(buf)
			done <- err
		}()
		for n := 0; n < len(buf); {
			m, err := r.Read(sink)
			if err != nil {
				b.Fatal(err)
			}
			n += m
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	var plain, ours, plainCPU, oursCPU time.Duration
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		start := cpuTime()
		plain += move(tw, tr)
		between := cpuTime()
		ours += move(lw, lr)
		plainCPU += between - start
		oursCPU += cpuTime() - between
	}
	b.ReportMetric(float64(plainCPU)/float64(oursCPU), "of-tls-cpu")
	b.ReportMetric(float64(plain)/float64(ours), "of-tls")
	b.ReportMetric(float64(len(buf))*float64(b.N)/ours.Seconds()/1e6, "link-MB/s")
}
