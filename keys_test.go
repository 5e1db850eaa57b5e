package muster_test

import (
	"crypto/rand"
	"net/netip"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
)

var discv5Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}

func newKey(t *testing.T) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
