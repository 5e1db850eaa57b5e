package enr

import "github.com/muster-p2p/muster/internal/secp"

// A PrivateKey is a node's identity: a secp256k1 key.
type PrivateKey = secp.PrivateKey

// A PublicKey is the public half of a PrivateKey.
type PublicKey = secp.PublicKey

// GenerateKey makes a new identity from the system's randomness.
func GenerateKey() (*PrivateKey, error) { return secp.GenerateKey() }

// NewPrivateKey reads an identity of 32 bytes, big endian.
func NewPrivateKey(b []byte) (*PrivateKey, error) { return secp.NewPrivateKey(b) }
