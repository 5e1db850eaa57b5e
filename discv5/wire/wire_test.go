package wire_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/internal/rlp"
	"github.com/muster-p2p/muster/internal/secp"
)

const (
	keyA = "eef77acb6c6a6eebc5b363a475ac583ec7eccdb42b6481424c60f59aa326547f"
	keyB = "66fb62bfbd66b9177a138c1e5cddbe4f7c30c343e94e68df8769459cb1cde628"
)

// A vector is one file of testdata: its inputs by name, and its output.
type vector struct {
	in  map[string]string
	out []byte
}

func load(t testing.TB, name string) vector {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	v := vector{in: map[string]string{}}
	var out strings.Builder
	for s := bufio.NewScanner(f); s.Scan(); {
		comment, ok := strings.CutPrefix(s.Text(), "# ")
		if !ok {
			out.WriteString(s.Text())
		} else if name, value, ok := strings.Cut(comment, " = "); ok {
			v.in[name] = value
		}
	}
	v.out = unhex(t, out.String())
	return v
}

func (v vector) hex(t testing.TB, name string) []byte {
	t.Helper()
	return unhex(t, v.in[name])
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func key(t testing.TB, s string) *secp.PrivateKey {
	t.Helper()
	k, err := secp.NewPrivateKey(unhex(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func pub(t testing.TB, b []byte) secp.PublicKey {
	t.Helper()
	p, err := secp.NewPublicKey(b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestVectorPing(t *testing.T) {
	v := load(t, "ping.txt")
	a, b := key(t, keyA).Public().NodeID(), key(t, keyB).Public().NodeID()
	var iv [16]byte
	nonce := wire.Nonce(v.hex(t, "nonce"))
	aead := wire.NewAEAD([16]byte(v.hex(t, "read-key")))
	id, _ := wire.ReqIDOf(v.hex(t, "ping.req-id"))
	want := wire.Message{Kind: wire.KindPing, ReqID: id, Seq: 2}

	enc, err := wire.NewCodec(a).AppendMessage(nil, wire.NewMask(b), iv, nonce, aead, &want)
	if err != nil || !bytes.Equal(enc, v.out) {
		t.Errorf("encoded as %x, %v", enc, err)
	}

	c := wire.NewCodec(b)
	var h wire.Header
	msg, err := c.Unmask(v.out, &h)
	if err != nil {
		t.Fatal(err)
	}
	if h.Flag != wire.FlagMessage || h.Src != a || h.Nonce != nonce {
		t.Errorf("header %+v", h)
	}
	pt, err := c.Open(aead, &h, v.out, msg)
	if err != nil {
		t.Fatal(err)
	}
	var m wire.Message
	if err := m.Decode(pt); err != nil || m.Kind != want.Kind || m.ReqID != want.ReqID || m.Seq != want.Seq {
		t.Errorf("message %+v, %v", m, err)
	}
}

func TestVectorWhoareyou(t *testing.T) {
	v := load(t, "whoareyou.txt")
	b := key(t, keyB).Public().NodeID()
	var iv [16]byte
	nonce := wire.Nonce(v.hex(t, "whoareyou.request-nonce"))
	idNonce := [16]byte(v.hex(t, "whoareyou.id-nonce"))
	ch := wire.NewChallenge(iv, nonce, idNonce, 0)
	if !bytes.Equal(ch[:], v.hex(t, "whoareyou.challenge-data")) {
		t.Errorf("challenge data %x", ch)
	}
	enc := wire.NewCodec([32]byte{}).AppendWhoareyou(nil, wire.NewMask(b), &ch)
	if !bytes.Equal(enc, v.out) {
		t.Errorf("encoded as %x", enc)
	}
	var h wire.Header
	if _, err := wire.NewCodec(b).Unmask(v.out, &h); err != nil {
		t.Fatal(err)
	}
	if h.Flag != wire.FlagWhoareyou || h.Nonce != nonce || h.IDNonce != idNonce || h.RecordSeq != 0 {
		t.Errorf("header %+v", h)
	}
	if wire.ChallengeOf(v.out) != ch {
		t.Errorf("challenge of the packet %x", wire.ChallengeOf(v.out))
	}
}

func TestVectorHandshake(t *testing.T) {
	for _, name := range []string{"ping-handshake.txt", "ping-handshake-enr.txt"} {
		t.Run(name, func(t *testing.T) {
			v := load(t, name)
			a, b := key(t, keyA), key(t, keyB)
			aID, bID := a.Public().NodeID(), b.Public().NodeID()
			eph := key(t, v.in["ephemeral-key"])
			ephPub := [33]byte(v.hex(t, "ephemeral-pubkey"))
			ch := wire.Challenge(v.hex(t, "whoareyou.challenge-data"))

			c := wire.NewCodec(bID)
			var h wire.Header
			packet := bytes.Clone(v.out)
			msg, err := c.Unmask(packet, &h)
			if err != nil {
				t.Fatal(err)
			}
			if h.Flag != wire.FlagHandshake || h.Src != aID || !bytes.Equal(h.EphemeralKey, ephPub[:]) {
				t.Errorf("header %+v", h)
			}
			if !a.Public().Verify(wire.IDProof(&ch, ephPub, bID), h.Signature) {
				t.Error("id-signature does not verify")
			}
			keys := wire.DeriveKeys(b.SharedPoint(pub(t, ephPub[:])), aID, bID, &ch)
			if got := hex.EncodeToString(keys.Initiator[:]); got != v.in["read-key"] {
				t.Errorf("read key %s, want %s", got, v.in["read-key"])
			}
			aead := wire.NewAEAD(keys.Initiator)
			pt, err := c.Open(aead, &h, packet, msg)
			if err != nil {
				t.Fatal(err)
			}
			var m wire.Message
			if err := m.Decode(pt); err != nil || m.Kind != wire.KindPing || m.Seq != 1 {
				t.Errorf("message %+v, %v", m, err)
			}
			if got := len(h.Record) > 0; got != strings.Contains(name, "enr") {
				t.Errorf("record of %d bytes", len(h.Record))
			}

			sig := a.Sign(wire.IDProof(&ch, eph.Public().Compressed(), bID))
			enc, err := wire.NewCodec(aID).AppendHandshake(nil, wire.NewMask(bID), [16]byte{}, h.Nonce, aead, sig, ephPub, h.Record, &m)
			if err != nil || !bytes.Equal(enc, v.out) {
				t.Errorf("encoded as %x, %v", enc, err)
			}
		})
	}
}

func TestVectorCrypto(t *testing.T) {
	v := load(t, "ecdh.txt")
	secret := key(t, v.in["secret-key"]).SharedPoint(pub(t, v.hex(t, "public-key")))
	if !bytes.Equal(secret[:], v.out) {
		t.Errorf("shared point %x", secret)
	}

	v = load(t, "key-derivation.txt")
	ch := wire.Challenge(v.hex(t, "challenge-data"))
	secret = key(t, v.in["ephemeral-key"]).SharedPoint(pub(t, v.hex(t, "dest-pubkey")))
	keys := wire.DeriveKeys(secret, [32]byte(v.hex(t, "node-id-a")), [32]byte(v.hex(t, "node-id-b")), &ch)
	if got := slices.Concat(keys.Initiator[:], keys.Recipient[:]); !bytes.Equal(got, v.out) {
		t.Errorf("keys %x", got)
	}

	v = load(t, "id-signature.txt")
	ch = wire.Challenge(v.hex(t, "challenge-data"))
	proof := wire.IDProof(&ch, [33]byte(v.hex(t, "ephemeral-pubkey")), [32]byte(v.hex(t, "node-id-b")))
	if sig := key(t, v.in["static-key"]).Sign(proof); !bytes.Equal(sig[:], v.out) {
		t.Errorf("id-signature %x", sig)
	}

	v = load(t, "aesgcm.txt")
	got := wire.NewAEAD([16]byte(v.hex(t, "encryption-key"))).Seal(nil, v.hex(t, "nonce"), v.hex(t, "pt"), v.hex(t, "ad"))
	if !bytes.Equal(got, v.out) {
		t.Errorf("ciphertext %x", got)
	}
}

// TestUnmaskRefuses builds each malformed packet from a good one.
func TestUnmaskRefuses(t *testing.T) {
	id := [32]byte{1}
	c := wire.NewCodec(id)
	packet := func(flag byte, version byte, auth, msg int, edit func(header []byte)) []byte {
		b := make([]byte, 16)
		b = append(b, "discv5"...)
		b = append(b, 0, version, flag)
		b = append(b, make([]byte, 12)...)
		b = append(b, byte(auth>>8), byte(auth))
		b = append(b, make([]byte, auth)...)
		if edit != nil {
			edit(b)
		}
		b = mask(id, b)
		return append(b, make([]byte, msg)...)
	}
	sizes := func(b []byte) { b[39+32], b[39+33] = 64, 33 }
	for _, tt := range []struct {
		name   string
		packet []byte
		want   error
	}{
		{"good message", packet(0, 1, 32, 16, nil), nil},
		{"good WHOAREYOU", packet(1, 1, 24, 0, nil), nil},
		{"good handshake", packet(2, 1, 131, 16, sizes), nil},
		{"good handshake with the largest record", packet(2, 1, 431, 16, sizes), nil},
		{"62 bytes", packet(1, 1, 24, 0, nil)[:62], wire.ErrSize},
		{"1280 bytes", packet(0, 1, 32, 1280-71, nil), nil},
		{"1281 bytes", packet(0, 1, 32, 1281-71, nil), wire.ErrSize},
		{"other protocol", packet(0, 1, 32, 16, func(b []byte) { b[16] = 'D' }), wire.ErrProtocol},
		{"version 0", packet(0, 0, 32, 16, nil), wire.ErrProtocol},
		{"version 2", packet(0, 2, 32, 16, nil), wire.ErrProtocol},
		{"flag 3", packet(3, 1, 32, 16, nil), wire.ErrHeader},
		{"message authdata of 31", packet(0, 1, 31, 17, nil), wire.ErrHeader},
		{"message authdata of 33", packet(0, 1, 33, 16, nil), wire.ErrHeader},
		{"message of 15", packet(0, 1, 32, 15, nil), wire.ErrHeader},
		{"WHOAREYOU with a message", packet(1, 1, 24, 1, nil), wire.ErrHeader},
		{"WHOAREYOU authdata of 32", packet(1, 1, 32, 0, nil), wire.ErrHeader},
		{"handshake without tag", packet(2, 1, 131, 15, sizes), wire.ErrHeader},
		{"handshake authdata of 130", packet(2, 1, 130, 16, sizes), wire.ErrHeader},
		{"handshake record of 301", packet(2, 1, 432, 16, sizes), wire.ErrHeader},
		{"handshake signature size", packet(2, 1, 131, 16, nil), wire.ErrHeader},
		{"authdata longer than the packet", packet(0, 1, 32, 16, func(b []byte) { b[37], b[38] = 0xff, 0xff }), wire.ErrHeader},
		{"authdata of 0", packet(0, 1, 32, 16, func(b []byte) { b[38] = 0 }), wire.ErrHeader},
	} {
		var h wire.Header
		if _, err := c.Unmask(tt.packet, &h); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// mask masks everything after the vector, as a sender would.
func mask(id [32]byte, b []byte) []byte {
	out := bytes.Clone(b)
	block := wire.NewMask(id)
	var ctr, ks [16]byte
	copy(ctr[:], b)
	for i := 16; i < len(out); i += 16 {
		block.Encrypt(ks[:], ctr[:])
		for j := i; j < min(i+16, len(out)); j++ {
			out[j] ^= ks[j-i]
		}
		ctr[15]++
	}
	return out
}

// TestCounterCarries checks the 128-bit counter with a vector whose low half
// wraps inside the header.
func TestCounterCarries(t *testing.T) {
	id := [32]byte{1}
	iv := [16]byte(bytes.Repeat([]byte{0xff}, 16))
	iv[0] = 0
	ch := wire.NewChallenge(iv, wire.Nonce{1}, [16]byte{2}, 3)
	packet := wire.NewCodec(id).AppendWhoareyou(nil, wire.NewMask(id), &ch)
	// Computed with: openssl enc -aes-128-ctr -K 01000… -iv 00ffff…
	block := wire.NewMask(id)
	ctrs := [][16]byte{iv, {1}}
	ctrs[1] = [16]byte{1}
	var ks [16]byte
	for i, ctr := range ctrs {
		block.Encrypt(ks[:], ctr[:])
		for j := range 16 {
			if got := packet[16+16*i+j] ^ ks[j]; got != ch[16+16*i+j] {
				t.Fatalf("byte %d of block %d is %x, want %x", j, i, got, ch[16+16*i+j])
			}
		}
	}
}

func record(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n-3)
	return append(rlp.AppendList(nil, len(b)), b...)
}

func messages(t testing.TB) map[string]wire.Message {
	id, _ := wire.ReqIDOf([]byte{0, 0, 0, 1})
	none, _ := wire.ReqIDOf(nil)
	return map[string]wire.Message{
		"ping":            {Kind: wire.KindPing, ReqID: id, Seq: 1},
		"ping no id":      {Kind: wire.KindPing, ReqID: none, Seq: 1 << 63},
		"pong":            {Kind: wire.KindPong, ReqID: id, Seq: 1, To: netip.MustParseAddrPort("127.0.0.1:5000")},
		"pong6":           {Kind: wire.KindPong, ReqID: wire.NewReqID(7), To: netip.MustParseAddrPort("[2001:db8::1]:5000")},
		"findnode":        {Kind: wire.KindFindNode, ReqID: id, Distances: []uint16{0, 1, 255, 256}},
		"findnode empty":  {Kind: wire.KindFindNode, ReqID: id},
		"nodes":           {Kind: wire.KindNodes, ReqID: id, Total: 2, Records: [][]byte{record(t, 100), record(t, 299)}},
		"nodes empty":     {Kind: wire.KindNodes, ReqID: id, Total: 1},
		"talkreq":         {Kind: wire.KindTalkReq, ReqID: id, Protocol: []byte("p"), Payload: []byte("hello")},
		"talkreq empty":   {Kind: wire.KindTalkReq, ReqID: id},
		"talkresp":        {Kind: wire.KindTalkResp, ReqID: id, Payload: bytes.Repeat([]byte{9}, 1000)},
		"talkresp 1 byte": {Kind: wire.KindTalkResp, ReqID: id, Payload: []byte{0x7f}},
	}
}

func TestMessages(t *testing.T) {
	for name, m := range messages(t) {
		enc, err := m.AppendTo(nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(enc) != m.Size() {
			t.Errorf("%s: size %d, want %d", name, m.Size(), len(enc))
		}
		var got wire.Message
		if err := got.Decode(enc); err != nil {
			t.Errorf("%s: %x: %v", name, enc, err)
			continue
		}
		again, err := got.AppendTo(nil)
		if err != nil || !bytes.Equal(again, enc) {
			t.Errorf("%s: %x comes back as %x, %v", name, enc, again, err)
		}
		for i := range enc {
			if err := new(wire.Message).Decode(enc[:i]); err == nil {
				t.Errorf("%s: cut at %d and accepted", name, i)
			}
		}
		if err := got.Decode(append(enc, 0)); err == nil {
			t.Errorf("%s: accepted with a byte too many", name)
		}
	}
}

func TestMessageEncodings(t *testing.T) {
	for _, tt := range []struct{ name, hex, want string }{
		{"PING", "01c20101", "ok"},
		{"PONG", "02ca0101847f000001821388", "ok"},
		{"FINDNODE", "03c501c3820100", "ok"},
		{"NODES", "04c30101c0", "ok"},
		{"TALKREQ", "05c6018161" + "826869", ""},
		{"TALKREQ, canonical", "05c50161826869", "ok"},
		{"TALKRESP", "06c20180", "ok"},
		{"request ID of 9 bytes", "01cb89010203040506070809" + "01", ""},
		{"request ID that is a list", "01c2c001", ""},
		{"record number with a leading zero", "01c401820001", ""},
		{"one element too many", "01c3010101", ""},
		{"one too few", "01c101", ""},
		{"IP of 5 bytes", "02cb0101857f00000101821388", ""},
		{"port of 17 bits", "02cb0101847f00000183010000", ""},
		{"NODES of 0", "04c30180c0", ""},
		{"NODES with a string for a record", "04c40101c180", ""},
		{"distance that is a list", "03c301c1c0", ""},
		{"no type", "", ""},
		{"type 0", "00c20101", ""},
		{"type 0b", "0bc20101", ""},
		{"REGTOPIC is recognised", "07c20101", "topic"},
		{"TOPICNODES is recognised", "0ac101", "topic"},
	} {
		var m wire.Message
		err := m.Decode(unhex(t, tt.hex))
		if (err == nil) != (tt.want != "") {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err == nil && m.Kind.Topic() != (tt.want == "topic") {
			t.Errorf("%s: kind %s", tt.name, m.Kind)
		}
	}
}

func TestDistances(t *testing.T) {
	m := wire.Message{Kind: wire.KindFindNode, Distances: []uint16{256, 257, 0, 0, 65535, 256, 3}}
	enc, err := m.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	var got wire.Message
	if err := got.Decode(enc); err != nil || !slices.Equal(got.Distances, []uint16{256, 0, 3}) {
		t.Errorf("distances %v, %v", got.Distances, err)
	}
}

func TestTooLarge(t *testing.T) {
	id := [32]byte{1}
	c := wire.NewCodec(id)
	aead := wire.NewAEAD([16]byte{})
	fits := func(n int, send func(m *wire.Message) ([]byte, error)) bool {
		m := wire.Message{Kind: wire.KindTalkResp, ReqID: wire.NewReqID(1), Payload: make([]byte, n)}
		b, err := send(&m)
		if err == nil && len(b) > wire.MaxPacket {
			t.Errorf("packet of %d bytes", len(b))
		}
		if err != nil && !errors.Is(err, wire.ErrTooLarge) {
			t.Error(err)
		}
		return err == nil
	}
	message := func(m *wire.Message) ([]byte, error) {
		return c.AppendMessage(nil, wire.NewMask(id), [16]byte{}, wire.Nonce{}, aead, m)
	}
	if !fits(1177, message) || fits(1178, message) {
		t.Error("the largest TALKRESP is not 1177 bytes")
	}
	handshake := func(m *wire.Message) ([]byte, error) {
		if m.Size() > wire.MaxHandshakePlaintext {
			return nil, wire.ErrTooLarge
		}
		return c.AppendHandshake(nil, wire.NewMask(id), [16]byte{}, wire.Nonce{}, aead, [64]byte{}, [33]byte{}, make([]byte, 300), m)
	}
	if !fits(wire.MaxHandshakePlaintext-1-3-9-3, handshake) || fits(wire.MaxHandshakePlaintext-1-3-9-2, handshake) {
		t.Error("MaxHandshakePlaintext is not the largest that fits")
	}
}

// TestPingAllocatesNothing pins the hot path both ways.
func TestPingAllocatesNothing(t *testing.T) {
	p := newPingPath(t)
	if n := testing.AllocsPerRun(100, p.encode); n != 0 {
		t.Errorf("encoding a PING allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, p.decode); n != 0 {
		t.Errorf("decoding a PING allocates %v times", n)
	}
}

type pingPath struct{ encode, decode func() }

func newPingPath(t testing.TB) pingPath {
	a, b := [32]byte{1}, [32]byte{2}
	ca, cb := wire.NewCodec(a), wire.NewCodec(b)
	mask, aead := wire.NewMask(b), wire.NewAEAD([16]byte{3})
	buf := make([]byte, 0, wire.MaxPacket)
	m := wire.Message{Kind: wire.KindPing, ReqID: wire.NewReqID(1), Seq: 1 << 40}
	packet, err := ca.AppendMessage(nil, mask, [16]byte{}, wire.Nonce{}, aead, &m)
	if err != nil {
		t.Fatal(err)
	}
	in := make([]byte, len(packet))
	var got wire.Message
	return pingPath{
		encode: func() {
			if _, err := ca.AppendMessage(buf, mask, [16]byte{}, wire.Nonce{}, aead, &m); err != nil {
				t.Fatal(err)
			}
		},
		decode: func() {
			copy(in, packet)
			var h wire.Header
			msg, err := cb.Unmask(in, &h)
			if err != nil {
				t.Fatal(err)
			}
			pt, err := cb.Open(aead, &h, in, msg)
			if err != nil {
				t.Fatal(err)
			}
			if err := got.Decode(pt); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func BenchmarkPing(b *testing.B) {
	p := newPingPath(b)
	for name, f := range map[string]func(){"encode": p.encode, "decode": p.decode} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}

func BenchmarkDecodeNodes(b *testing.B) {
	m := wire.Message{Kind: wire.KindNodes, ReqID: wire.NewReqID(1), Total: 1}
	for range 4 {
		m.Records = append(m.Records, record(b, 150))
	}
	enc, err := m.AppendTo(nil)
	if err != nil {
		b.Fatal(err)
	}
	var got wire.Message
	b.ReportAllocs()
	for b.Loop() {
		if err := got.Decode(enc); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzUnmask(f *testing.F) {
	for _, name := range []string{"ping.txt", "whoareyou.txt", "ping-handshake.txt", "ping-handshake-enr.txt"} {
		f.Add(load(f, name).out)
	}
	id := key(f, keyB).Public().NodeID()
	f.Fuzz(func(t *testing.T, b []byte) {
		packet := bytes.Clone(b)
		var h wire.Header
		msg, err := wire.NewCodec(id).Unmask(packet, &h)
		if err != nil {
			return
		}
		// Parse then encode gives the same bytes.
		if got := append(mask(id, packet[:len(packet)-len(msg)]), msg...); !bytes.Equal(got, b) {
			t.Fatalf("%x comes back as %x", b, got)
		}
		if h.Flag == wire.FlagWhoareyou {
			ch := wire.NewChallenge([16]byte(b), h.Nonce, h.IDNonce, h.RecordSeq)
			if ch != wire.ChallengeOf(packet) {
				t.Fatalf("challenge %x of %x", ch, b)
			}
		}
	})
}

func FuzzMessage(f *testing.F) {
	for _, m := range messages(f) {
		enc, err := m.AppendTo(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(enc)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m wire.Message
		if m.Decode(b) != nil || m.Kind.Topic() {
			return
		}
		enc, err := m.AppendTo(nil)
		if err != nil {
			if errors.Is(err, wire.ErrTooLarge) && len(b) > wire.MaxPlaintext-20 {
				return
			}
			t.Fatalf("%x cannot be encoded: %v", b, err)
		}
		// An IPv4 address in IPv6 form and dropped distances do not come back.
		if m.Kind != wire.KindPong && m.Kind != wire.KindFindNode && !bytes.Equal(enc, b) {
			t.Fatalf("%x comes back as %x", b, enc)
		}
		var again wire.Message
		if err := again.Decode(enc); err != nil {
			t.Fatalf("own encoding %x of %x refused: %v", enc, b, err)
		}
	})
}

// TestRandomMessagesRoundTrip sends random messages through two codecs.
func TestRandomMessagesRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	a, b := [32]byte{1}, [32]byte{2}
	ca, cb := wire.NewCodec(a), wire.NewCodec(b)
	aead := wire.NewAEAD([16]byte{3})
	for range 500 {
		m := wire.Message{Kind: wire.KindTalkReq, ReqID: wire.NewReqID(rnd.Uint64()), Protocol: []byte("x"), Payload: make([]byte, rnd.IntN(1150))}
		var iv [16]byte
		for i := range iv {
			iv[i] = byte(rnd.Uint32())
		}
		packet, err := ca.AppendMessage(nil, wire.NewMask(b), iv, wire.Nonce{byte(rnd.Uint32())}, aead, &m)
		if err != nil {
			t.Fatal(err)
		}
		flipped := rnd.IntN(len(packet))
		bad := bytes.Clone(packet)
		bad[flipped] ^= 1 << rnd.IntN(8)
		if pt, err := open(cb, aead, bad); err == nil {
			t.Fatalf("byte %d flipped and decrypted to %x", flipped, pt)
		}
		pt, err := open(cb, aead, packet)
		if err != nil {
			t.Fatal(err)
		}
		var got wire.Message
		if err := got.Decode(pt); err != nil || !bytes.Equal(got.Payload, m.Payload) {
			t.Fatalf("payload differs: %v", err)
		}
	}
}

func open(c *wire.Codec, aead interface {
	Open(dst, nonce, ciphertext, ad []byte) ([]byte, error)
	Seal(dst, nonce, plaintext, ad []byte) []byte
	NonceSize() int
	Overhead() int
}, packet []byte,
) ([]byte, error) {
	var h wire.Header
	msg, err := c.Unmask(packet, &h)
	if err != nil {
		return nil, err
	}
	return c.Open(aead, &h, packet, msg)
}
