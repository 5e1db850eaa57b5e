package enr

import (
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/internal/secp"
)

// ErrPeerID is returned for a libp2p identity that is no node: one whose key
// is not secp256k1, or a peer ID that holds only the hash of its key.
var ErrPeerID = errors.New("enr: not a secp256k1 identity")

// peerIDPrefix is an identity multihash (0x00) of 37 bytes that holds a
// PublicKey message: field 1, type Secp256k1 (2), and field 2, 33 bytes.
// https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md
var peerIDPrefix = []byte{0x00, 0x25, 0x08, 0x02, 0x12, 0x21}

// PeerID returns the libp2p peer ID that belongs to the record's key.
func (r *Record) PeerID() peer.ID {
	b, _ := r.bytesOf(keySecp256k1)
	return peer.ID(append(append([]byte{}, peerIDPrefix...), b...))
}

// PeerIDOf returns the libp2p peer ID that belongs to a node's key.
func PeerIDOf(key PublicKey) peer.ID {
	b := key.Compressed()
	return peer.ID(append(append([]byte{}, peerIDPrefix...), b[:]...))
}

// PublicKeyOf returns the node key that a libp2p peer ID holds.
func PublicKeyOf(id peer.ID) (PublicKey, error) {
	n := len(peerIDPrefix)
	if len(id) != n+secp.PublicKeySize || string(id[:n]) != string(peerIDPrefix) {
		return PublicKey{}, fmt.Errorf("%w: %s", ErrPeerID, id)
	}
	return secp.NewPublicKey([]byte(id[n:]))
}

// IDOf returns the node ID that belongs to a libp2p peer ID.
func IDOf(id peer.ID) (ID, error) {
	key, err := PublicKeyOf(id)
	if err != nil {
		return ID{}, err
	}
	return key.NodeID(), nil
}

// PrivateKeyOf returns the node identity that is a libp2p secp256k1 key.
func PrivateKeyOf(key crypto.PrivKey) (*PrivateKey, error) {
	if key.Type() != crypto.Secp256k1 {
		return nil, fmt.Errorf("%w: %s", ErrPeerID, key.Type())
	}
	b, err := key.Raw()
	if err != nil {
		return nil, fmt.Errorf("enr: read key: %w", err)
	}
	return secp.NewPrivateKey(b)
}

// Libp2pKey returns a node's identity as a libp2p key.
func Libp2pKey(key *PrivateKey) (crypto.PrivKey, error) {
	return crypto.UnmarshalSecp256k1PrivateKey(key.Bytes())
}
