package enr

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/bits"
)

// An ID is a node's address in the DHT: 32 bytes.
type ID [32]byte

// ParseID reads an ID of 64 hexadecimal digits, with or without 0x.
func ParseID(s string) (ID, error) {
	if len(s) == 66 && s[:2] == "0x" {
		s = s[2:]
	}
	var id ID
	if len(s) != 2*len(id) {
		return ID{}, errors.New("enr: a node ID has 64 hexadecimal digits")
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, errors.New("enr: a node ID has hexadecimal digits only")
	}
	return id, nil
}

// String returns the 64 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err == nil {
		*id = v
	}
	return err
}

// LogDistance is the bit length of a XOR b: 0 if they are equal, 256 if
// their first bits differ. It is the distance that FINDNODE speaks of.
// https://github.com/ethereum/devp2p/blob/master/discv5/discv5-theory.md#nodes-records-and-distances
func LogDistance(a, b ID) int {
	for i := range a {
		if x := a[i] ^ b[i]; x != 0 {
			return (len(a)-i)*8 - bits.LeadingZeros8(x)
		}
	}
	return 0
}

// CompareDistance orders a and b by their distance to target: negative if a
// is nearer, zero if they are the same.
func CompareDistance(target, a, b ID) int {
	for i := range target {
		x, y := a[i]^target[i], b[i]^target[i]
		if x != y {
			return int(x) - int(y)
		}
	}
	return 0
}

// Compare orders IDs as numbers.
func (id ID) Compare(o ID) int { return bytes.Compare(id[:], o[:]) }
