package pubsub

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func at(d time.Duration) time.Time { return start.Add(d) }

// scoreParams are parameters in which nothing counts until a test says so.
func scoreParams(change func(*PeerScoreParams, *TopicScoreParams)) *PeerScoreParams {
	tp := &TopicScoreParams{
		TopicWeight: 1, TimeInMeshQuantum: time.Second,
		FirstMessageDeliveriesDecay: 0.5, FirstMessageDeliveriesCap: 1000,
		MeshMessageDeliveriesDecay: 0.5, MeshMessageDeliveriesCap: 1000,
		MeshMessageDeliveriesActivation: time.Second, MeshMessageDeliveriesWindow: 10 * time.Millisecond,
		MeshFailurePenaltyDecay: 0.5, InvalidMessageDeliveriesDecay: 0.5,
	}
	p := &PeerScoreParams{
		AppSpecificScore: func(peer.ID) float64 { return 0 },
		Topics:           map[string]*TopicScoreParams{"news": tp},
		DecayInterval:    time.Second, DecayToZero: 0.1, RetainScore: time.Hour,
		BehaviourPenaltyDecay: 0.5, SlowPeerDecay: 0.5,
	}
	change(p, tp)
	return p
}

func testScorer(t *testing.T, change func(*PeerScoreParams, *TopicScoreParams)) *scorer {
	t.Helper()
	p := scoreParams(change)
	if err := p.validate(); err != nil {
		t.Fatal(err)
	}
	s := newScorer(p)
	for _, id := range []peer.ID{"a", "b", "c"} {
		s.addPeer(start, id, nil)
	}
	return s
}

func wantScore(t *testing.T, s *scorer, now time.Time, p peer.ID, want float64) {
	t.Helper()
	if got := s.score(now, p); math.Abs(got-want) > 1e-9 {
		t.Errorf("score of %s at %v = %v, want %v", p, now.Sub(start), got, want)
	}
}

// "P1 is the time a peer has been in the mesh, capped": in whole quanta.
func TestScoreTimeInMesh(t *testing.T) {
	s := testScorer(t, func(_ *PeerScoreParams, tp *TopicScoreParams) {
		tp.TopicWeight, tp.TimeInMeshWeight, tp.TimeInMeshCap, tp.TimeInMeshQuantum = 0.5, 2, 10, 2*time.Second
	})
	wantScore(t, s, start, "a", 0)
	s.graft(start, "a", "news")
	s.graft(start, "a", "a topic without parameters")
	wantScore(t, s, at(1999*time.Millisecond), "a", 0)
	wantScore(t, s, at(5*time.Second), "a", 2)
	wantScore(t, s, at(time.Hour), "a", 10)
	wantScore(t, s, at(time.Hour), "b", 0)
	s.prune(at(time.Hour), "a", "news")
	wantScore(t, s, at(time.Hour), "a", 0)
	wantScore(t, s, start, "stranger", 0)
}

// "P2 is the number of messages first delivered by the peer", capped, decaying.
func TestScoreFirstDeliveries(t *testing.T) {
	s := testScorer(t, func(_ *PeerScoreParams, tp *TopicScoreParams) {
		tp.FirstMessageDeliveriesWeight, tp.FirstMessageDeliveriesCap = 1, 50
	})
	for i := range 100 {
		id := fmt.Sprint(i)
		s.validating(start, id)
		s.deliver(start, id, "a", "news")
		s.duplicate(start, id, "b", "news")
	}
	wantScore(t, s, start, "a", 50)
	wantScore(t, s, start, "b", 0)
	for _, want := range []float64{25, 12.5, 6.25, 3.125, 1.5625, 0.78125, 0.390625, 0.1953125, 0} {
		s.refresh(start)
		wantScore(t, s, start, "a", want) // below 0.1 it is zero
	}
}

// "P3 is the deficit, squared, of message deliveries of a mesh peer", which
// counts once the peer has been in the mesh for the activation time.
func TestScoreMeshDeliveries(t *testing.T) {
	s := testScorer(t, func(_ *PeerScoreParams, tp *TopicScoreParams) {
		tp.MeshMessageDeliveriesWeight, tp.MeshMessageDeliveriesThreshold = -1, 5
		tp.MeshMessageDeliveriesActivation, tp.MeshMessageDeliveriesCap = 10*time.Second, 8
	})
	for _, p := range []peer.ID{"a", "b", "c"} {
		s.graft(start, p, "news")
	}
	send := func(now time.Time, id string) {
		s.validating(now, id)
		s.duplicate(now, id, "b", "news") // meanwhile: near-first
		s.duplicate(now, id, "b", "news") // once per peer and message
		s.duplicate(now, id, "a", "news") // by the first deliverer
		s.deliver(now, id, "a", "news")
		s.duplicate(now.Add(10*time.Millisecond), id, "c", "news") // in the window
		s.duplicate(now.Add(5*time.Millisecond), id, "c", "news")
	}
	wantScore(t, s, at(10*time.Second), "a", 0) // not yet active
	wantScore(t, s, at(10*time.Second+1), "a", -25)
	for i := range 3 {
		send(at(10*time.Second), fmt.Sprint(i))
	}
	for _, p := range []peer.ID{"a", "b", "c"} {
		wantScore(t, s, at(11*time.Second), p, -4)
	}
	s.validating(at(11*time.Second), "late")
	s.deliver(at(11*time.Second), "late", "a", "news")
	s.duplicate(at(11*time.Second+11*time.Millisecond), "late", "b", "news") // after the window
	wantScore(t, s, at(11*time.Second), "a", -1)
	wantScore(t, s, at(11*time.Second), "b", -4)
	for i := range 20 {
		send(at(12*time.Second), fmt.Sprint("more", i))
	}
	wantScore(t, s, at(12*time.Second), "a", 0)
	s.refresh(at(13 * time.Second)) // capped at 8, so it decays to 4
	wantScore(t, s, at(13*time.Second), "a", -1)
}

func TestScoreMeshDeliveriesOutsideMesh(t *testing.T) {
	s := testScorer(t, func(_ *PeerScoreParams, tp *TopicScoreParams) {
		tp.MeshMessageDeliveriesWeight, tp.MeshMessageDeliveriesThreshold = -1, 5
	})
	s.validating(start, "id")
	s.duplicate(start, "id", "a", "news")
	s.deliver(start, "id", "b", "news")
	if ts := s.stats("a", "news"); ts.mesh != 0 {
		t.Errorf("a peer outside the mesh has %v mesh deliveries", ts.mesh)
	}
	wantScore(t, s, at(time.Hour), "a", 0)
}

// "P3b: mesh failures, applied when a peer is pruned with a deficit".
func TestScoreMeshFailure(t *testing.T) {
	s := testScorer(t, func(_ *PeerScoreParams, tp *TopicScoreParams) {
		tp.MeshFailurePenaltyWeight, tp.MeshMessageDeliveriesThreshold = -1, 5
	})
	s.graft(start, "a", "news")
	s.graft(start, "b", "news")
	s.prune(at(time.Second), "b", "news") // before it was active: no penalty
	wantScore(t, s, at(time.Second), "b", 0)
	wantScore(t, s, at(2*time.Second), "a", 0) // in the mesh: not yet
	s.prune(at(2*time.Second), "a", "news")
	wantScore(t, s, at(2*time.Second), "a", -25)
	s.prune(at(2*time.Second), "a", "news") // twice is once
	wantScore(t, s, at(2*time.Second), "a", -25)
	s.refresh(at(3 * time.Second))
	wantScore(t, s, at(3*time.Second), "a", -12.5)
	s.graft(at(3*time.Second), "a", "news")
	s.removePeer(at(5*time.Second), "a") // leaving is no way around it
	wantScore(t, s, at(5*time.Second), "a", -12.5-25)
}

// "P4: the number of invalid messages, squared".
func TestScoreInvalid(t *testing.T) {
	s := testScorer(t, func(_ *PeerScoreParams, tp *TopicScoreParams) { tp.InvalidMessageDeliveriesWeight = -1 })
	s.validating(start, "bad")
	s.duplicate(start, "bad", "b", "news")
	s.reject(start, "bad", "a", "news")
	s.duplicate(start, "bad", "c", "news")
	s.duplicate(start, "bad", "c", "news")
	s.duplicate(start, "bad", "a", "news")
	s.deliver(start, "bad", "a", "news") // the verdict stands
	for _, p := range []peer.ID{"a", "b", "c"} {
		wantScore(t, s, start, p, -1)
	}
	s.invalid("a", "news")
	s.invalid("a", "news")
	wantScore(t, s, start, "a", -9)
	s.refresh(start)
	wantScore(t, s, start, "a", -2.25)
}

// "ignored" scores nobody, neither those before the verdict nor those after.
func TestScoreIgnored(t *testing.T) {
	s := testScorer(t, func(_ *PeerScoreParams, tp *TopicScoreParams) {
		tp.InvalidMessageDeliveriesWeight, tp.FirstMessageDeliveriesWeight = -1, 1
	})
	s.validating(start, "meh")
	s.duplicate(start, "meh", "b", "news")
	s.ignore(start, "meh")
	s.duplicate(start, "meh", "c", "news")
	s.deliver(start, "meh", "a", "news")
	s.reject(start, "meh", "a", "news")
	for _, p := range []peer.ID{"a", "b", "c"} {
		wantScore(t, s, start, p, 0)
	}
}

func TestScoreTopicCap(t *testing.T) {
	s := testScorer(t, func(p *PeerScoreParams, tp *TopicScoreParams) {
		p.TopicScoreCap, p.AppSpecificWeight = 10, 1
		p.AppSpecificScore = func(peer.ID) float64 { return 7 }
		tp.FirstMessageDeliveriesWeight, tp.InvalidMessageDeliveriesWeight = 1, -10
	})
	for i := range 50 {
		s.deliver(start, fmt.Sprint(i), "a", "news")
	}
	wantScore(t, s, start, "a", 10+7) // the cap is for topics alone
	for range 3 {
		s.invalid("b", "news")
	}
	wantScore(t, s, start, "b", -90+7) // and for what is above zero
}

func TestScoreApp(t *testing.T) {
	value := map[peer.ID]float64{"a": -1000, "b": 3, "c": math.NaN()}
	s := testScorer(t, func(p *PeerScoreParams, _ *TopicScoreParams) {
		p.AppSpecificWeight, p.AppSpecificScore = 0.5, func(p peer.ID) float64 { return value[p] }
	})
	wantScore(t, s, start, "a", -500)
	wantScore(t, s, start, "b", 1.5)
	wantScore(t, s, start, "c", 0)
}

// "P6: the number of peers in the same IP above the threshold, squared".
func TestScoreColocation(t *testing.T) {
	addr := netip.MustParseAddr
	_, white, _ := net.ParseCIDR("2.3.0.0/16")
	s := testScorer(t, func(p *PeerScoreParams, _ *TopicScoreParams) {
		p.IPColocationFactorWeight, p.IPColocationFactorThreshold = -1, 1
		p.IPColocationFactorWhitelist = []*net.IPNet{white}
	})
	for _, p := range []peer.ID{"a", "b", "c"} {
		s.setIPs(p, []netip.Addr{addr("1.2.3.4"), addr("::ffff:1.2.3.4"), addr("127.0.0.1"), addr("::1")})
	}
	s.addPeer(start, "d", []netip.Addr{addr("2.3.4.5")})
	s.addPeer(start, "e", []netip.Addr{addr("2.3.4.5")})
	s.addPeer(start, "f", []netip.Addr{addr("2001:db8::1")})
	s.addPeer(start, "g", []netip.Addr{addr("2001:db8::2")})
	s.addPeer(start, "h", []netip.Addr{addr("2001:db8:0:1::2")})
	for p, want := range map[peer.ID]float64{"a": -4, "b": -4, "d": 0, "e": 0, "f": -1, "g": -1, "h": 0} {
		wantScore(t, s, start, p, want)
	}
	s.setIPs("a", []netip.Addr{addr("9.9.9.9")})
	wantScore(t, s, start, "a", 0)
	wantScore(t, s, start, "b", -1)
	s.removePeer(start, "b") // retained, and still counted
	wantScore(t, s, start, "c", -1)
	s.refresh(at(2 * time.Hour))
	wantScore(t, s, start, "c", 0)
	for _, p := range slices.Collect(maps.Keys(s.peers)) {
		s.forget(p)
	}
	if len(s.ips) != 0 {
		t.Errorf("addresses of nobody: %v", s.ips)
	}
}

// "P7: misbehaviour above the threshold, squared, decaying".
func TestScoreBehaviour(t *testing.T) {
	s := testScorer(t, func(p *PeerScoreParams, _ *TopicScoreParams) {
		p.BehaviourPenaltyWeight, p.BehaviourPenaltyThreshold = -1, 2
	})
	s.penalize("a", 2)
	wantScore(t, s, start, "a", 0)
	s.penalize("a", 4)
	wantScore(t, s, start, "a", -16)
	s.refresh(start)
	wantScore(t, s, start, "a", -1)
	s.penalize("stranger", 5)
	wantScore(t, s, start, "stranger", 0)
}

func TestScoreSlow(t *testing.T) {
	s := testScorer(t, func(p *PeerScoreParams, _ *TopicScoreParams) { p.SlowPeerWeight, p.SlowPeerThreshold = -0.5, 10 })
	s.slow("a", 10)
	wantScore(t, s, start, "a", 0)
	s.slow("a", 30)
	wantScore(t, s, start, "a", -15)
	s.refresh(start)
	wantScore(t, s, start, "a", -5)
}

// "retain only non-positive scores", and nothing decays meanwhile.
func TestScoreRetention(t *testing.T) {
	s := testScorer(t, func(p *PeerScoreParams, tp *TopicScoreParams) {
		p.BehaviourPenaltyWeight = -1
		tp.FirstMessageDeliveriesWeight = 1
	})
	s.deliver(start, "1", "a", "news")
	s.removePeer(start, "a")
	s.addPeer(start, "a", nil)
	wantScore(t, s, start, "a", 0) // a good score is forgotten

	s.deliver(start, "2", "b", "news")
	s.penalize("b", 3)
	wantScore(t, s, start, "b", 1-9)
	s.removePeer(start, "b")
	s.removePeer(start, "b")
	for i := range 59 {
		s.refresh(at(time.Duration(i) * time.Minute))
	}
	s.addPeer(at(time.Hour), "b", nil)
	wantScore(t, s, at(time.Hour), "b", -9) // P2 is zeroed, P7 stays
	s.refresh(at(2 * time.Hour))            // the old entry does not forget who is back
	wantScore(t, s, at(2*time.Hour), "b", -2.25)

	s.penalize("c", 3)
	s.removePeer(start, "c")
	s.refresh(at(time.Hour))
	wantScore(t, s, start, "c", -9)
	s.refresh(at(time.Hour + 1))
	wantScore(t, s, start, "c", 0)
	if len(s.gone) != 0 {
		t.Errorf("%d still on the list of the gone", len(s.gone))
	}
}

func TestScoreRetentionBounded(t *testing.T) {
	s := testScorer(t, func(p *PeerScoreParams, _ *TopicScoreParams) { p.BehaviourPenaltyWeight = -1 })
	for i := range 3 * maxRetained {
		p := peer.ID(fmt.Sprint(i))
		s.addPeer(start, p, nil)
		s.penalize(p, 1)
		s.removePeer(start, p)
	}
	if len(s.peers) > maxRetained+3 || len(s.gone) > maxRetained {
		t.Errorf("%d peers kept, want at most %d", len(s.peers), maxRetained+3)
	}
}

func TestScoreDeliveriesBounded(t *testing.T) {
	s := testScorer(t, func(p *PeerScoreParams, _ *TopicScoreParams) { p.SeenMsgTTL = time.Minute })
	for i := range maxDeliveries + 5000 {
		s.validating(start, fmt.Sprint(i))
	}
	if n := len(s.deliveries.records); n > maxDeliveries {
		t.Errorf("%d messages remembered, want at most %d", n, maxDeliveries)
	}
	for i := range 1000 {
		s.duplicate(start, fmt.Sprint(maxDeliveries+4999), peer.ID(fmt.Sprint(i)), "news")
	}
	if n := len(s.deliveries.records[fmt.Sprint(maxDeliveries+4999)].peers); n > maxDeliverers {
		t.Errorf("%d peers remembered, want at most %d", n, maxDeliverers)
	}
	s.refresh(at(time.Minute))
	if len(s.deliveries.records) != maxDeliveries {
		t.Error("forgotten before the time to live")
	}
	s.refresh(at(time.Minute + 1))
	if len(s.deliveries.records) != 0 || len(s.deliveries.queue) != 0 {
		t.Errorf("%d messages after the time to live", len(s.deliveries.records))
	}
}

func TestScoreSetTopic(t *testing.T) {
	s := testScorer(t, func(_ *PeerScoreParams, tp *TopicScoreParams) { tp.FirstMessageDeliveriesWeight = 1 })
	for i := range 100 {
		s.deliver(start, fmt.Sprint(i), "a", "news")
	}
	tp := *s.params.Topics["news"]
	tp.FirstMessageDeliveriesCap = 10
	if err := s.setTopic("news", &tp); err != nil {
		t.Fatal(err)
	}
	wantScore(t, s, start, "a", 10)
	if err := s.setTopic("news", &TopicScoreParams{TopicWeight: -1}); err == nil {
		t.Error("accepted a negative weight")
	}
	wantScore(t, s, start, "a", 10)
	if err := s.setTopic("chat", &tp); err != nil {
		t.Fatal(err)
	}
	s.deliver(start, "chat", "a", "chat")
	wantScore(t, s, start, "a", 11)
}

func TestScoreSnapshot(t *testing.T) {
	s := testScorer(t, func(p *PeerScoreParams, tp *TopicScoreParams) {
		p.AppSpecificWeight, p.AppSpecificScore = 1, func(peer.ID) float64 { return 5 }
		tp.FirstMessageDeliveriesWeight = 1
	})
	s.graft(start, "a", "news")
	s.deliver(start, "1", "a", "news")
	s.invalid("a", "news")
	s.penalize("a", 2)
	s.slow("a", 3)
	got := s.snapshot(at(4*time.Second), "a")
	if got.Score != 6 || got.AppSpecificScore != 5 || got.BehaviourPenalty != 2 || got.SlowPeerPenalty != 3 || got.IPColocationFactor != 0 {
		t.Errorf("snapshot %+v", got)
	}
	if want := (TopicScoreSnapshot{4 * time.Second, 1, 1, 1}); *got.Topics["news"] != want {
		t.Errorf("topic %+v, want %+v", *got.Topics["news"], want)
	}
	if s.snapshot(start, "stranger") != nil {
		t.Error("a snapshot of a stranger")
	}
	if known := slices.Sorted(s.peersKnown()); !slices.Equal(known, []peer.ID{"a", "b", "c"}) {
		t.Errorf("known %v", known)
	}
}

// A quantum of zero, which partial validation lets pass, divides nothing.
func TestScoreQuantumZero(t *testing.T) {
	s := newScorer(&PeerScoreParams{
		SkipAtomicValidation: true,
		Topics:               map[string]*TopicScoreParams{"news": {SkipAtomicValidation: true, TopicWeight: 1}},
	})
	s.addPeer(start, "a", nil)
	s.graft(start, "a", "news")
	wantScore(t, s, at(time.Hour), "a", 0)
}

// Whatever happens in whatever order, scores are numbers and nothing is left
// over of peers that have been forgotten.
func TestScoreRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	s := testScorer(t, func(p *PeerScoreParams, tp *TopicScoreParams) {
		p.BehaviourPenaltyWeight, p.IPColocationFactorWeight, p.IPColocationFactorThreshold = -1, -1, 1
		p.RetainScore, p.SeenMsgTTL = 10*time.Second, 5*time.Second
		tp.TimeInMeshWeight, tp.TimeInMeshCap, tp.FirstMessageDeliveriesWeight = 0.1, 100, 1
		tp.MeshMessageDeliveriesWeight, tp.MeshMessageDeliveriesThreshold = -1, 5
		tp.MeshFailurePenaltyWeight, tp.InvalidMessageDeliveriesWeight = -1, -1
	})
	now := start
	for range 50_000 {
		p, id := peer.ID(fmt.Sprint(rnd.IntN(20))), fmt.Sprint(rnd.IntN(100))
		ip := netip.AddrFrom4([4]byte{10, 0, 0, byte(rnd.IntN(5))})
		switch rnd.IntN(14) {
		case 0:
			s.addPeer(now, p, []netip.Addr{ip})
		case 1:
			s.removePeer(now, p)
		case 2:
			s.graft(now, p, "news")
		case 3:
			s.prune(now, p, "news")
		case 4:
			s.validating(now, id)
		case 5:
			s.deliver(now, id, p, "news")
		case 6:
			s.reject(now, id, p, "news")
		case 7:
			s.ignore(now, id)
		case 8:
			s.penalize(p, 1)
		case 9:
			now = now.Add(time.Duration(rnd.IntN(1500)) * time.Millisecond)
			s.refresh(now)
		case 10:
			s.setIPs(p, []netip.Addr{ip})
		default:
			s.duplicate(now, id, p, "news")
		}
		if v := s.score(now, p); math.IsNaN(v) || math.IsInf(v, 0) {
			t.Fatalf("score %v", v)
		}
	}
	count := map[netip.Prefix]int{}
	for _, ps := range s.peers {
		for _, ip := range ps.ips {
			count[ip]++
		}
	}
	if !maps.Equal(count, s.ips) {
		t.Errorf("addresses counted %v, are %v", s.ips, count)
	}
	if len(s.deliveries.records) != len(s.deliveries.queue)-s.deliveries.head {
		t.Errorf("%d records, %d queued", len(s.deliveries.records), len(s.deliveries.queue)-s.deliveries.head)
	}
}

func BenchmarkScoreDelivery(b *testing.B) {
	p := scoreParams(func(*PeerScoreParams, *TopicScoreParams) {})
	s := newScorer(p)
	s.addPeer(start, "a", nil)
	s.graft(start, "a", "news")
	now := start
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprint(i)
		now = now.Add(time.Millisecond)
		s.validating(now, id)
		s.deliver(now, id, "a", "news")
		s.duplicate(now, id, "b", "news")
		if i%1000 == 0 {
			s.refresh(now)
		}
	}
}
