package rendezvous

import (
	"bytes"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// A record that is admitted is within its bounds and read back by the client.
func FuzzRecord(f *testing.F) {
	key, _, err := crypto.GenerateEd25519Key(bytes.NewReader(make([]byte, 64)))
	if err != nil {
		f.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	addr := ma.StringCast("/ip4/192.0.2.1/tcp/1").Bytes()
	good, err := sealRecord(key, id, [][]byte{addr})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(peerInfo(id, [][]byte{addr}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := admitRecord(b, id); err == nil {
			found, ok := readFound(&wire.Registration{Record: b}, "lab", false)
			if !ok || found.ID != id || len(found.Addrs) == 0 || len(found.Addrs) > MaxRecordAddrs {
				t.Errorf("admitted, and found %+v", found)
			}
		}
		if stored, err := admitPeerInfo(b, id); err == nil {
			found, ok := readFound(&wire.Registration{Record: stored}, "lab", true)
			if !ok || found.ID != id || len(found.Addrs) == 0 || found.Record != nil {
				t.Errorf("admitted, and found %+v", found)
			}
		}
	})
}
