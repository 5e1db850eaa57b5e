package discv5_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/crypto/sha3"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/enr"
)

// The tests in this file talk to a node over a real socket with packets made
// by hand from discv5-wire.md and discv5-theory.md: nothing of muster's is
// used to make or read them, and another library does the curve arithmetic.
//
// That a packet is not answered is seen by what comes next: a packet that is,
// sent after it over the same loopback, is answered by the next datagram.

// A stranger is a node on a socket of its own.
type stranger struct {
	t    *testing.T
	conn net.Conn
	key  *secp256k1.PrivateKey
	id   [32]byte
	enr  []byte

	node         [32]byte // whom it talks to
	nodeKey      *secp256k1.PublicKey
	read, write  []byte // session keys
	count        uint32
	lastID       byte
	version      uint16
	protocol     string
	signedFor    []byte // in place of the node's ID
	claimed      []byte // in place of its own ID
	wrongEph     []byte // in place of the ephemeral key
	highS        bool
	wrongContent bool // the message of the handshake cannot be decrypted
}

func newStranger(t *testing.T, node *discv5.Node) *stranger {
	t.Helper()
	to, ok := node.LocalRecord().UDPEndpoint4()
	if !ok {
		t.Fatal("the node has no endpoint")
	}
	conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // nothing is lost with it
	return strangerOn(t, conn, node)
}

// strangerOn is a stranger at the end of a connection to the node.
func strangerOn(t *testing.T, conn net.Conn, node *discv5.Node) *stranger {
	t.Helper()
	var err error
	s := &stranger{t: t, conn: conn, node: node.ID(), version: 1, protocol: "discv5"}
	if s.key, err = secp256k1.GeneratePrivateKey(); err != nil {
		t.Fatal(err)
	}
	pub := node.LocalRecord().PublicKey().Compressed()
	if s.nodeKey, err = secp256k1.ParsePubKey(pub[:]); err != nil {
		t.Fatal(err)
	}
	s.id = idOf(s.key)
	s.enr = s.record(1)
	return s
}

func idOf(key *secp256k1.PrivateKey) (id [32]byte) {
	h := sha3.NewLegacyKeccak256()
	h.Write(key.PubKey().SerializeUncompressed()[1:])
	return [32]byte(h.Sum(nil))
}

// record makes a record by hand; it names the stranger's socket.
func (s *stranger) record(seq byte) []byte {
	at := s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	content := []byte{seq}
	content = append(content, "\x82id\x82v4\x82ip\x84\x7f\x00\x00\x01\x89secp256k1\xa1"...)
	content = append(content, s.key.PubKey().SerializeCompressed()...)
	content = append(content, "\x83udp\x82"...)
	content = binary.BigEndian.AppendUint16(content, at.Port())
	h := sha3.NewLegacyKeccak256()
	h.Write(list(content))
	return list(append(append([]byte{0xb8, 64}, sign(s.key, h.Sum(nil), false)...), content...))
}

// list puts a header before the items of an RLP list.
func list(items []byte) []byte {
	switch n := len(items); {
	case n < 56:
		return append([]byte{0xc0 + byte(n)}, items...)
	case n < 256:
		return append([]byte{0xf8, byte(n)}, items...)
	default:
		return append([]byte{0xf9, byte(n >> 8), byte(n)}, items...)
	}
}

// str is an RLP string of any length.
func str(b []byte) []byte {
	switch n := len(b); {
	case n == 1 && b[0] < 0x80:
		return b
	case n < 56:
		return append([]byte{0x80 + byte(n)}, b...)
	case n < 256:
		return append([]byte{0xb8, byte(n)}, b...)
	default:
		return append([]byte{0xb9, byte(n >> 8), byte(n)}, b...)
	}
}

// sign returns r || s; with highS the other valid s.
func sign(key *secp256k1.PrivateKey, digest []byte, highS bool) []byte {
	sig := ecdsa.SignCompact(key, digest, true)[1:]
	if highS {
		var v secp256k1.ModNScalar
		v.SetByteSlice(sig[32:])
		v.Negate()
		b := v.Bytes()
		copy(sig[32:], b[:])
	}
	return sig
}

func ctr(key [32]byte, iv, b []byte) {
	block, _ := aes.NewCipher(key[:16])
	cipher.NewCTR(block, iv).XORKeyStream(b, b)
}

func gcm(key []byte) cipher.AEAD {
	block, _ := aes.NewCipher(key)
	aead, _ := cipher.NewGCM(block)
	return aead
}

// packet makes a packet with any header. If key is nil the message goes as it
// is.
func (s *stranger) packet(flag byte, nonce, auth, key, message []byte) []byte {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b = append(b, s.protocol...)
	b = binary.BigEndian.AppendUint16(b, s.version)
	b = append(b, flag)
	b = append(b, nonce...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(auth)))
	b = append(b, auth...)
	if key != nil {
		message = gcm(key).Seal(nil, nonce, message, b)
	}
	ctr(s.node, b[:16], b[16:])
	return append(b, message...)
}

func (s *stranger) nonce() []byte {
	s.count++
	b := make([]byte, 12)
	_, _ = rand.Read(b)
	binary.BigEndian.PutUint32(b, s.count)
	return b
}

// message is a packet under the session.
func (s *stranger) message(plaintext []byte) []byte {
	return s.packet(0, s.nonce(), s.id[:], s.write, plaintext)
}

// junk is a packet of this size that nobody can decrypt.
func (s *stranger) junk(size int) []byte {
	return s.packet(0, s.nonce(), s.id[:], nil, make([]byte, size-71))
}

func (s *stranger) send(b []byte) {
	s.t.Helper()
	if _, err := s.conn.Write(b); err != nil {
		s.t.Fatal(err)
	}
}

// A reply is a packet of the node's, unmasked.
type reply struct {
	size            int
	challenge       []byte // iv and header
	flag            byte
	nonce           []byte
	auth, plaintext []byte // plaintext is nil if it cannot be decrypted
}

// next reads one packet of the node's; a node that is silent fails the test.
func (s *stranger) next() reply {
	s.t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	b := make([]byte, 1500)
	n, err := s.conn.Read(b)
	if err != nil {
		s.t.Fatalf("the node is silent: %v", err)
	}
	b = b[:n]
	header := bytes.Clone(b)
	ctr(s.id, b[:16], header[16:])
	size := int(binary.BigEndian.Uint16(header[37:]))
	if string(header[16:24]) != "discv5\x00\x01" || 39+size > n {
		s.t.Fatalf("the node sent %x", header)
	}
	a := reply{size: n, challenge: header[:39+size], flag: header[24], nonce: header[25:37], auth: header[39 : 39+size]}
	if a.flag == 0 && s.read != nil {
		a.plaintext, _ = gcm(s.read).Open(nil, a.nonce, b[39+size:], a.challenge)
	}
	return a
}

// own reads what comes next but for the node's own requests.
func (s *stranger) own() reply {
	s.t.Helper()
	for {
		a := s.next()
		const probe = 99 // a packet of the node's that asks for a session
		request := a.plaintext != nil && (a.plaintext[0] == 1 || a.plaintext[0] == 3 || a.plaintext[0] == 5)
		if !request && (a.flag != 0 || a.plaintext != nil || a.size != probe) {
			return a
		}
	}
}

func (s *stranger) challenged(b []byte) reply {
	s.t.Helper()
	s.send(b)
	a := s.own()
	if a.flag != 1 || a.size != 63 || len(a.auth) != 24 {
		s.t.Fatalf("a packet with flag %d of %d bytes, want WHOAREYOU of 63", a.flag, a.size)
	}
	return a
}

// shake returns the handshake that answers a challenge, and takes its keys.
func (s *stranger) shake(challenge, record, plaintext []byte) []byte {
	s.t.Helper()
	eph, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		s.t.Fatal(err)
	}
	pub := eph.PubKey().SerializeCompressed()
	if s.wrongEph != nil {
		pub = s.wrongEph
	}
	id, to := s.id[:], s.node[:]
	if s.claimed != nil {
		id = s.claimed
	}
	if s.signedFor != nil {
		to = s.signedFor
	}
	var point, shared secp256k1.JacobianPoint
	s.nodeKey.AsJacobian(&point)
	secp256k1.ScalarMultNonConst(&eph.Key, &point, &shared)
	shared.ToAffine()
	secret := secp256k1.NewPublicKey(&shared.X, &shared.Y).SerializeCompressed()
	info := "discovery v5 key agreement" + string(id) + string(s.node[:])
	keys, err := hkdf.Key(sha256.New, secret, challenge, info, 32)
	if err != nil {
		s.t.Fatal(err)
	}
	proof := sha256.Sum256(bytes.Join([][]byte{[]byte("discovery v5 identity proof"), challenge, pub, to}, nil))
	auth := append(bytes.Clone(id), 64, 33)
	auth = append(auth, sign(s.key, proof[:], s.highS)...)
	auth = append(auth, pub...)
	auth = append(auth, record...)
	s.write, s.read = keys[:16], keys[16:]
	key := s.write
	if s.wrongContent {
		key = make([]byte, 16)
	}
	return s.packet(2, s.nonce(), auth, key, plaintext)
}

// ping is the plaintext of a PING with a request ID of one byte.
func (s *stranger) ping() []byte {
	s.lastID = s.lastID%0x7f + 1
	return []byte{1, 0xc2, s.lastID, 1}
}

// wantPong fails unless what comes next is the PONG for the last ping.
func (s *stranger) wantPong(after string) {
	s.t.Helper()
	a := s.own()
	if a.plaintext == nil || a.plaintext[0] != 2 || a.plaintext[2] != s.lastID {
		s.t.Fatalf("after %s: flag %d, message %x; want the PONG for %d", after, a.flag, a.plaintext, s.lastID)
	}
}

func (s *stranger) connect() {
	s.t.Helper()
	ch := s.challenged(s.junk(91))
	s.send(s.shake(ch.challenge, s.enr, s.ping()))
	s.wantPong("the handshake")
}

// still fails unless the session is good and nothing was sent meanwhile.
func (s *stranger) still(after string) {
	s.t.Helper()
	s.send(s.message(s.ping()))
	s.wantPong(after)
}

func strangersNode(t *testing.T) *discv5.Node {
	t.Helper()
	// Challenges live for longer than the machine may be busy with something else.
	return listen(t, discv5.Config{ChallengesPerIP: -1, ChallengesTotal: -1, HandshakeTimeout: time.Minute})
}

// Every size from nothing to more than a packet may have: only what can hold
// a message is challenged, by 63 bytes that name the first one.
func TestStrangerEverySize(t *testing.T) {
	node := strangersNode(t)
	known, s := newStranger(t, node), newStranger(t, node)
	known.connect()
	var first []byte
	for size := range 1400 {
		b := s.junk(max(size, 71))[:size]
		if size < 87 || size > 1280 {
			s.send(b)
			continue
		}
		if first == nil {
			first = nonceOf(s, b)
		}
		if got := s.challenged(b); !bytes.Equal(got.nonce, first) {
			t.Fatalf("%d bytes: WHOAREYOU for nonce %x, want %x", size, got.nonce, first)
		}
	}
	known.still("1400 packets")
	if got, want := node.Stats().ChallengesSent, uint64(1+1280-87+1); got != want {
		t.Errorf("%d challenges, want %d", got, want)
	}
}

// nonceOf is the nonce of a packet to the node.
func nonceOf(s *stranger, b []byte) []byte {
	header := bytes.Clone(b[:71])
	ctr(s.node, b[:16], header[16:])
	return header[25:37]
}

// Headers that are not those of the three packets are not answered and do not
// disturb the session.
func TestStrangerHeaders(t *testing.T) {
	node := strangersNode(t)
	s := newStranger(t, node)
	s.connect()
	n := make([]byte, 12)
	hs := append(append(bytes.Clone(s.id[:]), 64, 33), make([]byte, 97)...)
	sized := func(sig, eph byte) []byte {
		b := bytes.Clone(hs)
		b[32], b[33] = sig, eph
		return b
	}
	for name, b := range map[string][]byte{
		"flag 3":                           s.packet(3, n, s.id[:], nil, make([]byte, 20)),
		"flag 255":                         s.packet(255, n, s.id[:], nil, make([]byte, 20)),
		"authdata of 0":                    s.packet(0, n, nil, nil, make([]byte, 60)),
		"authdata of 31":                   s.packet(0, n, s.id[:31], nil, make([]byte, 20)),
		"authdata of 33":                   s.packet(0, n, append(s.id[:], 0), nil, make([]byte, 20)),
		"WHOAREYOU that nobody asked for":  s.packet(1, n, make([]byte, 24), nil, nil),
		"WHOAREYOU with authdata of 23":    s.packet(1, n, make([]byte, 23), nil, []byte{0}),
		"WHOAREYOU with authdata of 32":    s.packet(1, n, make([]byte, 32), nil, nil),
		"WHOAREYOU with a message":         s.packet(1, n, make([]byte, 24), nil, make([]byte, 16)),
		"handshake that nobody asked for":  s.packet(2, n, hs, nil, make([]byte, 20)),
		"handshake with authdata of 130":   s.packet(2, n, hs[:130], nil, make([]byte, 20)),
		"handshake, 65 bytes of signature": s.packet(2, n, sized(65, 33), nil, make([]byte, 20)),
		"handshake, 65 bytes of key":       s.packet(2, n, sized(64, 65), nil, make([]byte, 20)),
		"handshake, nothing of either":     s.packet(2, n, sized(0, 0), nil, make([]byte, 20)),
		"handshake with 301 of record":     s.packet(2, n, append(bytes.Clone(hs), make([]byte, 301)...), nil, make([]byte, 20)),
		"the node's own ID":                s.packet(0, n, s.node[:], nil, make([]byte, 20)),
	} {
		s.send(b)
		s.still(name)
	}
	for _, version := range []uint16{0, 2, 0x0100, 0xffff} {
		s.version = version
		b := s.junk(91)
		s.version = 1
		s.send(b)
		s.still("another version")
	}
	for _, protocol := range []string{"discv4", "DISCV5", "\x00iscv5"} {
		s.protocol = protocol
		b := s.junk(91)
		s.protocol = "discv5"
		s.send(b)
		s.still("another protocol")
	}
}

// Handshakes that prove nothing make no session, and take none away.
func TestStrangerHandshakes(t *testing.T) {
	node := strangersNode(t)
	known := newStranger(t, node)
	known.connect()
	uncompressed := known.key.PubKey().SerializeUncompressed()
	for _, tt := range []struct {
		name  string
		spoil func(s *stranger)
		enr   func(s *stranger) []byte
	}{
		{name: "signed for another node", spoil: func(s *stranger) { s.signedFor = known.id[:] }},
		{name: "another's ID", spoil: func(s *stranger) { s.claimed = known.id[:] }},
		{name: "high s", spoil: func(s *stranger) { s.highS = true }},
		{name: "message under other keys", spoil: func(s *stranger) { s.wrongContent = true }},
		{name: "key of zeros", spoil: func(s *stranger) { s.wrongEph = make([]byte, 33) }},
		{name: "key that is no point", spoil: func(s *stranger) { s.wrongEph = append([]byte{2}, bytes.Repeat([]byte{0xff}, 32)...) }},
		{name: "beginning of an uncompressed key", spoil: func(s *stranger) { s.wrongEph = uncompressed[:33] }},
		{name: "hybrid key", spoil: func(s *stranger) { s.wrongEph = append([]byte{6}, uncompressed[1:33]...) }},
		{name: "no record, and none known", enr: func(*stranger) []byte { return nil }},
		{name: "another's record", enr: func(*stranger) []byte { return known.enr }},
		{name: "forged record", enr: func(s *stranger) []byte { b := s.record(1); b[len(b)-1]++; return b }},
		{name: "record with a byte more", enr: func(s *stranger) []byte { return append(s.record(1), 0) }},
		{name: "empty list for a record", enr: func(*stranger) []byte { return []byte{0xc0} }},
		{name: "300 zeros for a record", enr: func(*stranger) []byte { return make([]byte, 300) }},
	} {
		s := newStranger(t, node)
		ch := s.challenged(s.junk(91)).challenge
		if tt.spoil != nil {
			tt.spoil(s)
		}
		record := s.enr
		if tt.enr != nil {
			record = tt.enr(s)
		}
		s.send(s.shake(ch, record, s.ping()))
		// The worker takes one handshake after the other: when a good one has
		// been answered, the bad one has been refused.
		fence := newStranger(t, node)
		fence.connect()
		*s = stranger{
			t: s.t, conn: s.conn, key: s.key, id: s.id, enr: s.enr, node: s.node, nodeKey: s.nodeKey,
			count: s.count, version: 1, protocol: "discv5",
		}
		// The first challenge is alive, comes again, and is good for one more.
		if again := s.challenged(s.junk(91)); !bytes.Equal(again.challenge, ch) {
			t.Errorf("%s: another challenge", tt.name)
		}
		good := s.shake(ch, s.enr, s.ping())
		s.send(good)
		s.wantPong(tt.name + " and a good one")
		s.send(good)
		s.still("the same handshake again")
		s.send(s.shakeAgain(ch))
		s.still("another handshake for the same challenge")
		known.still(tt.name)
	}
}

// shakeAgain is a handshake that leaves s with the keys it has.
func (s *stranger) shakeAgain(challenge []byte) []byte {
	read, write := s.read, s.write
	b := s.shake(challenge, s.enr, []byte{1, 0xc2, 0x7f, 1})
	s.read, s.write = read, write
	return b
}

// A node whose record is known is asked for a newer one, and an older one that
// it sends does not replace it.
func TestStrangerSendsAnOlderRecord(t *testing.T) {
	node := strangersNode(t)
	s := newStranger(t, node)
	newer, err := enr.Parse(s.record(9))
	if err != nil {
		t.Fatalf("a record made by hand: %v", err)
	}
	node.AddNode(newer)
	ch := s.challenged(s.junk(91))
	if got := binary.BigEndian.Uint64(ch.auth[16:]); got != 9 {
		t.Errorf("enr-seq %d, want 9", got)
	}
	s.send(s.shake(ch.challenge, s.record(3), s.ping()))
	s.wantPong("a handshake with an older record")
	for _, e := range node.Table() {
		if e.Record.ID() == enr.ID(s.id) && e.Record.Seq() != 9 {
			t.Errorf("record %d in the table, want 9", e.Record.Seq())
		}
	}
}

// Messages in hand-made RLP: the answer, or silence.
func TestStrangerMessages(t *testing.T) {
	node := strangersNode(t)
	s := newStranger(t, node)
	s.connect()
	seq := str(bytes.TrimLeft(binary.BigEndian.AppendUint64(nil, node.LocalRecord().Seq()), "\x00"))
	port := s.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	pong := func(id string) string {
		body := append([]byte(id), seq...)
		body = append(body, 0x84, 127, 0, 0, 1)
		body = append(body, str(binary.BigEndian.AppendUint16(nil, port))...)
		return "02" + hex.EncodeToString(list(body))
	}
	self := "04" + hex.EncodeToString(list(append([]byte{1, 1}, list(node.LocalRecord().Bytes())...)))
	none := "04c30101c0"
	for _, tt := range []struct{ name, in, want string }{
		{"PING", "01c20101", pong("\x01")},
		{"PING without request ID", "01c28001", pong("\x80")},
		{"PING, request ID of a zero byte", "01c20001", pong("\x00")},
		{"PING, request ID of 8 bytes", "01ca88000000000000000001", pong("\x88\x00\x00\x00\x00\x00\x00\x00\x00")},
		{"PING, record number 2^64-1", "01ca0188ffffffffffffffff", pong("\x01")},
		{"PING, record number 0", "01c20180", pong("\x01")},
		{"PING, request ID of 9 bytes", "01cb8900000000000000000001", ""},
		{"PING, request ID as a list", "01c2c001", ""},
		{"PING, request ID not canonical", "01c3810101", ""},
		{"PING, record number of 9 bytes", "01cb0189010000000000000000", ""},
		{"PING, record number with a zero in front", "01c401820001", ""},
		{"PING, record number zero as a byte", "01c20100", ""},
		{"PING, too few", "01c101", ""},
		{"PING, too many", "01c3010101", ""},
		{"PING, byte after it", "01c2010100", ""},
		{"PING, list longer than the packet", "01c30101", ""},
		{"PING, long form of a short list", "01f8020101", ""},
		{"PING, length of 8 bytes", "01ffffffffffffffffff", ""},
		{"PING, a string for the list", "01820101", ""},
		{"PING, nothing", "01", ""},
		{"no kind", "", ""},
		{"kind 00", "00c20101", ""},
		{"REGTOPIC", "07c20101", ""},
		{"REGCONFIRMATION", "08c20101", ""},
		{"TOPICQUERY", "09c20101", ""},
		{"TOPICNODES", "0ac20101", ""},
		{"kind 0b", "0bc20101", ""},
		{"kind 7f", "7fc20101", ""},
		{"kind ff", "ffc20101", ""},
		{"PONG that nobody asked for", "02c90101847f00000182ffff", ""},
		{"NODES that nobody asked for", "04c30101c0", ""},
		{"TALKRESP that nobody asked for", "06c20180", ""},
		{"FINDNODE 0", "03c301c180", self},
		{"FINDNODE 0 and 256, each twice", "03ca01c880808201008201" + "00", self},
		{"FINDNODE 256", "03c501c3820100", none},
		{"FINDNODE 257", "03c501c3820101", none},
		{"FINDNODE of nothing", "03c201c0", none},
		{"FINDNODE of 2^64-1", "03cb01c988ffffffffffffffff", none},
		{"FINDNODE of 300 distances", "03" + hex.EncodeToString(list(append([]byte{1}, list(bytes.Repeat([]byte{1}, 300))...))), none},
		{"FINDNODE, distance of 9 bytes", "03cc01ca89010000000000000000", ""},
		{"FINDNODE, zero as a byte", "03c301c100", ""},
		{"FINDNODE, a number for the list", "03c20101", ""},
		{"FINDNODE, a list in the list", "03c301c1c0", ""},
		{"TALKREQ of an unknown protocol", "05c301" + "6162", "06c20180"},
		{"TALKREQ of no protocol", "05c3018080", "06c20180"},
		{"TALKREQ, protocol not UTF-8", "05c50182ff0080", "06c20180"},
		{"TALKREQ, no request", "05c20161", ""},
		{"TALKREQ, a list for the protocol", "05c301c080", ""},
	} {
		in, err := hex.DecodeString(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		s.send(s.message(in))
		if tt.want != "" {
			if a := s.own(); hex.EncodeToString(a.plaintext) != tt.want {
				t.Errorf("%s: %x, want %s", tt.name, a.plaintext, tt.want)
			}
		}
		s.still(tt.name)
	}
}

// A tapped is the other end of a node's tapped socket: a handler has 100 ms,
// which only virtual time makes sure of.
type tapped struct {
	net.Conn // nil
	tap      *tapConn
	addr     netip.AddrPort
}

func (c *tapped) Write(b []byte) (int, error) {
	c.tap.in <- datagram{c.addr, bytes.Clone(b)}
	return len(b), nil
}

func (c *tapped) Read(b []byte) (int, error) { return copy(b, (<-c.tap.out).b), nil }

func (c *tapped) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.addr) }

func (c *tapped) SetReadDeadline(time.Time) error { return nil }

// TALKREQ and TALKRESP at the size of a packet.
func TestStrangerTalksAtLength(t *testing.T) { inBubble(t, discv5.Config{}, strangerTalksAtLength) }

func strangerTalksAtLength(r *rig) {
	t, node := r.t, r.node
	if err := node.RegisterTalkProtocol("p", func(_ context.Context, r discv5.TalkRequest) []byte {
		return make([]byte, binary.BigEndian.Uint16(r.Payload))
	}); err != nil {
		t.Fatal(err)
	}
	s := strangerOn(t, &tapped{tap: r.conn, addr: netip.MustParseAddrPort("198.51.100.7:30303")}, node)
	s.connect()
	ask := func(want uint16, size int) reply {
		request := binary.BigEndian.AppendUint16(nil, want)
		body := append([]byte("\x88\x01\x01\x01\x01\x01\x01\x01\x01p"), str(append(request, make([]byte, size-2)...))...)
		s.send(s.message(append([]byte{5}, list(body)...)))
		return s.own()
	}
	if a := ask(1177, 10); a.size != 1280 || len(a.plaintext) != 1193 {
		t.Errorf("the longest answer: a packet of %d bytes, message of %d", a.size, len(a.plaintext))
	}
	if a := ask(1178, 10); hex.EncodeToString(a.plaintext) != "06ca88010101010101010180" {
		t.Errorf("an answer of a byte too many: %x", a.plaintext)
	}
	if a := ask(10, 1176); a.plaintext == nil || a.plaintext[0] != 6 {
		t.Errorf("the longest request: %x", a.plaintext)
	}
	s.still("long requests")
}
