package enr_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/enr"
	"github.com/muster-p2p/muster/internal/rlp"
	"github.com/muster-p2p/muster/internal/secp"
)

const vectorKey = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291"

func vectorText(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("testdata/vector.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}

func testKey(t testing.TB) *enr.PrivateKey {
	t.Helper()
	b, err := hex.DecodeString(vectorKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := enr.NewPrivateKey(b)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signRaw signs content that Content would not make.
func signRaw(t testing.TB, key *enr.PrivateKey, content []byte) []byte {
	t.Helper()
	sig := key.Sign(secp.Keccak256(append(rlp.AppendList(nil, len(content)), content...)))
	payload := append(rlp.AppendString(nil, sig[:]), content...)
	return append(rlp.AppendList(nil, len(payload)), payload...)
}

// pairs encodes seq and k, v, ... where every v is raw RLP in hexadecimal.
func pairs(t testing.TB, seq string, kv ...string) []byte {
	t.Helper()
	b, err := hex.DecodeString(seq)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(kv); i += 2 {
		b = rlp.AppendString(b, []byte(kv[i]))
		v, err := hex.DecodeString(kv[i+1])
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, v...)
	}
	return b
}

func TestVector(t *testing.T) {
	text := vectorText(t)
	r, err := enr.ParseText(text)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.ID().String(), "a448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7"; got != want {
		t.Errorf("node ID %s, want %s", got, want)
	}
	if r.Seq() != 1 {
		t.Errorf("seq %d, want 1", r.Seq())
	}
	if ap, ok := r.UDPEndpoint4(); !ok || ap != netip.MustParseAddrPort("127.0.0.1:30303") {
		t.Errorf("UDP endpoint %s, %t", ap, ok)
	}
	if r.String() != text {
		t.Errorf("printed as %s", r)
	}

	// The same content under the same key is the same record.
	c := enr.Content{Seq: 1}
	c.SetIP(netip.MustParseAddr("127.0.0.1"))
	c.SetUDP(30303)
	made, err := c.Sign(testKey(t))
	if err != nil {
		t.Fatal(err)
	}
	if made.String() != text {
		t.Errorf("signed as %s", made)
	}
}

// TestSpec holds one case per rule of enr.md; the comment quotes it.
func TestSpec(t *testing.T) {
	key := testKey(t)
	pub := key.Public().Compressed()
	id, k := "827634", "a1"+hex.EncodeToString(pub[:])
	good := func(kv ...string) []byte { return signRaw(t, key, pairs(t, "01", kv...)) }
	filler := func(n int) []byte {
		return good("id", id, "secp256k1", k, "x", "b8"+hex.EncodeToString([]byte{byte(n)})+strings.Repeat("ff", n))
	}
	for _, tt := range []struct {
		name string
		raw  []byte
		err  error
	}{
		{"all keys except id are optional, but v4 needs its key", good("id", id), enr.ErrMalformed},
		{"minimal", good("id", id, "secp256k1", k), nil},
		{"id is mandatory", good("secp256k1", k), enr.ErrScheme},
		{"unknown scheme", good("id", "827635", "secp256k1", k), enr.ErrScheme},
		{"id as a list", good("id", "c3827634", "secp256k1", k), enr.ErrScheme},
		{"must be sorted by key", good("secp256k1", k, "id", id), enr.ErrUnsorted},
		{"must be unique", good("id", id, "id", id, "secp256k1", k), enr.ErrUnsorted},
		{"keys can technically be any byte sequence", good("\x00\xff", "01", "id", id, "secp256k1", k), nil},
		{"the empty key", good("", "01", "id", id, "secp256k1", k), nil},
		{"a list as value", good("eth", "c7c684fc64ec0480", "id", id, "secp256k1", k), nil},
		{"a list that is not canonical", good("eth", "c28101", "id", id, "secp256k1", k), enr.ErrMalformed},
		{"a key that is a list", signRaw(t, key, append(pairs(t, "01", "id", id, "secp256k1", k), 0xc0, 0x01)), enr.ErrMalformed},
		{"a key without value", signRaw(t, key, append(pairs(t, "01", "id", id, "secp256k1", k), 'z')), enr.ErrMalformed},
		{"seq 0", signRaw(t, key, pairs(t, "80", "id", id, "secp256k1", k)), nil},
		{"seq 2^64-1", signRaw(t, key, pairs(t, "88ffffffffffffffff", "id", id, "secp256k1", k)), nil},
		{"seq of 9 bytes", signRaw(t, key, pairs(t, "89ffffffffffffffffff", "id", id, "secp256k1", k)), enr.ErrMalformed},
		{"seq with a leading zero", signRaw(t, key, pairs(t, "820001", "id", id, "secp256k1", k)), enr.ErrMalformed},
		{"the maximum encoded size of a node record is 300 bytes", filler(300 - len(filler(150)) + 150), nil},
		{"should reject records larger than this size", filler(301 - len(filler(150)) + 150), enr.ErrTooLarge},
		{"uncompressed key", good("id", id, "secp256k1", "b841"+"04"+strings.Repeat("11", 64)), enr.ErrMalformed},
		{"key that is no point", good("id", id, "secp256k1", "a102"+strings.Repeat("00", 32)), enr.ErrMalformed},
		{"5-byte ip spoils the entry only", good("id", id, "ip", "850102030405", "secp256k1", k), nil},
		{"port with a leading zero spoils the entry only", good("id", id, "secp256k1", k, "udp", "820001"), nil},
		{"trailing byte", append(good("id", id, "secp256k1", k), 0), enr.ErrMalformed},
		{"empty", nil, enr.ErrMalformed},
		{"empty list", []byte{0xc0}, enr.ErrMalformed},
		{"a string", []byte{0x83, 1, 2, 3}, enr.ErrMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := enr.Parse(tt.raw)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err == nil && !bytes.Equal(r.Bytes(), tt.raw) {
				t.Errorf("kept as %x", r.Bytes())
			}
		})
	}
	if n := len(filler(300 - len(filler(150)) + 150)); n != enr.MaxSize {
		t.Errorf("the largest record tried has %d bytes", n)
	}
}

func TestSignature(t *testing.T) {
	raw := signRaw(t, testKey(t), pairs(t, "01", "id", "827634", "secp256k1", "a103ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd3138"))
	if _, err := enr.Parse(raw); err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for bit := range 8 {
			bad := bytes.Clone(raw)
			bad[i] ^= 1 << bit
			if r, err := enr.Parse(bad); err == nil {
				t.Errorf("bit %d of byte %d flipped: accepted as %s", bit, i, r)
			}
		}
	}
	short := signRaw(t, testKey(t), pairs(t, "01"))
	if _, err := enr.Parse(short); err == nil {
		t.Error("a record without pairs is accepted")
	}
}

func TestTextIsStrict(t *testing.T) {
	good := vectorText(t)
	for name, text := range map[string]string{
		"no prefix":       good[4:],
		"padding":         good + "=",
		"line break":      good[:40] + "\n" + good[40:],
		"carriage return": good + "\r",
		"space":           good + " ",
		"std alphabet":    strings.ReplaceAll(good, "_", "/"),
		"prefix case":     "ENR:" + good[4:],
		"trailing bits":   good[:len(good)-1] + string(rune(good[len(good)-1]+1)),
		"too long":        good + strings.Repeat("A", 400),
		"empty":           "",
		"prefix only":     "enr:",
	} {
		if r, err := enr.ParseText(text); err == nil {
			t.Errorf("%s: accepted as %s", name, r)
		}
	}
}

func TestEntries(t *testing.T) {
	var c enr.Content
	c.SetUDPEndpoint(netip.MustParseAddrPort("203.0.113.1:9000"))
	c.SetIP(netip.MustParseAddr("2001:db8::1"))
	c.SetTCP(9001)
	c.SetQUIC(9002)
	c.SetQUIC6(9003)
	c.Set("eth2", []byte{1, 2, 3})
	if err := c.SetRaw("eth", []byte{0xc2, 0x01, 0x02}); err != nil {
		t.Fatal(err)
	}
	if err := c.SetRaw("bad", []byte{0xc2, 0x01}); err == nil {
		t.Error("SetRaw takes what is not RLP")
	}
	r, err := c.Sign(testKey(t))
	if err != nil {
		t.Fatal(err)
	}
	if r, err = enr.Parse(r.Bytes()); err != nil {
		t.Fatal(err)
	}
	check := func(name string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	udp4, _ := r.UDPEndpoint4()
	check("udp over IPv4", udp4, netip.MustParseAddrPort("203.0.113.1:9000"))
	udp6, _ := r.UDPEndpoint6() // "the tcp / udp port applies to both IP addresses"
	check("udp over IPv6", udp6, netip.MustParseAddrPort("[2001:db8::1]:9000"))
	tcp6, _ := r.TCPEndpoint6()
	check("tcp over IPv6", tcp6, netip.MustParseAddrPort("[2001:db8::1]:9001"))
	quic, _ := r.QUIC()
	check("quic", quic, uint16(9002))
	quic6, _ := r.QUIC6()
	check("quic6", quic6, uint16(9003))
	_, ok := r.TCP6()
	check("tcp6 is there", ok, false)
	check("eth2", r.Contains("eth2", []byte{1, 2, 3}), true)
	raw, _ := r.Get("eth")
	check("eth", hex.EncodeToString(raw), "c20102")

	back := r.Content()
	check("same entries", back.SameEntries(&c), true)
	back.Delete("eth")
	check("same entries after Delete", back.SameEntries(&c), false)
	again, err := back.Sign(testKey(t))
	if err != nil {
		t.Fatal(err)
	}
	_, ok = again.Get("eth")
	check("eth after Delete", ok, false)
}

func TestMalformedEntries(t *testing.T) {
	key := testKey(t)
	pub := key.Public().Compressed()
	k := "a1" + hex.EncodeToString(pub[:])
	raw := signRaw(t, key, pairs(t, "01", "id", "827634", "ip", "850102030405",
		"ip6", "9000000000000000000000ffff7f000001", "secp256k1", k, "tcp", "80", "udp", "83010000"))
	r, err := enr.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if a, ok := r.IP4(); ok {
		t.Errorf("ip of 5 bytes read as %s", a)
	}
	if a, ok := r.IP6(); ok {
		t.Errorf("IPv4 in ip6 read as %s", a)
	}
	if p, ok := r.TCP(); ok {
		t.Errorf("port 0 read as %d", p)
	}
	if p, ok := r.UDP(); ok {
		t.Errorf("port 65536 read as %d", p)
	}
}

func TestTooLarge(t *testing.T) {
	var c enr.Content
	c.Set("x", make([]byte, 200))
	if _, err := c.Sign(testKey(t)); !errors.Is(err, enr.ErrTooLarge) {
		t.Errorf("error %v, want %v", err, enr.ErrTooLarge)
	}
}

func TestNextSeq(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	for _, tt := range []struct{ stored, want uint64 }{
		{0, 1_800_000_000_000},
		{5, 1_800_000_000_000}, // an old data directory was restored
		{1_800_000_000_000, 1_800_000_000_001},
		{1_900_000_000_000, 1_900_000_000_001}, // the clock fell
		{math.MaxUint64, math.MaxUint64},
	} {
		if got := enr.NextSeq(tt.stored, now); got != tt.want {
			t.Errorf("NextSeq(%d) = %d, want %d", tt.stored, got, tt.want)
		}
	}
}

func TestPeerID(t *testing.T) {
	key := testKey(t)
	lk, err := enr.Libp2pKey(key)
	if err != nil {
		t.Fatal(err)
	}
	want, err := peer.IDFromPrivateKey(lk)
	if err != nil {
		t.Fatal(err)
	}
	r, err := enr.ParseText(vectorText(t))
	if err != nil {
		t.Fatal(err)
	}
	if r.PeerID() != want || enr.PeerIDOf(key.Public()) != want {
		t.Errorf("peer ID %s, want %s", r.PeerID(), want)
	}
	id, err := enr.IDOf(want)
	if err != nil || id != r.ID() {
		t.Errorf("node ID %s, %v; want %s", id, err, r.ID())
	}
	back, err := enr.PrivateKeyOf(lk)
	if err != nil || !bytes.Equal(back.Bytes(), key.Bytes()) {
		t.Errorf("key does not come back: %v", err)
	}
	ed, _, err := crypto.GenerateEd25519Key(nil2rand{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enr.PrivateKeyOf(ed); !errors.Is(err, enr.ErrPeerID) {
		t.Errorf("Ed25519 key: %v, want %v", err, enr.ErrPeerID)
	}
	edID, err := peer.IDFromPrivateKey(ed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enr.IDOf(edID); !errors.Is(err, enr.ErrPeerID) {
		t.Errorf("Ed25519 peer ID: %v, want %v", err, enr.ErrPeerID)
	}
}

type nil2rand struct{}

func (nil2rand) Read(b []byte) (int, error) { return len(b), nil }

func TestDistance(t *testing.T) {
	var a, b enr.ID
	if d := enr.LogDistance(a, b); d != 0 {
		t.Errorf("distance to itself is %d", d)
	}
	b[31] = 1
	if d := enr.LogDistance(a, b); d != 1 {
		t.Errorf("distance of the last bit is %d, want 1", d)
	}
	b[0] = 0x80
	if d := enr.LogDistance(a, b); d != 256 {
		t.Errorf("distance of the first bit is %d, want 256", d)
	}
	if enr.CompareDistance(a, a, b) >= 0 || enr.CompareDistance(b, a, b) <= 0 || enr.CompareDistance(a, b, b) != 0 {
		t.Error("CompareDistance is out of order")
	}
	text, err := b.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var back enr.ID
	if err := back.UnmarshalText(text); err != nil || back != b {
		t.Errorf("%s read as %s, %v", text, back, err)
	}
}

func TestCache(t *testing.T) {
	c := enr.NewCache(2)
	var first *enr.Record
	for seq := range uint64(20) {
		content := enr.Content{Seq: seq}
		r, err := content.Sign(testKey(t))
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Parse(r.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if seq == 0 {
			first = got
		}
		if again, err := c.Parse(first.Bytes()); err != nil || again != first {
			t.Fatalf("a record in use was dropped after %d others: %v", seq, err)
		}
		if c.Len() > 4 {
			t.Fatalf("%d records held, want at most 4", c.Len())
		}
	}
	bad := bytes.Clone(first.Bytes())
	bad[10] ^= 1
	if _, err := c.Parse(bad); err == nil {
		t.Error("the cache verifies a forged record")
	}
}

func FuzzParse(f *testing.F) {
	r, err := enr.ParseText(vectorText(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.Bytes())
	f.Add(signRaw(f, testKey(f), pairs(f, "01", "eth", "c7c684fc64ec0480", "id", "827634")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if enr.CheckForm(b) != nil {
			if _, err := enr.Parse(b); err == nil {
				t.Fatal("Parse takes what CheckForm refuses")
			}
			return
		}
		r, err := enr.Parse(b)
		if err != nil {
			return
		}
		text := r.String()
		back, err := enr.ParseText(text)
		if err != nil || !bytes.Equal(back.Bytes(), b) {
			t.Fatalf("%x does not survive its text form %s: %v", b, text, err)
		}
		for k := range r.Pairs() {
			if _, ok := r.Get(k); !ok {
				t.Fatalf("key %q is listed and not found", k)
			}
		}
	})
}

// FuzzContent signs what the fuzzer makes up and reads it back.
func FuzzContent(f *testing.F) {
	f.Add(uint64(1), "ip", []byte{127, 0, 0, 1}, "zz", []byte{1})
	key := testKey(f)
	f.Fuzz(func(t *testing.T, seq uint64, k1 string, v1 []byte, k2 string, v2 []byte) {
		c := enr.Content{Seq: seq}
		c.Set(k1, v1)
		c.Set(k2, v2)
		r, err := c.Sign(key)
		if err != nil {
			return
		}
		back, err := enr.Parse(r.Bytes())
		if err != nil || back.Seq() != seq {
			t.Fatalf("own record refused: %v", err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	raw, err := base64.RawURLEncoding.DecodeString(vectorText(b)[4:])
	if err != nil {
		b.Fatal(err)
	}
	cache := enr.NewCache(10)
	for name, f := range map[string]func() error{
		"verify": func() error { _, err := enr.Parse(raw); return err },
		"form":   func() error { return enr.CheckForm(raw) },
		"cached": func() error { _, err := cache.Parse(raw); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSign(b *testing.B) {
	key := testKey(b)
	c := enr.Content{Seq: 1}
	c.SetUDPEndpoint(netip.MustParseAddrPort("203.0.113.1:9000"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Sign(key); err != nil {
			b.Fatal(err)
		}
	}
}

// A record that came with a proof is taken if both signatures are its owner's
// and the owner is who it should be.
func TestParseProven(t *testing.T) {
	key := testKey(t)
	other, err := enr.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	var c enr.Content
	c.SetUDPEndpoint(netip.MustParseAddrPort("192.0.2.1:30303"))
	r, err := c.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	digest := [32]byte{1, 2, 3}
	sign := func(k *enr.PrivateKey, d [32]byte) enr.Proof {
		sig := k.Sign(d)
		return enr.Proof{Digest: digest, Signature: sig[:]}
	}
	forged := bytes.Clone(r.Bytes())
	forged[len(forged)-1] ^= 1 // the port
	for name, tt := range map[string]struct {
		raw   []byte
		id    enr.ID
		proof enr.Proof
		want  error
	}{
		"right":                {r.Bytes(), r.ID(), sign(key, digest), nil},
		"another's ID":         {r.Bytes(), enr.ID{1}, sign(key, digest), enr.ErrWrongID},
		"another's proof":      {r.Bytes(), r.ID(), sign(other, digest), enr.ErrSignature},
		"proof of another":     {r.Bytes(), r.ID(), sign(key, [32]byte{9}), enr.ErrSignature},
		"no proof":             {r.Bytes(), r.ID(), enr.Proof{Digest: digest}, enr.ErrSignature},
		"forged record":        {forged, r.ID(), sign(key, digest), enr.ErrSignature},
		"bytes after a record": {append(bytes.Clone(r.Bytes()), 0), r.ID(), sign(key, digest), enr.ErrMalformed},
	} {
		got, err := enr.ParseProven(tt.raw, tt.id, tt.proof)
		if !errors.Is(err, tt.want) || (err == nil) != (got != nil) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if got != nil && (got.String() != r.String() || got.ID() != r.ID()) {
			t.Errorf("%s: %v, want %v", name, got, r)
		}
	}
}
