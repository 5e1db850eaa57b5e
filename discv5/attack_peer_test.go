package discv5_test

import (
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
	"github.com/muster-p2p/muster/internal/secp"
	"github.com/muster-p2p/muster/internal/simnet"
)

// testKey is the nth identity of every test: the same in every run.
func testKey(t testing.TB, n int) *enr.PrivateKey {
	t.Helper()
	seed := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("test identity"), uint64(n)))
	key, err := enr.NewPrivateKey(seed[:])
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func signedRecord(t testing.TB, key *enr.PrivateKey, seq uint64, udp netip.AddrPort) *enr.Record {
	t.Helper()
	content := enr.Content{Seq: seq}
	if udp.IsValid() {
		content.SetUDPEndpoint(udp)
	}
	r, err := content.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rawPeer is a node that the test moves byte by byte: it does what it is told
// and nothing else. It speaks to one node, the target.
type rawPeer struct {
	t      testing.TB
	conn   *simnet.UDPConn
	key    *enr.PrivateKey
	record *enr.Record
	id     [32]byte
	codec  *wire.Codec

	target   *enr.Record
	to       netip.AddrPort
	mask     cipher.Block
	read     cipher.AEAD
	write    cipher.AEAD
	count    uint64
	lastSent []byte // a copy of the last packet
}

// newRawPeer puts identity n at addr and aims it at the target.
func newRawPeer(t testing.TB, net *simnet.Net, n int, at netip.AddrPort, target *enr.Record) *rawPeer {
	t.Helper()
	return rawPeerOn(t, net.Host(at.Addr()), n, at.Port(), target)
}

// rawPeerOn is newRawPeer on a host that may have other peers.
func rawPeerOn(t testing.TB, host *simnet.Host, n int, port uint16, target *enr.Record) *rawPeer {
	t.Helper()
	conn, err := host.ListenUDP(port)
	if err != nil {
		t.Fatal(err)
	}
	key := testKey(t, n)
	p := &rawPeer{t: t, conn: conn, key: key, record: signedRecord(t, key, 1, conn.AddrPort())}
	p.id = p.record.ID()
	p.codec = wire.NewCodec(p.id)
	p.aim(target)
	return p
}

func (p *rawPeer) aim(target *enr.Record) {
	p.t.Helper()
	to, ok := target.UDPEndpoint4()
	if !ok {
		to = castle // it does not know it yet
	}
	p.target, p.to, p.mask = target, to, wire.NewMask(target.ID())
}

// numbers makes an IV and a nonce that this peer has not used before.
func (p *rawPeer) numbers() (iv [16]byte, nonce wire.Nonce) {
	p.count++
	h := sha256.Sum256(binary.BigEndian.AppendUint64(p.id[:], p.count))
	return [16]byte(h[:16]), wire.Nonce(h[16:28])
}

func (p *rawPeer) sendRaw(packet []byte) {
	p.t.Helper()
	p.lastSent = append([]byte(nil), packet...)
	if _, err := p.conn.WriteToUDPAddrPort(packet, p.to); err != nil {
		p.t.Fatal(err)
	}
}

// random is a message packet that the target cannot decrypt.
func (p *rawPeer) random() []byte {
	iv, nonce := p.numbers()
	return p.codec.AppendRandom(nil, p.mask, iv, nonce, make([]byte, 20))
}

// readRaw waits for a packet from the target; nil if none comes in time.
func (p *rawPeer) readRaw(wait time.Duration) []byte {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		p.t.Fatal(err)
	}
	b := make([]byte, 2048)
	n, _, err := p.conn.ReadFromUDPAddrPort(b)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err != nil:
		p.t.Fatal(err)
	}
	return b[:n]
}

// answer is how long the target has to answer what the tests ask of it.
const answer = time.Second

// challenged sends a packet that cannot be decrypted and reads the WHOAREYOU.
func (p *rawPeer) challenged() wire.Challenge {
	p.t.Helper()
	p.sendRaw(p.random())
	for {
		packet := p.readRaw(answer)
		if packet == nil {
			p.t.Fatal("got nothing, want WHOAREYOU")
		}
		var h wire.Header
		if _, err := p.codec.Unmask(packet, &h); err != nil {
			p.t.Fatal(err)
		}
		if h.Flag == wire.FlagWhoareyou {
			return wire.ChallengeOf(packet)
		}
	}
}

// shake is how a handshake packet is made; the zero value is an honest one.
type shake struct {
	src     *[32]byte       // claim to be this node
	signer  *enr.PrivateKey // sign the proof with this key
	record  []byte          // send this record; nil the own one, empty none
	garbage bool            // a message that does not decrypt
}

// handshake makes the packet that answers ch with m in it and installs the keys.
func (p *rawPeer) handshake(ch wire.Challenge, m *wire.Message, how shake) []byte {
	p.t.Helper()
	src, signer, record := p.id, p.key, p.record.Bytes()
	if how.src != nil {
		src = *how.src
	}
	if how.signer != nil {
		signer = how.signer
	}
	if how.record != nil {
		record = how.record
	}
	eph, err := secp.NewPrivateKey(p.scalar())
	if err != nil {
		p.t.Fatal(err)
	}
	pub := eph.Public().Compressed()
	target := [32]byte(p.target.ID())
	keys := wire.DeriveKeys(eph.SharedPoint(p.target.PublicKey()), src, target, &ch)
	sig := signer.Sign(wire.IDProof(&ch, pub, target))
	p.write, p.read = wire.NewAEAD(keys.Initiator), wire.NewAEAD(keys.Recipient)
	seal := p.write
	if how.garbage {
		seal = wire.NewAEAD([16]byte{1})
	}
	iv, nonce := p.numbers()
	packet, err := wire.NewCodec(src).AppendHandshake(nil, p.mask, iv, nonce, seal, sig, pub, record, m)
	if err != nil {
		p.t.Fatal(err)
	}
	return packet
}

func (p *rawPeer) scalar() []byte {
	p.count++
	h := sha256.Sum256(binary.BigEndian.AppendUint64(append([]byte("ephemeral"), p.id[:]...), p.count))
	return h[:]
}

// connect makes a session by an honest PING.
func (p *rawPeer) connect() {
	p.t.Helper()
	ping := &wire.Message{Kind: wire.KindPing, ReqID: p.reqID(), Seq: p.record.Seq()}
	p.sendRaw(p.handshake(p.challenged(), ping, shake{}))
	p.await(wire.KindPong, ping.ReqID)
}

func (p *rawPeer) reqID() wire.ReqID {
	p.count++
	return wire.NewReqID(p.count)
}

// seal makes a message packet under the session's key.
func (p *rawPeer) seal(m *wire.Message) []byte {
	p.t.Helper()
	iv, nonce := p.numbers()
	packet, err := p.codec.AppendMessage(nil, p.mask, iv, nonce, p.write, m)
	if err != nil {
		p.t.Fatal(err)
	}
	return packet
}

func (p *rawPeer) send(m *wire.Message) {
	p.t.Helper()
	p.sendRaw(p.seal(m))
}

// open decrypts a packet; nil if it is no message under the session's keys.
func (p *rawPeer) open(packet []byte) *wire.Message {
	var h wire.Header
	message, err := p.codec.Unmask(packet, &h)
	if err != nil || h.Flag != wire.FlagMessage || p.read == nil {
		return nil
	}
	plain, err := p.codec.Open(p.read, &h, packet, message)
	if err != nil {
		return nil
	}
	m := &wire.Message{}
	if err := m.Decode(append([]byte(nil), plain...)); err != nil {
		p.t.Errorf("the target sent a message that cannot be read: %v", err)
		return nil
	}
	return m
}

// await reads until the answer of that kind comes, and leaves requests alone.
func (p *rawPeer) await(kind wire.Kind, id wire.ReqID) *wire.Message {
	p.t.Helper()
	m := p.tryAwait(kind, id)
	if m == nil {
		p.t.Fatalf("got nothing, want %v", kind)
	}
	return m
}

func (p *rawPeer) tryAwait(kind wire.Kind, id wire.ReqID) *wire.Message {
	p.t.Helper()
	for end := time.Now().Add(answer); ; {
		packet := p.readRaw(time.Until(end))
		if packet == nil {
			return nil
		}
		if m := p.open(packet); m != nil && m.Kind == kind && m.ReqID == id {
			return m
		}
	}
}

// ping sends PING under the session and reports whether PONG came.
func (p *rawPeer) ping() bool {
	p.t.Helper()
	m := &wire.Message{Kind: wire.KindPing, ReqID: p.reqID(), Seq: p.record.Seq()}
	p.send(m)
	return p.tryAwait(wire.KindPong, m.ReqID) != nil
}

// serve answers the target's requests until the socket is closed or its read
// deadline has passed: with what answer sends, or if it returns false,
// honestly. The peer is serve's alone until then.
func (p *rawPeer) serve(answer func(m *wire.Message, from netip.AddrPort) bool) {
	b := make([]byte, 2048)
	for {
		n, from, err := p.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		m := p.open(b[:n])
		if m == nil || answer != nil && answer(m, from) {
			continue
		}
		switch m.Kind { //nolint:exhaustive // a peer that answers some kinds
		case wire.KindPing:
			p.reply(&wire.Message{Kind: wire.KindPong, ReqID: m.ReqID, Seq: p.record.Seq(), To: from})
		case wire.KindFindNode:
			nodes := &wire.Message{Kind: wire.KindNodes, ReqID: m.ReqID, Total: 1}
			if len(m.Distances) > 0 && m.Distances[0] == 0 {
				nodes.Records = [][]byte{p.record.Bytes()}
			}
			p.reply(nodes)
		}
	}
}

// reply is send for serve, whose socket may be closed at any time.
func (p *rawPeer) reply(m *wire.Message) {
	_, _ = p.conn.WriteToUDPAddrPort(p.seal(m), p.to)
}
