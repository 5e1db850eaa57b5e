package discv5_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/enr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}

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

func TestBootstrap(t *testing.T) {
	boot := listen(t, discv5.Config{})
	var nodes []*discv5.Node
	for range 8 {
		nodes = append(nodes, listen(t, discv5.Config{Bootnodes: []*enr.Record{boot.LocalRecord()}}))
	}
	last := nodes[len(nodes)-1]
	for _, n := range nodes[:4] {
		// The table fills by and by; Resolve looks until the node is found.
		for t.Context().Err() == nil {
			r, err := n.Resolve(t.Context(), last.ID())
			if err != nil {
				t.Fatal(err)
			}
			if r != nil {
				break
			}
		}
	}
}
