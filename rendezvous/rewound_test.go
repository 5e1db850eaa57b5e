package rendezvous_test

import (
	"context"
	"testing"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/wire"
)

// An oldCopy is a store that keeps its identity and its first positions.
type oldCopy struct{ rendezvous.Memory }

func (s *oldCopy) Open(ctx context.Context, _ rendezvous.Meta, apply func([]rendezvous.Change)) (rendezvous.Meta, error) {
	return s.Memory.Open(ctx, rendezvous.Meta{Epoch: 7, Secret: [32]byte{1}, Sole: true}, apply)
}

// A copy of the store from before was put back: cookies from after it start
// again, or their owners would miss what is registered next.
func TestCookieOfLostHistory(t *testing.T) {
	h := newHost(t)
	store := &oldCopy{}
	p := pointOn(t, h, rendezvous.Config{Store: store})
	fill(t, store, "lab", 10)
	me := newHost(t)
	read := func(cookie []byte) wire.Message {
		return dialRaw(t, me, h, wire.Libp2p).wantStatus(wire.OK, discover("lab", 0, cookie))
	}
	early := read(nil) // all 10
	fill(t, store, "lab", 20)
	late := read(early.Cookie)
	if n := len(late.Records); n != 20 {
		t.Errorf("%d records, want the 10 refreshed ones and 10 new ones", n)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	store = &oldCopy{}
	pointOn(t, h, rendezvous.Config{Store: store})
	fill(t, store, "lab", 11)
	for i, tt := range []struct {
		cookie []byte
		want   int
	}{{early.Cookie, 1}, {late.Cookie, 11}} {
		res := read(tt.cookie)
		if len(res.Records) != tt.want {
			t.Errorf("cookie %d: %d records, want %d", i, len(res.Records), tt.want)
		}
		if again := read(res.Cookie); len(again.Records) != 0 {
			t.Errorf("cookie %d: then %d more", i, len(again.Records))
		}
	}
}
