package storetest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	storetest.Run(t, storetest.Maker{
		Place: func(testing.TB) func() rendezvous.Store {
			return func() rendezvous.Store { return rendezvous.NewMemory() }
		},
		Forgets: true,
	})
}
