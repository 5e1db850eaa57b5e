// Package secp is the secp256k1 arithmetic of the "v4" identity scheme and of
// the discv5 handshake: keys, ECDSA signatures as r||s with a low s, and the
// compressed shared point. It hides which library does the curve arithmetic,
// so that it can be replaced in this one file (docs/adr/0030).
//
// All values are immutable and may be used by several goroutines.
package secp

import (
	"crypto/rand"
	"errors"
	"fmt"

	"gitlab.com/yawning/secp256k1-voi"
	"gitlab.com/yawning/secp256k1-voi/secec"
	"golang.org/x/crypto/sha3"
)

// Sizes in bytes.
const (
	PrivateKeySize = 32
	PublicKeySize  = 33 // compressed
	SignatureSize  = 64 // r || s
	SecretSize     = 33 // compressed point
	digestSize     = 32
	coordinateSize = 32
)

var (
	errPublicKey  = errors.New("secp256k1: not a compressed public key")
	errPrivateKey = errors.New("secp256k1: not a private key")
)

// A PrivateKey is a scalar in 1..n-1 with its public key.
type PrivateKey struct {
	key *secec.PrivateKey
	pub PublicKey
}

// A PublicKey is a point of the curve, never the one at infinity. The zero
// value is no key and must not be used.
type PublicKey struct {
	key *secec.PublicKey
}

// GenerateKey makes a key from the system's randomness.
func GenerateKey() (*PrivateKey, error) {
	k, err := secec.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("secp256k1: generate key: %w", err)
	}
	return wrap(k), nil
}

// NewPrivateKey reads a key of 32 bytes, big endian.
func NewPrivateKey(b []byte) (*PrivateKey, error) {
	if len(b) != PrivateKeySize {
		return nil, errPrivateKey
	}
	k, err := secec.NewPrivateKey(b)
	if err != nil {
		return nil, errPrivateKey
	}
	return wrap(k), nil
}

func wrap(k *secec.PrivateKey) *PrivateKey {
	return &PrivateKey{key: k, pub: PublicKey{k.PublicKey()}}
}

// Bytes returns the 32 bytes of the key: a secret.
func (k *PrivateKey) Bytes() []byte { return k.key.Bytes() }

// Public returns the public key.
func (k *PrivateKey) Public() PublicKey { return k.pub }

// Sign signs a digest of 32 bytes. The signature is deterministic (RFC 6979)
// and its s is at most n/2.
func (k *PrivateKey) Sign(digest [digestSize]byte) [SignatureSize]byte {
	r, s, _, err := k.key.SignRaw(secec.RFC6979SHA256(), digest[:])
	if err != nil {
		// The digest's length is right and no randomness is read.
		panic("BUG: secp256k1: sign: " + err.Error())
	}
	var sig [SignatureSize]byte
	copy(sig[:32], r.Bytes())
	copy(sig[32:], s.Bytes())
	return sig
}

// SharedPoint multiplies p by k and returns the product, compressed.
func (k *PrivateKey) SharedPoint(p PublicKey) [SecretSize]byte {
	pt := secp256k1.NewIdentityPoint().ScalarMult(k.key.Scalar(), p.key.Point())
	return [SecretSize]byte(pt.CompressedBytes())
}

// SharedPointWith is SharedPoint with the point that NewPublicKey would read.
// It does not compute what else belongs to a public key.
func (k *PrivateKey) SharedPointWith(b []byte) ([SecretSize]byte, error) {
	if len(b) != PublicKeySize || b[0]&0xfe != 0x02 {
		return [SecretSize]byte{}, errPublicKey
	}
	p, err := secp256k1.NewPointFromBytes(b)
	if err != nil {
		return [SecretSize]byte{}, errPublicKey
	}
	return [SecretSize]byte(p.ScalarMult(k.key.Scalar(), p).CompressedBytes()), nil
}

// NewPublicKey reads a compressed point of 33 bytes.
func NewPublicKey(b []byte) (PublicKey, error) {
	if len(b) != PublicKeySize || b[0]&0xfe != 0x02 {
		return PublicKey{}, errPublicKey
	}
	k, err := secec.NewPublicKey(b)
	if err != nil {
		return PublicKey{}, errPublicKey
	}
	return PublicKey{k}, nil
}

// NewPublicKeyXY reads a point by its two coordinates. It costs a tenth of
// NewPublicKey, which has to compute the second.
func NewPublicKeyXY(x, y []byte) (PublicKey, error) {
	if len(x) != coordinateSize || len(y) != coordinateSize {
		return PublicKey{}, errPublicKey
	}
	var b [1 + 2*coordinateSize]byte
	b[0] = 0x04 // the uncompressed form
	copy(b[1:], x)
	copy(b[1+coordinateSize:], y)
	k, err := secec.NewPublicKey(b[:])
	if err != nil {
		return PublicKey{}, errPublicKey
	}
	return PublicKey{k}, nil
}

// Y returns the second coordinate; the first is in Compressed.
func (p PublicKey) Y() [coordinateSize]byte {
	return [coordinateSize]byte(p.key.Bytes()[1+coordinateSize:])
}

// Compressed returns the key as 33 bytes.
func (p PublicKey) Compressed() [PublicKeySize]byte {
	return [PublicKeySize]byte(p.key.CompressedBytes())
}

// NodeID is the keccak256 hash of the two coordinates: the node ID of the
// "v4" identity scheme.
// https://github.com/ethereum/devp2p/blob/master/enr.md#v4-identity-scheme
func (p PublicKey) NodeID() [32]byte {
	h := sha3.NewLegacyKeccak256()
	h.Write(p.key.Bytes()[1:]) // without the 0x04 of the uncompressed form
	return [32]byte(h.Sum(nil))
}

// Verify reports whether sig is a signature of digest by p. A high s is
// refused: it would be a second valid signature of the same content.
func (p PublicKey) Verify(digest [digestSize]byte, sig []byte) bool {
	r, s, ok := parseSignature(sig)
	return ok && p.key.VerifyRaw(digest[:], r, s)
}

// Keccak256 is the hash that records are signed with.
func Keccak256(b []byte) [32]byte {
	h := sha3.NewLegacyKeccak256()
	h.Write(b)
	return [32]byte(h.Sum(nil))
}

// Random fills b from the system's source of randomness.
func Random(b []byte) {
	if _, err := rand.Read(b); err != nil {
		panic("BUG: crypto/rand never fails: " + err.Error())
	}
}
