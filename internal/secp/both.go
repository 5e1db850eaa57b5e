package secp

import (
	"encoding/binary"

	"gitlab.com/yawning/secp256k1-voi"
	"gitlab.com/yawning/secp256k1-voi/secec"
)

// A Signed is a digest with what is said to be a signature of it.
type Signed struct {
	Digest    [digestSize]byte
	Signature []byte
}

// VerifyBoth is Verify of two signatures by p, for two thirds of the price of
// one after the other. A forger passes with a probability below 2^-61 a try.
//
// A signature (r, s) of e is valid if R = (e/s)·G + (r/s)·p has the coordinate
// x = r. Of R only the sign is unknown then. So both points are computed from
// their r, and one combination of the two equations is checked, with a factor
// z that the signer cannot foresee:
//
//	(e1/s1 + z·e2/s2)·G + (r1/s1 + z·r2/s2)·p = ±R1 ± z·R2
//
// If either equation does not hold, at most one z fits for each of the signs.
func (p PublicKey) VerifyBoth(a, b Signed) bool {
	r1, s1, ok1 := parseSignature(a.Signature)
	r2, s2, ok2 := parseSignature(b.Signature)
	if !ok1 || !ok2 {
		return false
	}
	if ambiguous(a.Signature) || ambiguous(b.Signature) {
		return p.Verify(a.Digest, a.Signature) && p.Verify(b.Digest, b.Signature)
	}
	p1, err1 := secp256k1.RecoverPoint(r1, 0)
	p2, err2 := secp256k1.RecoverPoint(r2, 0)
	if err1 != nil || err2 != nil {
		return false // no point has this coordinate
	}
	var seed [8]byte
	Random(seed[:])
	n := binary.BigEndian.Uint64(seed[:])
	z := secp256k1.NewScalarFromUint64(n)

	// One inversion for two: 1/s1 = s2/(s1·s2).
	inv := secp256k1.NewScalar().Multiply(s1, s2)
	inv.Invert(inv)
	w1 := secp256k1.NewScalar().Multiply(inv, s2)
	w2 := secp256k1.NewScalar().Product(inv, s1, z)
	e1, _ := secp256k1.NewScalarFromBytes(&a.Digest)
	e2, _ := secp256k1.NewScalarFromBytes(&b.Digest)
	g := secp256k1.NewScalar().Sum(e1.Multiply(e1, w1), e2.Multiply(e2, w2))
	q := secp256k1.NewScalar().Sum(r1.Multiply(r1, w1), r2.Multiply(r2, w2))

	sum := secp256k1.NewIdentityPoint().DoubleScalarMultBasepointVartime(g, q, p.key.Point())
	zp2 := smallMult(n, p2)
	plus := secp256k1.NewIdentityPoint().Add(p1, zp2)
	minus := secp256k1.NewIdentityPoint().Subtract(p1, zp2)
	return equalOrOpposite(sum, plus) || equalOrOpposite(sum, minus)
}

func parseSignature(sig []byte) (r, s *secp256k1.Scalar, ok bool) {
	if len(sig) != SignatureSize {
		return nil, nil, false
	}
	r, s, err := secec.ParseCompactSignature(sig)
	return r, s, err == nil && s.IsGreaterThanHalfN() == 0
}

// ambiguous reports whether r may be x less the order of the group. Those are
// the r below 2^129, which nobody makes by chance.
func ambiguous(sig []byte) bool { return [15]byte(sig) == [15]byte{} }

func equalOrOpposite(a, b *secp256k1.Point) bool {
	return a.Equal(b) == 1 || a.Equal(secp256k1.NewIdentityPoint().Negate(b)) == 1
}

// smallMult multiplies a point, four bits of n at a time. It takes a time that
// depends on n.
func smallMult(n uint64, p *secp256k1.Point) *secp256k1.Point {
	var table [16]*secp256k1.Point
	table[0], table[1] = secp256k1.NewIdentityPoint(), p
	for i := 2; i < len(table); i++ {
		table[i] = secp256k1.NewIdentityPoint()
		if i%2 == 0 {
			table[i].Double(table[i/2])
		} else {
			table[i].Add(table[i-1], p)
		}
	}
	out := secp256k1.NewIdentityPoint()
	for shift := 60; shift >= 0; shift -= 4 {
		if shift < 60 {
			for range 4 {
				out.Double(out)
			}
		}
		if d := n >> shift & 15; d > 0 {
			out.Add(out, table[d])
		}
	}
	return out
}
