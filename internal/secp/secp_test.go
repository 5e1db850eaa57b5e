package secp_test

import (
	"crypto/sha256"
	"testing"

	decred "github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/muster-p2p/muster/internal/secp"
)

// TestAgainstDecred checks every operation against a second implementation,
// on random keys.
func TestAgainstDecred(t *testing.T) {
	n := 200
	if testing.Short() {
		n = 20
	}
	for i := range n {
		ours, err := secp.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		theirs := decred.PrivKeyFromBytes(ours.Bytes())
		pub := ours.Public().Compressed()
		if want := theirs.PubKey().SerializeCompressed(); string(pub[:]) != string(want) {
			t.Fatalf("public key %x, want %x", pub, want)
		}
		if got, want := ours.Public().NodeID(), secp.Keccak256(theirs.PubKey().SerializeUncompressed()[1:]); got != want {
			t.Fatalf("node ID %x, want %x", got, want)
		}

		y := ours.Public().Y()
		if xy, err := secp.NewPublicKeyXY(pub[1:], y[:]); err != nil || xy.Compressed() != pub {
			t.Fatalf("key by its coordinates: %v", err)
		}

		digest := sha256.Sum256([]byte{byte(i)})
		sig := ours.Sign(digest)
		var r, s decred.ModNScalar
		r.SetByteSlice(sig[:32])
		s.SetByteSlice(sig[32:])
		if !ecdsa.NewSignature(&r, &s).Verify(digest[:], theirs.PubKey()) || s.IsOverHalfOrder() {
			t.Fatalf("signature %x of %x refused", sig, digest)
		}
		want := ecdsa.SignCompact(theirs, digest[:], true)
		if string(sig[:]) != string(want[1:]) {
			t.Fatalf("RFC 6979 signature %x, want %x", sig, want[1:])
		}
		if !ours.Public().Verify(digest, want[1:]) {
			t.Fatal("their signature is refused")
		}

		other, err := decred.GeneratePrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		theirPub, err := secp.NewPublicKey(other.PubKey().SerializeCompressed())
		if err != nil {
			t.Fatal(err)
		}
		var p, shared decred.JacobianPoint
		theirs.PubKey().AsJacobian(&p)
		decred.ScalarMultNonConst(&other.Key, &p, &shared)
		shared.ToAffine()
		secret := ours.SharedPoint(theirPub)
		if want := decred.NewPublicKey(&shared.X, &shared.Y).SerializeCompressed(); string(secret[:]) != string(want) {
			t.Fatalf("shared point %x, want %x", secret, want)
		}
	}
}

func TestHighS(t *testing.T) {
	k, err := secp.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	sig := k.Sign(digest)
	if !k.Public().Verify(digest, sig[:]) {
		t.Fatal("own signature refused")
	}
	var s decred.ModNScalar
	s.SetByteSlice(sig[32:])
	high := s.Negate().Bytes()
	copy(sig[32:], high[:])
	if k.Public().Verify(digest, sig[:]) {
		t.Error("high s accepted")
	}
}

// VerifyBoth says what Verify says of each.
func TestVerifyBoth(t *testing.T) {
	const rounds = 16
	for i := range rounds {
		k, err := secp.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		other, err := secp.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		signed := func(k *secp.PrivateKey, b byte) secp.Signed {
			d := sha256.Sum256([]byte{byte(i), b})
			sig := k.Sign(d)
			return secp.Signed{Digest: d, Signature: sig[:]}
		}
		changed := func(s secp.Signed, at int) secp.Signed {
			s.Signature = append([]byte(nil), s.Signature...)
			s.Signature[at] ^= 1 << (i % 8)
			return s
		}
		highS := func(s secp.Signed) secp.Signed {
			var n decred.ModNScalar
			n.SetByteSlice(s.Signature[32:])
			high := n.Negate().Bytes()
			s.Signature = append(append([]byte(nil), s.Signature[:32]...), high[:]...)
			return s
		}
		zeroR := func(s secp.Signed, n int) secp.Signed {
			s.Signature = append(make([]byte, n), s.Signature[n:]...)
			return s
		}
		a, b := signed(k, 1), signed(k, 2)
		for name, pair := range map[string][2]secp.Signed{
			"both right":       {a, b},
			"the same twice":   {a, a},
			"another's first":  {signed(other, 1), b},
			"another's second": {a, signed(other, 2)},
			"both another's":   {signed(other, 1), signed(other, 2)},
			"digests swapped":  {{Digest: a.Digest, Signature: b.Signature}, {Digest: b.Digest, Signature: a.Signature}},
			"r of the first":   {changed(a, i%32), b},
			"r of the second":  {a, changed(b, i%32)},
			"s of the first":   {changed(a, 32+i%32), b},
			"s of the second":  {a, changed(b, 32+i%32)},
			"high s":           {highS(a), b},
			"high s, both":     {highS(a), highS(b)},
			"short":            {a, {Digest: b.Digest, Signature: b.Signature[:63]}},
			"a small r":        {zeroR(a, 15), b},
			"r of zero":        {a, zeroR(b, 32)},
		} {
			pub := k.Public()
			want := pub.Verify(pair[0].Digest, pair[0].Signature) && pub.Verify(pair[1].Digest, pair[1].Signature)
			if name == "both right" && !want {
				t.Fatal("own signatures refused")
			}
			if got := pub.VerifyBoth(pair[0], pair[1]); got != want {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"short":        make([]byte, 32),
		"infinity":     make([]byte, 33),
		"uncompressed": append([]byte{4}, make([]byte, 64)...),
		"hybrid":       append([]byte{6}, make([]byte, 32)...),
		"no point":     append([]byte{2}, make([]byte, 32)...), // x = 0 has no y
		"x over p":     append([]byte{2}, []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")...),
	} {
		if _, err := secp.NewPublicKey(b); err == nil {
			t.Errorf("public key %s accepted", name)
		}
	}
	for name, b := range map[string][]byte{
		"zero":  make([]byte, 32),
		"short": make([]byte, 31),
		"over":  []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
	} {
		if _, err := secp.NewPrivateKey(b); err == nil {
			t.Errorf("private key %s accepted", name)
		}
	}
}

func Benchmark(b *testing.B) {
	k, err := secp.GenerateKey()
	if err != nil {
		b.Fatal(err)
	}
	pub := k.Public()
	raw := pub.Compressed()
	digest := sha256.Sum256(nil)
	sig := k.Sign(digest)
	for name, f := range map[string]func(){
		"keygen":       func() { _, _ = secp.GenerateKey() },
		"shared point": func() { k.SharedPoint(pub) },
		"sign":         func() { k.Sign(digest) },
		"verify":       func() { pub.Verify(digest, sig[:]) },
		"verify both": func() {
			pub.VerifyBoth(secp.Signed{Digest: digest, Signature: sig[:]}, secp.Signed{Digest: digest, Signature: sig[:]})
		},
		"parse":   func() { _, _ = secp.NewPublicKey(raw[:]) },
		"node id": func() { pub.NodeID() },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}
