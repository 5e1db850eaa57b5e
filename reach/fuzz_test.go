package reach

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	mocknet "github.com/libp2p/go-libp2p/p2p/net/mock"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster/reach/wire"
)

// A scriptStream has all that will ever be read from it, and ends then.
type scriptStream struct {
	network.Stream // nil: what is not below is not called
	in             *bytes.Reader
	out            bytes.Buffer
}

func (s *scriptStream) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *scriptStream) Write(b []byte) (int, error) { return s.out.Write(b) }
func (s *scriptStream) Close() error                { return nil }
func (s *scriptStream) CloseWrite() error           { return nil }
func (s *scriptStream) Reset() error                { return nil }
func (s *scriptStream) Scope() network.StreamScope  { return &network.NullScope{} }
func (s *scriptStream) Conn() network.Conn          { return scriptConn{} }

type scriptConn struct{ network.Conn }

func (scriptConn) RemotePeer() peer.ID           { return "client" }
func (scriptConn) RemoteMultiaddr() ma.Multiaddr { return ma.StringCast("/ip4/127.0.0.1/tcp/1") }

// FuzzServer sends bytes to a point, which must neither panic nor answer what it
// cannot read itself.
func FuzzServer(f *testing.F) {
	id, err := peer.Decode("12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf")
	if err != nil {
		f.Fatal(err)
	}
	frames := func(ms ...wire.Message) (b []byte) {
		for _, m := range ms {
			b = wire.AppendFrame(b, &m)
		}
		return b
	}
	f.Add(frames(wire.Message{Kind: wire.Park}, wire.Message{Kind: wire.Ping}, wire.Message{Kind: wire.Reply, Number: 1}))
	f.Add(frames(wire.Message{Kind: wire.Invite, Peer: id, Service: "ssh"}))
	f.Add(frames(wire.Message{Kind: wire.Reserve, Access: "sesame"}))
	f.Add(frames(wire.Message{Kind: wire.Pong}))
	mn := mocknet.New()
	h, err := mn.GenPeer()
	if err != nil {
		f.Fatal(err)
	}
	none := Rate{PerSecond: -1}
	s, err := NewServer(h, Config{
		Servers: []string{"http://:8080/"}, Limits: Limits{ParkRate: none, CallerRate: none, CalleeRate: none, SourceRate: none},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = errors.Join(s.Close(), mn.Close()) })
	f.Fuzz(func(t *testing.T, b []byte) {
		st := &scriptStream{in: bytes.NewReader(b)}
		s.handle(st)
		for r := bufio.NewReader(&st.out); ; {
			size, err := binary.ReadUvarint(r)
			if errors.Is(err, io.EOF) {
				break
			}
			frame := make([]byte, min(size, wire.MaxMessage+1))
			_, readErr := io.ReadFull(r, frame)
			var m wire.Message
			if err := errors.Join(err, readErr, wire.Parse(frame, &m)); err != nil {
				t.Fatalf("our answer %x: %v", frame, err)
			}
		}
		if st := s.Stats(); st.Parked+st.Requests != 0 || s.metrics.panics.Load() != 0 {
			t.Fatalf("left behind: %+v", st)
		}
	})
}

// FuzzMessages reads what a point sends, in pieces as they come.
func FuzzMessages(f *testing.F) {
	f.Add([]byte{2, 8, 9})
	f.Add([]byte{0xff, 0x0f})
	f.Add([]byte{0x80, 0x80, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Write(b)
			_ = theirs.Close()
		}()
		r := messageReader{r: ours}
		var m wire.Message
		for r.read(&m) == nil {
			if len(wire.Append(nil, &m)) > wire.MaxMessage {
				t.Fatalf("%+v", m)
			}
		}
		_ = ours.Close()
	})
}
