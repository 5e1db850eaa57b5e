package discv5_test

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/internal/secp"
)

// A datagram on its way to or from the node under test.
type datagram struct {
	addr netip.AddrPort // of the other side
	b    []byte
}

// A tapConn is a socket whose other end is the test. It is made of channels,
// so that a synctest bubble sees a node that waits for it.
type tapConn struct {
	addr   netip.AddrPort
	in     chan datagram
	out    chan datagram
	closed chan struct{}
	once   sync.Once
}

func newTapConn(addr string) *tapConn {
	return &tapConn{
		addr: netip.MustParseAddrPort(addr),
		in:   make(chan datagram), out: make(chan datagram, 1<<16), closed: make(chan struct{}),
	}
}

func (c *tapConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-c.in:
		return copy(b, d.b), d.addr, nil
	case <-c.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (c *tapConn) WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error) {
	select {
	case c.out <- datagram{addr, bytes.Clone(b)}:
		return len(b), nil
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *tapConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.addr) }

func (c *tapConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// A rig is a node under test on a tapped socket, in a bubble.
type rig struct {
	t    *testing.T
	node *discv5.Node
	conn *tapConn
}

// inBubble runs f in a bubble with a node at 203.0.113.1:9000.
func inBubble(t *testing.T, cfg discv5.Config, f func(*rig)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		conn := newTapConn("203.0.113.1:9000")
		cfg.Conns = []discv5.PacketConn{conn}
		r := &rig{t: t, node: listen(t, cfg), conn: conn}
		synctest.Wait()
		f(r)
	})
}

// deliver hands the node a packet from addr and waits until it has been
// processed.
func (r *rig) deliver(addr netip.AddrPort, b []byte) {
	r.t.Helper()
	r.conn.in <- datagram{addr, bytes.Clone(b)}
	synctest.Wait()
}

// sent returns what the node has sent and not been looked at yet.
func (r *rig) sent() []datagram {
	synctest.Wait()
	var out []datagram
	for {
		select {
		case d := <-r.conn.out:
			out = append(out, d)
		default:
			return out
		}
	}
}

// wantIdle fails if the node has sent anything.
func (r *rig) wantIdle(why string) {
	r.t.Helper()
	if got := r.sent(); len(got) != 0 {
		r.t.Errorf("%s: the node sent %d packets, want silence", why, len(got))
	}
}

// A peer is another node, played by the test packet by packet.
type peer struct {
	*rig
	key         *enr.PrivateKey
	id          enr.ID
	addr        netip.AddrPort
	record      *enr.Record
	codec       *wire.Codec
	mask        cipher.Block
	read, write cipher.AEAD
	nonces      uint32
}

// newPeer makes a peer at addr with a record that says so.
func (r *rig) newPeer(addr string) *peer {
	r.t.Helper()
	key, err := enr.GenerateKey()
	if err != nil {
		r.t.Fatal(err)
	}
	return r.newPeerWithKey(addr, key)
}

func (r *rig) newPeerWithKey(addr string, key *enr.PrivateKey) *peer {
	r.t.Helper()
	p := &peer{
		rig: r, key: key, id: key.Public().NodeID(), addr: netip.MustParseAddrPort(addr),
		mask: wire.NewMask(r.node.ID()),
	}
	p.codec = wire.NewCodec(p.id)
	p.setRecord(1, p.addr)
	return p
}

func (p *peer) setRecord(seq uint64, addr netip.AddrPort) {
	p.t.Helper()
	c := enr.Content{Seq: seq}
	c.SetUDPEndpoint(addr)
	var err error
	if p.record, err = c.Sign(p.key); err != nil {
		p.t.Fatal(err)
	}
}

func random16() (v [16]byte) {
	_, _ = rand.Read(v[:])
	return v
}

func randomNonce() (v wire.Nonce) {
	_, _ = rand.Read(v[:])
	return v
}

func (p *peer) nonce() wire.Nonce {
	p.nonces++
	n := randomNonce()
	n[0], n[1], n[2], n[3] = byte(p.nonces>>24), byte(p.nonces>>16), byte(p.nonces>>8), byte(p.nonces)
	return n
}

// random returns a packet that nobody can decrypt.
func (p *peer) random() (packet []byte, nonce wire.Nonce) {
	nonce = p.nonce()
	return p.codec.AppendRandom(nil, p.mask, random16(), nonce, make([]byte, 44)), nonce
}

// message returns an ordinary message packet under the session.
func (p *peer) message(m wire.Message) []byte {
	p.t.Helper()
	b, err := p.codec.AppendMessage(nil, p.mask, random16(), p.nonce(), p.write, &m)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// handshake returns the handshake packet that answers a challenge, and takes
// its keys. edit may spoil it before it is signed.
func (p *peer) handshake(ch wire.Challenge, record []byte, m wire.Message) []byte {
	p.t.Helper()
	eph, err := secp.GenerateKey()
	if err != nil {
		p.t.Fatal(err)
	}
	node := p.node.LocalRecord()
	keys := wire.DeriveKeys(eph.SharedPoint(node.PublicKey()), p.id, node.ID(), &ch)
	p.write, p.read = wire.NewAEAD(keys.Initiator), wire.NewAEAD(keys.Recipient)
	sig := p.key.Sign(wire.IDProof(&ch, eph.Public().Compressed(), node.ID()))
	b, err := p.codec.AppendHandshake(nil, p.mask, random16(), p.nonce(), p.write, sig, eph.Public().Compressed(), record, &m)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// A received packet, unmasked, with its message if it could be decrypted.
type received struct {
	wire.Header
	packet []byte
	msg    *wire.Message
}

// parse reads a packet that the node sent to p.
func (p *peer) parse(d datagram) received {
	p.t.Helper()
	r := received{packet: d.b}
	enc, err := p.codec.Unmask(d.b, &r.Header)
	if err != nil {
		p.t.Fatalf("the node sent a packet that cannot be read: %v", err)
	}
	if r.Flag == wire.FlagWhoareyou || p.read == nil {
		return r
	}
	pt, err := p.codec.Open(p.read, &r.Header, d.b, enc)
	if err != nil {
		return r
	}
	r.msg = new(wire.Message)
	if err := r.msg.Decode(bytes.Clone(pt)); err != nil {
		p.t.Fatalf("the node sent a message that cannot be read: %v", err)
	}
	return r
}

// received returns what the node has sent to p's address, and forgets what it
// has sent to others.
func (p *peer) received() []received {
	p.t.Helper()
	var out []received
	for _, d := range p.sent() {
		if d.addr == p.addr {
			out = append(out, p.parse(d))
		}
	}
	return out
}

// wantWhoareyou returns the one challenge that the node has sent to p.
func (p *peer) wantWhoareyou() (received, wire.Challenge) {
	p.t.Helper()
	got := p.received()
	if len(got) != 1 || got[0].Flag != wire.FlagWhoareyou {
		p.t.Fatalf("got %d packets, want one WHOAREYOU", len(got))
	}
	return got[0], wire.ChallengeOf(got[0].packet)
}

// wantMessages returns the messages that the node has sent to p, which must
// be of this kind and at least one.
func (p *peer) wantMessages(kind wire.Kind) []*wire.Message {
	p.t.Helper()
	var out []*wire.Message
	for _, r := range p.received() {
		if r.msg == nil || r.msg.Kind != kind {
			p.t.Fatalf("got a %s packet with message %+v, want %s", r.Flag, r.msg, kind)
		}
		out = append(out, r.msg)
	}
	if len(out) == 0 {
		p.t.Fatalf("got nothing, want %s", kind)
	}
	return out
}

// connect makes a session by p's initiative.
func (p *peer) connect() {
	p.t.Helper()
	p.sent()
	b, _ := p.random()
	p.deliver(p.addr, b)
	_, ch := p.wantWhoareyou()
	p.deliver(p.addr, p.handshake(ch, p.record.Bytes(), ping(1)))
	if got := p.wantMessages(wire.KindPong); got[0].ReqID != wire.NewReqID(1) {
		p.t.Fatalf("PONG for request %x", got[0].ReqID.Bytes())
	}
}

// alive answers the node's pings until it takes p for alive.
func (p *peer) alive() {
	p.t.Helper()
	for range 100 {
		time.Sleep(100 * time.Millisecond)
		for _, r := range p.received() {
			if r.msg == nil {
				continue
			}
			switch r.msg.Kind { //nolint:exhaustive // a peer that answers two kinds
			case wire.KindPing:
				p.deliver(p.addr, p.message(wire.Message{Kind: wire.KindPong, ReqID: r.msg.ReqID, Seq: p.record.Seq(), To: netip.MustParseAddrPort("203.0.113.1:9000")}))
			case wire.KindFindNode:
				p.deliver(p.addr, p.message(wire.Message{Kind: wire.KindNodes, ReqID: r.msg.ReqID, Total: 1}))
			}
		}
		for _, e := range p.node.Table() {
			if e.Record.ID() == p.id && e.Alive {
				return
			}
		}
	}
	p.t.Fatal("the node does not take the peer for alive")
}

func ping(id uint64) wire.Message {
	return wire.Message{Kind: wire.KindPing, ReqID: wire.NewReqID(id), Seq: 1}
}

func pubKey(b []byte) (enr.PublicKey, error) { return secp.NewPublicKey(b) }

// answerPings plays peers that are alive for a while.
func answerPings(r *rig, peers []*peer, d time.Duration) {
	r.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for _, packet := range r.sent() {
			for _, p := range peers {
				if packet.addr != p.addr {
					continue
				}
				if got := p.parse(packet); got.msg != nil && got.msg.Kind == wire.KindPing {
					p.deliver(p.addr, p.message(wire.Message{Kind: wire.KindPong, ReqID: got.msg.ReqID, Seq: p.record.Seq(), To: r.conn.addr}))
				}
			}
		}
	}
}
