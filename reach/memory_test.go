package reach

import (
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	mocknet "github.com/libp2p/go-libp2p/p2p/net/mock"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster/reach/wire"
)

// An idleStream parks and says nothing more until it is closed.
type idleStream struct {
	network.Stream
	conn   idleConn
	say    []byte
	parked func() // the point has answered
	once   sync.Once
	done   chan struct{}
}

func (s *idleStream) Read(b []byte) (int, error) {
	if len(s.say) > 0 {
		n := copy(b, s.say)
		s.say = s.say[n:]
		return n, nil
	}
	<-s.done
	return 0, io.EOF
}

func (s *idleStream) Write(b []byte) (int, error) {
	s.parked()
	return len(b), nil
}
func (s *idleStream) Close() error               { return nil }
func (s *idleStream) Scope() network.StreamScope { return &network.NullScope{} }
func (s *idleStream) Conn() network.Conn         { return s.conn }
func (s *idleStream) Reset() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

type idleConn struct {
	network.Conn
	id peer.ID
}

func (c idleConn) RemotePeer() peer.ID           { return c.id }
func (c idleConn) RemoteMultiaddr() ma.Multiaddr { return ma.StringCast("/ip4/127.0.0.1/tcp/1") }

// TestParkedMemory: a callee that waits costs a few KiB beside its connection,
// most of it the stack of the goroutine that reads.
func TestParkedMemory(t *testing.T) {
	const callees, most = 2000, 8 << 10
	mn := mocknet.New()
	h, err := mn.GenPeer()
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(h, Config{Servers: []string{"http://:8080/"}})
	if err != nil {
		t.Fatal(err)
	}
	park := wire.AppendFrame(nil, &wire.Message{Kind: wire.Park})
	var parked, handlers sync.WaitGroup
	before := inUse()
	for i := range callees {
		st := &idleStream{conn: idleConn{id: peer.ID(fmt.Sprint("callee ", i))}, say: park, done: make(chan struct{})}
		parked.Add(1)
		st.parked = sync.OnceFunc(parked.Done)
		handlers.Go(func() { s.handle(st) })
		if i%100 == 99 { // as many as ask at once
			parked.Wait()
		}
	}
	parked.Wait()
	each := (inUse() - before) / callees
	t.Logf("%d bytes for a parked callee", each)
	if n := s.Stats().Parked; n != callees {
		t.Errorf("%d parked", n)
	}
	if each > most && !raceEnabled {
		t.Errorf("%d bytes for a parked callee, want at most %d", each, most)
	}
	_ = s.Close()
	handlers.Wait()
	_ = mn.Close()
}

// inUse is what heap and stacks take.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
