package pebblestore_test

import (
	"testing"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/pebblestore"
	"github.com/muster-p2p/muster/rendezvous/storetest"
)

func newStore(t testing.TB, cfg pebblestore.Config) *pebblestore.Store {
	t.Helper()
	s, err := pebblestore.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSuite(t *testing.T) {
	for _, d := range []pebblestore.Durability{pebblestore.Group, pebblestore.Sync, pebblestore.None} {
		t.Run(d.String(), func(t *testing.T) { storetest.Run(t, makerOf(d)) })
	}
}

func maker(testing.TB) storetest.Maker { return makerOf(pebblestore.Group) }

func makerOf(d pebblestore.Durability) storetest.Maker {
	return storetest.Maker{Place: func(t testing.TB) func() rendezvous.Store {
		dir := t.TempDir()
		return func() rendezvous.Store {
			return newStore(t, pebblestore.Config{Dir: dir, Durability: d})
		}
	}}
}
