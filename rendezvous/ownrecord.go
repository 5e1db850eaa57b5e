package rendezvous

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// maxRegister is the longest request that nim-libp2p reads; what surrounds
// the record and name in it takes less than maxRegisterFrame bytes.
const (
	maxRegister      = 4096
	maxRegisterFrame = 64
)

// An ownRecord is the record that this host registers with, signed for the
// addresses it was made for.
type ownRecord struct {
	addrs    [][]byte
	envelope []byte
}

// trimAddrs orders addresses by how likely a stranger can use them, public
// ones first, then relayed, then private, and cuts the list to what servers
// accept.
func trimAddrs(addrs []ma.Multiaddr, most int) [][]byte {
	sorted := slices.Clone(addrs)
	slices.SortStableFunc(sorted, func(a, b ma.Multiaddr) int { return cmp.Compare(rank(a), rank(b)) })
	var out [][]byte
	size := 0
	for _, a := range sorted {
		b := a.Bytes()
		if size+len(b) > most || len(out) == MaxRecordAddrs || slices.ContainsFunc(out, func(x []byte) bool { return bytes.Equal(x, b) }) {
			continue
		}
		size += len(b)
		out = append(out, b)
	}
	return out
}

func rank(a ma.Multiaddr) int {
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	switch {
	case err == nil:
		return 1
	case manet.IsIPLoopback(a):
		return 3
	case manet.IsPrivateAddr(a):
		return 2
	default:
		return 0
	}
}

// seal signs a record with the given addresses.
func sealRecord(key crypto.PrivKey, id peer.ID, addrs [][]byte) ([]byte, error) {
	rec := &peer.PeerRecord{PeerID: id, Addrs: parseAddrs(addrs), Seq: peer.TimestampSeq()}
	env, err := record.Seal(rec, key)
	if err != nil {
		return nil, err
	}
	return env.Marshal()
}

// fits reports whether a REGISTER with the record is short enough for all.
func fits(ns string, rec []byte) bool {
	return len(ns)+len(rec)+maxRegisterFrame <= maxRegister
}

// peerInfo is the same in the older form.
func peerInfo(id peer.ID, addrs [][]byte) []byte {
	return wire.AppendPeerInfo(nil, &wire.PeerRecord{ID: []byte(id), Addrs: addrs})
}
