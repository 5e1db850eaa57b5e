package discv5_test

import (
	"context"
	"sync"
	"testing"

	"github.com/muster-p2p/muster/discv5"
)

// benchPair starts two nodes with a session between them.
func benchPair(b *testing.B) (client, server *discv5.Node) {
	b.Helper()
	client, server = listen(b, discv5.Config{}), listen(b, discv5.Config{})
	if _, err := client.Ping(b.Context(), server.LocalRecord()); err != nil {
		b.Fatal(err)
	}
	return client, server
}

// inFlight runs do b.N times, width at once.
func inFlight(b *testing.B, width int, do func() error) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range width {
		n := b.N / width
		if w < b.N%width {
			n++
		}
		wg.Go(func() {
			for range n {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rt/s")
}

func BenchmarkRoundTrip(b *testing.B) {
	for name, width := range map[string]int{"1": 1, "64": 64} {
		b.Run("PING/"+name, func(b *testing.B) {
			client, server := benchPair(b)
			r := server.LocalRecord()
			inFlight(b, width, func() error {
				_, err := client.Ping(context.Background(), r)
				return err
			})
		})
		b.Run("TALK/"+name, func(b *testing.B) {
			client, server := benchPair(b)
			if err := server.RegisterTalkProtocol("echo", func(_ context.Context, req discv5.TalkRequest) []byte {
				return req.Payload
			}); err != nil {
				b.Fatal(err)
			}
			r := server.LocalRecord()
			payload := make([]byte, 32)
			inFlight(b, min(width, 32), func() error {
				_, err := client.TalkRequest(context.Background(), r, "echo", payload)
				return err
			})
		})
	}
}
