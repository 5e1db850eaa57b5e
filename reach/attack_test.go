package reach_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/reach"
	"github.com/muster-p2p/muster/reach/wire"
)

// A callee that reads nothing holds nobody up for long, and is let go.
func TestSlowCallee(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, h []host.Host) {
		s := serve(t, h[0], reach.Config{Limits: reach.Limits{PendingPerCallee: 1000, PendingPerCaller: 1000}})
		defer closing(t, s)
		st := rawStream(t, h[1], h[0])
		say(t, st, wire.Message{Kind: wire.Park})
		time.Sleep(time.Second)
		// It reads nothing. Invitations fill what is between, then writes hang.
		a := client(t, h[2], reach.ClientConfig{})
		var wg sync.WaitGroup
		begin := time.Now()
		for range 10 {
			wg.Go(func() {
				if _, err := a.Invite(t.Context(), h[1].ID(), "", info(h[0])); err == nil {
					t.Error("nobody has said yes")
				}
			})
		}
		wg.Wait()
		if d := time.Since(begin); d > reach.ReplyWait+reach.WriteWait {
			t.Errorf("callers waited for %v", d)
		}
		time.Sleep(reach.DeadAfter)
		if st := s.Stats(); st.Parked != 0 || st.Requests != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A flood of invitations is answered and bounded; it costs the callee what its
// rate allows, and nobody else anything.
func TestFloodOfInvitations(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, h []host.Host) {
		s := serve(t, h[0], reach.Config{})
		defer closing(t, s)
		victim := listen(t, h[1], reach.ClientConfig{}, yes, info(h[0]))
		defer victim.stop()
		victim.wantParked(t, info(h[0]))
		other := listen(t, h[2], reach.ClientConfig{}, yes, info(h[0]))
		defer other.stop()
		other.wantParked(t, info(h[0]))
		flood := client(t, h[3], reach.ClientConfig{})
		var busy, ok int
		for range 500 {
			switch _, err := flood.Invite(t.Context(), h[1].ID(), "", info(h[0])); {
			case err == nil:
				ok++
			case statusOf(err) == wire.Busy:
				busy++
			}
		}
		if ok > 120 || busy == 0 || len(victim.seen()) != ok {
			t.Errorf("%d invitations of a flood of 500 passed, %d busy; the callee has seen %d", ok, busy, len(victim.seen()))
		}
		honest := client(t, h[4], reach.ClientConfig{})
		for _, id := range []peer.ID{h[1].ID(), h[2].ID()} {
			if _, err := honest.Invite(t.Context(), id, "", info(h[0])); err != nil {
				t.Errorf("an honest caller: %v", err)
			}
		}
		if n := s.Stats().Refused["rate"]; n == 0 {
			t.Error("the limit is not counted")
		}
	})
}

// A peer that opens streams and says nothing gets a few of them, for a short
// time; one that parks again and again is told to wait.
func TestFloodOfStreams(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, h []host.Host) {
		s := serve(t, h[0], reach.Config{Limits: reach.Limits{RequestsPerPeer: 4}})
		defer closing(t, s)
		for range 50 {
			st := rawStream(t, h[1], h[0])
			_, _ = st.Write([]byte{0x80}) // a length that does not end
		}
		time.Sleep(time.Second)
		if st := s.Stats(); st.Requests > 4 || st.Refused["streams"] < 40 {
			t.Errorf("%+v", st)
		}
		time.Sleep(reach.FirstWait)
		if st := s.Stats(); st.Requests != 0 || st.Refused["slow"] == 0 {
			t.Errorf("%+v", st)
		}
		for range 100 {
			st := rawStream(t, h[1], h[0])
			say(t, st, wire.Message{Kind: wire.Park})
			_, _ = st.Read(make([]byte, 10))
			_ = st.Reset()
		}
		if st := s.Stats(); st.Parks > 40 {
			t.Errorf("%+v", st)
		}
	})
}

// One source with many identities leaves places for others.
func TestFloodOfStreamsOfOneSource(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, h []host.Host) {
		s := serve(t, h[0], reach.Config{Limits: reach.Limits{RequestsPerPeer: 4, RequestsPerSource: 6}})
		defer closing(t, s)
		for _, from := range h[1:] {
			for range 4 {
				st := rawStream(t, from, h[0])
				_, _ = st.Write([]byte{0x80}) // a length that does not end
			}
		}
		time.Sleep(time.Second)
		if st := s.Stats(); st.Requests != 6 || st.Refused["streams"] == 0 {
			t.Errorf("%+v", st)
		}
		time.Sleep(reach.FirstWait)
		if st := s.Stats(); st.Requests != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A callee that floods its parked stream loses it.
func TestChattyCallee(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, h []host.Host) {
		s := serve(t, h[0], reach.Config{})
		defer closing(t, s)
		st := rawStream(t, h[1], h[0])
		say(t, st, wire.Message{Kind: wire.Park})
		for range 1000 {
			if _, err := st.Write(wire.AppendFrame(nil, &wire.Message{Kind: wire.Reply, Number: 7})); err != nil {
				break
			}
		}
		time.Sleep(time.Second)
		if n := s.Stats().Parked; n != 0 {
			t.Errorf("%d parked", n)
		}
	})
}

// A panic in a hook costs that stream only.
func TestPanicContained(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, h []host.Host) {
		s := serve(t, h[0], reach.Config{Authorize: func(_ context.Context, r reach.Request) error {
			if r.Token == "bomb" {
				panic("injected")
			}
			return nil
		}})
		defer closing(t, s)
		if _, err := client(t, h[1], reach.ClientConfig{AccessToken: "bomb"}).Reserve(t.Context(), info(h[0])); err == nil {
			t.Error("no error")
		}
		if _, err := client(t, h[1], reach.ClientConfig{}).Reserve(t.Context(), info(h[0])); err != nil {
			t.Error(err)
		}
	})
}
