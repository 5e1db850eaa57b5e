package rendezvous

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	mocknet "github.com/libp2p/go-libp2p/p2p/net/mock"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/rendezvous/wire"
)

// A pipeStream is a stream on a pipe, which knows deadlines and virtual time.
type pipeStream struct {
	network.Stream // nil: what is not below is not called
	net.Conn
	conn  pipeConn
	reset atomic.Bool
}

func (s *pipeStream) Read(b []byte) (int, error)         { return s.Conn.Read(b) }
func (s *pipeStream) Write(b []byte) (int, error)        { return s.Conn.Write(b) }
func (s *pipeStream) Close() error                       { return s.Conn.Close() }
func (s *pipeStream) SetDeadline(t time.Time) error      { return s.Conn.SetDeadline(t) }
func (s *pipeStream) SetReadDeadline(t time.Time) error  { return s.Conn.SetReadDeadline(t) }
func (s *pipeStream) SetWriteDeadline(t time.Time) error { return s.Conn.SetWriteDeadline(t) }
func (s *pipeStream) Scope() network.StreamScope         { return &network.NullScope{} }

func (s *pipeStream) Reset() error {
	s.reset.Store(true)
	return s.Conn.Close()
}

type pipeConn struct {
	network.Conn
	peer   peer.ID
	remote ma.Multiaddr
}

func (c *pipeConn) RemotePeer() peer.ID           { return c.peer }
func (c *pipeConn) RemoteMultiaddr() ma.Multiaddr { return c.remote }

// withConn makes pipeStream a network.Stream in full.
type withConn struct{ *pipeStream }

func (s withConn) Conn() network.Conn { return &s.conn }

// A testSession is a point and the client's end of a stream to it.
type testSession struct {
	t      *testing.T
	p      *Point
	stream *pipeStream
	c      net.Conn
	r      *bufio.Reader
	start  time.Time
	done   chan struct{} // closed when the point is done with the stream
}

// withSession runs f in a bubble with a stream from the given address.
func withSession(t *testing.T, cfg Config, from string, f func(s *testSession)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		mn := mocknet.New()
		h, err := mn.GenPeer()
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPoint(h, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Peerstore().Put("client", "AgentVersion", "test"); err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		s := &testSession{t: t, p: p, c: theirs, r: bufio.NewReader(theirs), start: time.Now(), done: make(chan struct{})}
		s.stream = &pipeStream{Conn: ours, conn: pipeConn{peer: "client", remote: ma.StringCast(from)}}
		go func() {
			defer close(s.done)
			p.handle(withConn{s.stream}, wire.Libp2p)
		}()
		f(s)
		_ = theirs.Close()
		<-s.done
		if err := errors.Join(p.Close(), mn.Close()); err != nil {
			t.Error(err)
		}
	})
}

func (s *testSession) discover() wire.Message {
	s.t.Helper()
	if _, err := s.c.Write(wire.AppendFrame(nil, wire.Libp2p, &wire.Message{Kind: wire.Discover, NS: "lab"})); err != nil {
		s.t.Fatal(err)
	}
	b, err := readFrame(s.r, nil, MaxAnswer)
	if err != nil {
		s.t.Fatal(err)
	}
	var m wire.Message
	if err := wire.Parse(wire.Libp2p, b, &m, 10); err != nil {
		s.t.Fatal(err)
	}
	return m
}

// wantEnd wants the stream to end at the given time since its start.
func (s *testSession) wantEnd(at time.Duration, reset bool) {
	s.t.Helper()
	<-s.done
	if got := time.Since(s.start); got != at || s.stream.reset.Load() != reset {
		s.t.Errorf("ended after %v, reset %v; want %v, %v", got, s.stream.reset.Load(), at, reset)
	}
}

func TestDeadlines(t *testing.T) {
	const from = "/ip4/192.0.2.1/tcp/1"
	t.Run("nothing comes", func(t *testing.T) {
		withSession(t, Config{}, from, func(s *testSession) { s.wantEnd(FirstDeadline, true) })
	})
	t.Run("idle after a request", func(t *testing.T) {
		withSession(t, Config{}, from, func(s *testSession) {
			s.discover()
			s.wantEnd(IdleDeadline, false)
		})
	})
	t.Run("a request byte by byte", func(t *testing.T) {
		withSession(t, Config{}, from, func(s *testSession) {
			s.discover()
			time.Sleep(30 * time.Second)
			for range 100 { // each byte in time, and never done
				if _, err := s.c.Write([]byte{0xff}); err != nil {
					break
				}
				if _, err := s.c.Write([]byte{0x01}); err != nil {
					break
				}
				time.Sleep(3 * time.Second)
			}
			<-s.done
			if got := time.Since(s.start); got > 30*time.Second+FirstDeadline+3*time.Second {
				t.Errorf("ended after %v", got)
			}
		})
	})
	t.Run("the answer is not read", func(t *testing.T) {
		withSession(t, Config{}, from, func(s *testSession) {
			if _, err := s.c.Write(wire.AppendFrame(nil, wire.Libp2p, &wire.Message{Kind: wire.Discover, NS: "lab"})); err != nil {
				t.Fatal(err)
			}
			s.wantEnd(WriteDeadline, true)
		})
	})
	t.Run("busy for an hour", func(t *testing.T) {
		withSession(t, Config{}, from, func(s *testSession) {
			for range 60 {
				if m := s.discover(); m.Status != wire.OK {
					t.Error(m.Status)
				}
				time.Sleep(59 * time.Second)
			}
		})
	})
	t.Run("ended by the client", func(t *testing.T) {
		withSession(t, Config{}, from, func(s *testSession) {
			s.discover()
			_ = s.c.Close()
			s.wantEnd(0, false)
		})
	})
}

// The source of a stream decides under what it is counted.
func TestSource(t *testing.T) {
	relay := "/p2p/12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf/p2p-circuit"
	for _, tt := range []struct {
		addr, want string
		local      bool
	}{
		{"/ip4/192.0.2.1/tcp/1", "192.0.2.1", false},
		{"/ip6/2001:db8:1:2:3:4:5:6/tcp/1", "2001:db8:1:2::", false},
		{"/ip6/::ffff:192.0.2.1/tcp/1", "192.0.2.1", false},
		{"/ip4/127.0.0.1/tcp/1", "", true},
		{"/ip6/::1/tcp/1", "", true},
		{"/ip4/127.0.0.2/tcp/1", "127.0.0.2", false},
		{"/ip4/192.0.2.1/tcp/1" + relay, "", false},
		{"/dns4/example.org/tcp/1", "", false},
	} {
		s := withConn{&pipeStream{conn: pipeConn{peer: "p", remote: ma.StringCast(tt.addr)}}}
		x := newSession(&Point{}, s, wire.Libp2p)
		got := ""
		if x.source.IsValid() {
			got = x.source.String()
		}
		if got != tt.want || x.local != tt.local {
			t.Errorf("%s: %q, local %v", tt.addr, got, x.local)
		}
	}
}

// FuzzSession sends bytes to a point, which must neither panic nor answer what
// it cannot read itself.
func FuzzSession(f *testing.F) {
	f.Add(wire.AppendFrame(nil, wire.Libp2p, &wire.Message{Kind: wire.Discover, NS: "lab"}))
	f.Add(wire.AppendFrame(nil, wire.Libp2p, &wire.Message{Kind: wire.Register, NS: "lab", Record: []byte{1}}))
	f.Add(wire.AppendFrame(wire.AppendFrame(nil, wire.Libp2p, &wire.Message{Kind: wire.Unregister}), wire.Libp2p, &wire.Message{Kind: wire.Discover, NS: "x"}))
	mn := mocknet.New()
	h, err := mn.GenPeer()
	if err != nil {
		f.Fatal(err)
	}
	if err := h.Peerstore().Put("client", "AgentVersion", "test"); err != nil {
		f.Fatal(err)
	}
	p, err := NewPoint(h, Config{LegacyPeerInfo: true, Waku: true, DiscoverAll: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = errors.Join(p.Close(), mn.Close()) })
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, d := range []wire.Dialect{wire.Libp2p, wire.Waku} {
			c := &scriptConn{in: bytes.NewReader(b)}
			p.handle(withConn{&pipeStream{Conn: c, conn: pipeConn{peer: "client", remote: ma.StringCast("/ip4/127.0.0.1/tcp/1")}}}, d)
			for r := bufio.NewReader(&c.out); ; {
				frame, err := readFrame(r, nil, MaxAnswer)
				if errors.Is(err, io.EOF) {
					break
				}
				var m wire.Message
				if err = errors.Join(err, wire.Parse(d, frame, &m, 1000)); err != nil {
					t.Fatalf("our answer %x: %v", frame, err)
				}
			}
		}
	})
}

// A scriptConn has all that will ever be read from it, and ends then.
type scriptConn struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (c *scriptConn) Read(b []byte) (int, error)       { return c.in.Read(b) }
func (c *scriptConn) Write(b []byte) (int, error)      { return c.out.Write(b) }
func (c *scriptConn) Close() error                     { return nil }
func (c *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }
