package pubsub

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestThresholdsValidate(t *testing.T) {
	for _, tt := range []struct {
		name string
		t    PeerScoreThresholds
		want string // part of the error, or none
	}{
		{"zero", PeerScoreThresholds{}, ""},
		{"usual", PeerScoreThresholds{GossipThreshold: -1, PublishThreshold: -2, GraylistThreshold: -3, AcceptPXThreshold: 1, OpportunisticGraftThreshold: 2}, ""},
		{"equal", PeerScoreThresholds{GossipThreshold: -1, PublishThreshold: -1, GraylistThreshold: -1}, ""},
		{"gossip above zero", PeerScoreThresholds{GossipThreshold: 1}, "gossip threshold must not be above zero"},
		{"publish above gossip", PeerScoreThresholds{GossipThreshold: -2, PublishThreshold: -1, GraylistThreshold: -3}, "publish threshold must not be above the gossip"},
		{"graylist above publish", PeerScoreThresholds{GossipThreshold: -1, PublishThreshold: -3, GraylistThreshold: -2}, "graylist threshold must not be above the publish"},
		{"PX below zero", PeerScoreThresholds{AcceptPXThreshold: -1}, "accept PX"},
		{"opportunistic below zero", PeerScoreThresholds{OpportunisticGraftThreshold: -1}, "opportunistic"},
		{"no number", PeerScoreThresholds{GossipThreshold: math.NaN()}, "number"},
		{"infinite", PeerScoreThresholds{OpportunisticGraftThreshold: math.Inf(1)}, "number"},
		{"in part", PeerScoreThresholds{SkipAtomicValidation: true, AcceptPXThreshold: 5}, ""},
		{"in part, wrong", PeerScoreThresholds{SkipAtomicValidation: true, GossipThreshold: 5}, "gossip"},
	} {
		wantError(t, tt.name, tt.t.validate(), tt.want)
	}
}

func TestPeerParamsValidate(t *testing.T) {
	app := func(peer.ID) float64 { return 0 }
	for _, tt := range []struct {
		name string
		p    PeerScoreParams
		want string
	}{
		{"least", PeerScoreParams{AppSpecificScore: app}, ""},
		{"no app score", PeerScoreParams{}, "application specific score function is missing"},
		{"no app score, in part", PeerScoreParams{SkipAtomicValidation: true}, ""},
		{"cap below zero", PeerScoreParams{AppSpecificScore: app, TopicScoreCap: -1}, "cap"},
		{"colocation above zero", PeerScoreParams{AppSpecificScore: app, IPColocationFactorWeight: 1}, "colocation factor weight"},
		{"colocation threshold", PeerScoreParams{AppSpecificScore: app, IPColocationFactorWeight: -1}, "colocation factor threshold"},
		{"behaviour above zero", PeerScoreParams{AppSpecificScore: app, BehaviourPenaltyWeight: 1}, "behaviour penalty weight"},
		{"behaviour decay", PeerScoreParams{AppSpecificScore: app, BehaviourPenaltyWeight: -1, BehaviourPenaltyDecay: 2}, "behaviour penalty decay"},
		{"behaviour threshold", PeerScoreParams{AppSpecificScore: app, BehaviourPenaltyWeight: -1, BehaviourPenaltyDecay: 0.5, BehaviourPenaltyThreshold: -1}, "behaviour penalty threshold"},
		{"decay interval", PeerScoreParams{AppSpecificScore: app, DecayInterval: time.Millisecond, DecayToZero: 0.1}, "decay interval"},
		{"decay to zero", PeerScoreParams{AppSpecificScore: app, DecayInterval: time.Second, DecayToZero: 1}, "decay to zero"},
		{"retain", PeerScoreParams{AppSpecificScore: app, RetainScore: -1}, "times"},
		{"topic", PeerScoreParams{AppSpecificScore: app, Topics: map[string]*TopicScoreParams{"news": {TopicWeight: -1, TimeInMeshQuantum: 1, InvalidMessageDeliveriesDecay: 0.1}}}, `topic "news": `},
		{"nil topic", PeerScoreParams{AppSpecificScore: app, Topics: map[string]*TopicScoreParams{"news": nil}}, "missing"},
	} {
		wantError(t, tt.name, tt.p.validate(), tt.want)
	}
}

func TestTopicParamsValidate(t *testing.T) {
	base := func(change func(*TopicScoreParams)) *TopicScoreParams {
		p := scoreParams(func(*PeerScoreParams, *TopicScoreParams) {}).Topics["news"]
		change(p)
		return p
	}
	for _, tt := range []struct {
		name   string
		change func(*TopicScoreParams)
		want   string
	}{
		{"usual", func(*TopicScoreParams) {}, ""},
		{"weight", func(p *TopicScoreParams) { p.TopicWeight = -1 }, "topic weight"},
		{"P1 weight", func(p *TopicScoreParams) { p.TimeInMeshWeight = -1 }, "time in mesh weight"},
		{"P1 quantum", func(p *TopicScoreParams) { p.TimeInMeshQuantum = 0 }, "quantum"},
		{"P1 cap", func(p *TopicScoreParams) { p.TimeInMeshWeight = 1 }, "time in mesh cap"},
		{"P2 weight", func(p *TopicScoreParams) { p.FirstMessageDeliveriesWeight = -1 }, "first message deliveries weight"},
		{"P2 decay", func(p *TopicScoreParams) { p.FirstMessageDeliveriesWeight, p.FirstMessageDeliveriesDecay = 1, 1 }, "first message deliveries decay"},
		{"P2 cap", func(p *TopicScoreParams) { p.FirstMessageDeliveriesWeight, p.FirstMessageDeliveriesCap = 1, 0 }, "first message deliveries cap"},
		{"P3 weight", func(p *TopicScoreParams) { p.MeshMessageDeliveriesWeight = 1 }, "mesh message deliveries weight"},
		{"P3 threshold", func(p *TopicScoreParams) { p.MeshMessageDeliveriesWeight = -1 }, "mesh message deliveries threshold"},
		{"P3 activation", func(p *TopicScoreParams) {
			p.MeshMessageDeliveriesWeight, p.MeshMessageDeliveriesThreshold, p.MeshMessageDeliveriesActivation = -1, 1, 0
		}, "activation"},
		{"P3 window", func(p *TopicScoreParams) {
			p.MeshMessageDeliveriesWeight, p.MeshMessageDeliveriesThreshold, p.MeshMessageDeliveriesWindow = -1, 1, -1
		}, "window"},
		{"P3b weight", func(p *TopicScoreParams) { p.MeshFailurePenaltyWeight = 1 }, "mesh failure penalty weight"},
		{"P3b decay", func(p *TopicScoreParams) { p.MeshFailurePenaltyWeight, p.MeshFailurePenaltyDecay = -1, 0 }, "mesh failure penalty decay"},
		{"P4 weight", func(p *TopicScoreParams) { p.InvalidMessageDeliveriesWeight = 1 }, "invalid message deliveries weight"},
		{"P4 decay", func(p *TopicScoreParams) { p.InvalidMessageDeliveriesDecay = 0 }, "invalid message deliveries decay"},
		{"not a number", func(p *TopicScoreParams) { p.TopicWeight = math.NaN() }, "number"},
		{"in part", func(p *TopicScoreParams) { *p = TopicScoreParams{SkipAtomicValidation: true, TopicWeight: 1} }, ""},
		{"in part, P1 without quantum", func(p *TopicScoreParams) {
			*p = TopicScoreParams{SkipAtomicValidation: true, TimeInMeshWeight: 1, TimeInMeshCap: 1}
		}, "quantum"},
	} {
		wantError(t, tt.name, base(tt.change).validate(), tt.want)
	}
}

// The decay that brings a counter to a hundredth in ten seconds.
func TestScoreParameterDecay(t *testing.T) {
	if got, want := ScoreParameterDecay(10*time.Second), 0.6309573444801932; math.Abs(got-want) > 1e-12 {
		t.Errorf("ScoreParameterDecay(10s) = %v, want %v", got, want)
	}
	if got := math.Pow(ScoreParameterDecayWithBase(time.Minute, 5*time.Second, 0.1), 12); math.Abs(got-0.1) > 1e-12 {
		t.Errorf("after twelve intervals %v is left, want 0.1", got)
	}
}

func wantError(t *testing.T, name string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", name, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: error %v, want one about %q", name, err, want)
	}
}
