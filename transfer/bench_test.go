package transfer_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/muster-p2p/muster/transfer"
)

// BenchmarkTransfer moves a file of 256 MiB over loopback TCP: with all that a
// transfer does (reading, hashing twice, writing, syncing), and as a bare copy
// from a file to a file, synced too.
func BenchmarkTransfer(b *testing.B) {
	const size = 256 << 20
	from := filepath.Join(b.TempDir(), "f")
	if err := os.WriteFile(from, []byte(noise(1<<20, 1)), 0o600); err != nil {
		b.Fatal(err)
	}
	content, err := os.ReadFile(from)
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(from)
	if err != nil {
		b.Fatal(err)
	}
	for range size / len(content) {
		if _, err := f.Write(content); err != nil {
			b.Fatal(err)
		}
	}
	_ = f.Close()
	for name, move := range map[string]func(*testing.B, net.Conn, net.Conn, string, string){"transfer": moveTransfer, "copy": moveCopy} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				to := filepath.Join(b.TempDir(), "to")
				near, far := tcpPair(b)
				b.StartTimer()
				move(b, near, far, from, to)
			}
		})
	}
}

func tcpPair(b *testing.B) (near, far net.Conn) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // only a benchmark
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		b.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		b.Fatal(err)
	}
	return near, far
}

func moveTransfer(b *testing.B, near, far net.Conn, from, to string) {
	b.Helper()
	src, err := transfer.Scan(b.Context(), []string{from}, transfer.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close() //nolint:errcheck // only read
	sent := make(chan error, 1)
	go func() {
		_, err := transfer.Send(b.Context(), near, src, transfer.SendConfig{})
		_ = near.Close()
		sent <- err
	}()
	_, err = transfer.Receive(b.Context(), far, to, transfer.ReceiveConfig{})
	_ = far.Close()
	if sendErr := <-sent; err != nil || sendErr != nil {
		b.Fatal(err, sendErr)
	}
}

func moveCopy(b *testing.B, near, far net.Conn, from, to string) {
	b.Helper()
	sent := make(chan error, 1)
	go func() {
		f, err := os.Open(from)
		if err == nil {
			_, err = io.Copy(onlyWriter{near}, f) // without the kernel's short cut, which no encrypted stream has
			_ = f.Close()
		}
		_ = near.Close()
		sent <- err
	}()
	f, err := os.Create(to)
	if err == nil {
		_, err = io.CopyBuffer(onlyWriter{f}, far, make([]byte, 256<<10))
		_ = f.Sync()
		_ = f.Close()
	}
	_ = far.Close()
	if sendErr := <-sent; err != nil || sendErr != nil {
		b.Fatal(err, sendErr)
	}
}

type onlyWriter struct{ io.Writer }
