package pubsub_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	mocknet "github.com/libp2p/go-libp2p/p2p/net/mock"

	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/pubsub"
	"github.com/muster-p2p/muster/pubsub/wire"
)

// Of a thousand messages with bad signatures none is delivered or forwarded,
// and the sender is gone.
func TestAttackBadSignatures(t *testing.T) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*wire.Fields){
		"flipped bit":    func(f *wire.Fields) { f.Signature[5] ^= 4 },
		"other data":     func(f *wire.Fields) { f.Data = []byte("something else") },
		"no signature":   func(f *wire.Fields) { f.Signature = nil },
		"no author":      func(f *wire.Fields) { f.From = nil },
		"other author":   func(f *wire.Fields) { f.From[10]++ },
		"short seqno":    func(f *wire.Fields) { f.Seqno = f.Seqno[5:] },
		"another's key":  func(f *wire.Fields) { f.Key = []byte("not a key") },
		"empty key":      func(f *wire.Fields) { f.Key = []byte{} },
		"long signature": func(f *wire.Fields) { f.Signature = append(f.Signature, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			ps, h := newPubSub(t, pubsub.WithGossipSubParams(slowBeat()))
			_, sub := subscribe(t, ps, "news")
			behind := newStranger(t, h, pubsub.GossipSubID_v11) // whom it would be forwarded to
			behind.subscribe("news")
			x := newStranger(t, h, pubsub.GossipSubID_v11)
			x.subscribe("news")
			within(t, 5*time.Second, "both in the mesh", func() bool { return len(ps.MeshPeers("news")) == 2 })
			for i := range 1000 {
				f := signAs(t, key, "news", fmt.Sprint("message ", i), i)
				spoil(&f)
				if x.say(publishing(f)) != nil {
					break
				}
			}
			within(t, 3*time.Second, "the sender gone", func() bool {
				return h.Network().Connectedness(x.h.ID()) != network.Connected
			})
			f := behind.sign("news", "good", 1)
			if err := behind.say(publishing(f)); err != nil {
				t.Fatal(err)
			}
			if m := next(t, sub); string(m.Data) != "good" {
				t.Errorf("delivered %q", m.Data)
			}
			behind.mu.Lock()
			defer behind.mu.Unlock()
			if len(behind.messages) != 0 {
				t.Errorf("%d forwarded", len(behind.messages))
			}
		})
	}
}

// A frame that does not come to its end, and a stream on which none begins,
// are closed; a peer that is merely quiet is not.
func TestAttackSlowLoris(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mn := mocknet.New()
		ps, h := mockPubSub(t, mn)
		open := func() (network.Stream, <-chan struct{}) {
			x, err := mn.GenPeer()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = x.Close() })
			x.SetStreamHandler(pubsub.GossipSubID_v11, func(s network.Stream) { readAll(s) })
			link(t, mn, x, h)
			s, err := x.NewStream(t.Context(), h.ID(), pubsub.GossipSubID_v11)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				readAll(s)
			}()
			return s, ended
		}
		write := func(s network.Stream, b ...byte) {
			if _, err := s.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		slow, slowEnded := open()
		write(slow, 0x80, 0x08) // 1024 bytes, of which few will come
		prefix, prefixEnded := open()
		write(prefix, 0x80)
		_, silentEnded := open()
		quiet, quietEnded := open()
		write(quiet, 0)

		for range 29 {
			time.Sleep(time.Second)
			write(slow, 1)
		}
		isOpen(t, "a frame still in time", slowEnded)
		time.Sleep(10 * time.Second)
		isClosed(t, "a frame past its deadline", slowEnded)
		isClosed(t, "a length past its deadline", prefixEnded)
		isOpen(t, "a stream without a frame, in time", silentEnded)
		time.Sleep(time.Minute)
		isClosed(t, "a stream without a frame", silentEnded)
		time.Sleep(time.Hour)
		isOpen(t, "a quiet peer", quietEnded)
		if n := ps.Stats().StuckStreams; n != 3 {
			t.Errorf("%d streams counted as stuck, want 3", n)
		}
	})
}

func readAll(s network.Stream) {
	b := make([]byte, 4096)
	for {
		if _, err := s.Read(b); err != nil {
			return
		}
	}
}

func isOpen(t *testing.T, what string, ended <-chan struct{}) {
	t.Helper()
	synctest.Wait()
	select {
	case <-ended:
		t.Errorf("%s: closed", what)
	default:
	}
}

func isClosed(t *testing.T, what string, ended <-chan struct{}) {
	t.Helper()
	synctest.Wait()
	select {
	case <-ended:
	default:
		t.Errorf("%s: still open", what)
	}
}

// A validator that hangs is left when its time is up; until then so many run
// and no more, other messages wait for nobody, and what was dropped is not
// lost for ever.
func TestAttackHangingValidator(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mn := mocknet.New()
		ps, h := mockPubSub(t, mn)
		_, other := subscribe(t, ps, "other")
		subscribe(t, ps, "news")
		running, most := 0, 0
		slots := make(chan struct{}, 1)
		err := ps.RegisterTopicValidator("news", func(ctx context.Context, _ peer.ID, _ *pubsub.Message) bool {
			slots <- struct{}{}
			running++
			most = max(most, running)
			<-slots
			<-ctx.Done()
			slots <- struct{}{}
			running--
			<-slots
			return true
		}, pubsub.WithValidatorTimeout(5*time.Second), pubsub.WithValidatorConcurrency(10))
		if err != nil {
			t.Fatal(err)
		}
		sender, sh := mockPubSub(t, mn)
		link(t, mn, sh, h)
		flood, err := sender.Join("news")
		if err != nil {
			t.Fatal(err)
		}
		quick, err := sender.Join("other")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		for i := range 100 {
			if err := flood.Publish(t.Context(), fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
		sent := time.Now()
		if err := quick.Publish(t.Context(), []byte("quick")); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(sent); d > 100*time.Millisecond {
			t.Errorf("another topic's message took %v", d)
		}
		time.Sleep(6 * time.Second)
		slots <- struct{}{}
		if most != 10 || running != 0 {
			t.Errorf("%d validators ran at a time, %d still do: want 10 and 0", most, running)
		}
		<-slots
		if n := ps.Stats().Throttled; n < 90 {
			t.Errorf("%d counted as throttled, want 90", n)
		}
	})
}

// A peer with another message-id function announces what nobody recognises
// when it comes. It is forgiven; one that announces and sends nothing is not.
func TestAttackMessageIDs(t *testing.T) {
	for _, tt := range []struct {
		name   string
		honest bool
	}{{"another id function", true}, {"nothing behind it", false}} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				mn := mocknet.New()
				ps, h := mockPubSub(t, mn, pubsub.WithPeerScore(behaviourOnly()))
				subscribe(t, ps, "news")
				x, err := mn.GenPeer()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = x.Close() })
				announce(t, mn, x, h, tt.honest)
				s := ps.Stats()
				t.Logf("%d ids asked for, %d delivered, %d promises broken", s.IWantSent, s.Delivered, s.BrokenPromises)
				if s.IWantSent < 10 {
					t.Errorf("%d ids asked for, want 10", s.IWantSent)
				}
				if broken := s.BrokenPromises > 0; broken == tt.honest {
					t.Errorf("%d promises broken", s.BrokenPromises)
				}
			})
		})
	}
}

// announce tells target of ten messages, a second apart, under ids of its own,
// and if asked sends them, if it is honest.
func announce(t *testing.T, mn mocknet.Mocknet, x, target host.Host, honest bool) {
	t.Helper()
	asked := make(chan struct{}, 100)
	x.SetStreamHandler(pubsub.GossipSubID_v11, func(s network.Stream) {
		each(s, func(rpc *wire.RPC) {
			if len(rpc.IWant) > 0 {
				asked <- struct{}{}
			}
		})
	})
	link(t, mn, x, target)
	s, err := x.NewStream(t.Context(), target.ID(), pubsub.GossipSubID_v11)
	if err != nil {
		t.Fatal(err)
	}
	say := func(rpc []byte) {
		if _, err := s.Write(wire.AppendFrame(nil, rpc)); err != nil {
			t.Fatal(err)
		}
	}
	say(wire.AppendSubscription(nil, "news", true))
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		say(control(wire.Control{IHave: []wire.OutIHave{{Topic: "news", IDs: []string{fmt.Sprint("an id of another kind ", i)}}}}))
		<-asked
		if honest {
			f := signAs(t, key, "news", fmt.Sprint("message ", i), i)
			say(publishing(f))
		}
		time.Sleep(time.Second)
	}
	time.Sleep(5 * time.Second)
}
