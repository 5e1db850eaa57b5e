package pubsub

import (
	"errors"
	"fmt"
	"math"
	"net" //nolint:depguard // the type of a field that users of go-libp2p-pubsub know; no I/O
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Defaults of [PeerScoreParams].
const (
	DefaultDecayInterval = time.Second
	DefaultDecayToZero   = 0.01
)

// PeerScoreThresholds says what a peer's score allows it.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md#score-thresholds
type PeerScoreThresholds struct {
	// SkipAtomicValidation checks only what is set, so that thresholds may be
	// set in part.
	SkipAtomicValidation bool
	// GossipThreshold, at most zero: below it no gossip is sent to the peer
	// and its own is ignored.
	GossipThreshold float64
	// PublishThreshold, at most GossipThreshold: below it the peer gets no
	// messages by flood publishing.
	PublishThreshold float64
	// GraylistThreshold, at most PublishThreshold: below it whatever the peer
	// sends is ignored.
	GraylistThreshold float64
	// AcceptPXThreshold, at least zero: from it on the peers that a PRUNE lists
	// are used.
	AcceptPXThreshold float64
	// OpportunisticGraftThreshold, at least zero: while the median score of a
	// mesh is below it, better peers are grafted.
	OpportunisticGraftThreshold float64
}

// PeerScoreParams weighs what peers do. The score of a peer is
//
//	min(cap, Σ topics) + P5 app + P6 colocation + P7 misbehaviour + P8 slowness
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md#the-score-function
type PeerScoreParams struct {
	// SkipAtomicValidation checks only what is set.
	SkipAtomicValidation bool
	// Topics holds the parameters of the topics that count.
	Topics map[string]*TopicScoreParams
	// TopicScoreCap bounds what topics add to a score; zero is no bound.
	TopicScoreCap float64

	// AppSpecificScore is P5: what the application thinks of a peer. It is
	// called with a lock held and must not call back.
	AppSpecificScore  func(p peer.ID) float64
	AppSpecificWeight float64

	// P6: the square of how many peers share an IP address above the
	// threshold. For IPv6 both the address and its /64 count. Loopback and
	// what the whitelist contains do not.
	IPColocationFactorWeight    float64 // at most zero
	IPColocationFactorThreshold int     // at least one
	IPColocationFactorWhitelist []*net.IPNet

	// P7: the square of how often the peer misbehaved above the threshold:
	// grafts within the back-off, announcements that were not followed up.
	BehaviourPenaltyWeight    float64 // at most zero
	BehaviourPenaltyThreshold float64
	BehaviourPenaltyDecay     float64 // between zero and one

	// P8: how many messages were dropped because the peer reads too slowly,
	// above the threshold. Of rust-libp2p; not in the specification.
	SlowPeerWeight    float64 // at most zero
	SlowPeerThreshold float64
	SlowPeerDecay     float64 // between zero and one

	// DecayInterval is how often counters decay, at least a second; if zero,
	// DefaultDecayInterval is used.
	DecayInterval time.Duration
	// DecayToZero is the value below which a counter becomes zero; if zero,
	// DefaultDecayToZero is used.
	DecayToZero float64
	// RetainScore is how long the counters of a peer that has gone are kept, if
	// its score was not above zero.
	RetainScore time.Duration
	// SeenMsgTTL is how long it is remembered who delivered which message. If
	// zero, two minutes are used.
	SeenMsgTTL time.Duration
}

// TopicScoreParams weighs what peers do in a topic. Weights of zero disable.
type TopicScoreParams struct {
	// SkipAtomicValidation checks only what is set.
	SkipAtomicValidation bool
	// TopicWeight, at least zero, scales all of the following.
	TopicWeight float64

	// P1: time in the mesh, in quanta.
	TimeInMeshWeight  float64 // at least zero
	TimeInMeshQuantum time.Duration
	TimeInMeshCap     float64

	// P2: messages that the peer delivered first.
	FirstMessageDeliveriesWeight float64 // at least zero
	FirstMessageDeliveriesDecay  float64
	FirstMessageDeliveriesCap    float64

	// P3: the square of how many deliveries the peer is short of the threshold
	// while in the mesh for longer than the activation time. What it delivers
	// within the window after the first copy counts.
	MeshMessageDeliveriesWeight     float64 // at most zero
	MeshMessageDeliveriesDecay      float64
	MeshMessageDeliveriesCap        float64
	MeshMessageDeliveriesThreshold  float64
	MeshMessageDeliveriesWindow     time.Duration
	MeshMessageDeliveriesActivation time.Duration

	// P3b: the deficits of P3 with which the peer left the mesh.
	MeshFailurePenaltyWeight float64 // at most zero
	MeshFailurePenaltyDecay  float64

	// P4: the square of how many invalid messages the peer delivered.
	InvalidMessageDeliveriesWeight float64 // at most zero
	InvalidMessageDeliveriesDecay  float64
}

// PeerScoreSnapshot is what a score is made of, for inspection.
type PeerScoreSnapshot struct {
	Score              float64
	Topics             map[string]*TopicScoreSnapshot
	AppSpecificScore   float64
	IPColocationFactor float64
	BehaviourPenalty   float64
	SlowPeerPenalty    float64
}

// TopicScoreSnapshot is a topic's part of a [PeerScoreSnapshot].
type TopicScoreSnapshot struct {
	TimeInMesh               time.Duration
	FirstMessageDeliveries   float64
	MeshMessageDeliveries    float64
	InvalidMessageDeliveries float64
}

// PeerScoreInspectFn and ExtendedPeerScoreInspectFn inspect the scores of
// connected peers.
type (
	PeerScoreInspectFn         = func(map[peer.ID]float64)
	ExtendedPeerScoreInspectFn = func(map[peer.ID]*PeerScoreSnapshot)
)

// ScoreParameterDecay is the factor by which a counter that decays once a
// second becomes zero, that is 0.01 of what it was, after decay.
func ScoreParameterDecay(decay time.Duration) float64 {
	return ScoreParameterDecayWithBase(decay, DefaultDecayInterval, DefaultDecayToZero)
}

// ScoreParameterDecayWithBase is the factor by which a counter that decays
// every base falls to decayToZero of what it was after decay.
func ScoreParameterDecayWithBase(decay, base time.Duration, decayToZero float64) float64 {
	ticks := float64(decay / base)
	return math.Pow(decayToZero, 1/ticks)
}

func (t *PeerScoreThresholds) validate() error {
	c := checks{prefix: "pubsub: peer score thresholds: ", partial: t.SkipAtomicValidation}
	if c.group(t.GossipThreshold, t.PublishThreshold, t.GraylistThreshold) {
		c.atMostZero("gossip threshold", t.GossipThreshold)
		c.atMostZero("publish threshold", t.PublishThreshold)
		c.atMostZero("graylist threshold", t.GraylistThreshold)
		c.require(t.PublishThreshold <= t.GossipThreshold, "publish threshold must not be above the gossip threshold")
		c.require(t.GraylistThreshold <= t.PublishThreshold, "graylist threshold must not be above the publish threshold")
	}
	c.atLeastZero("accept PX threshold", t.AcceptPXThreshold)
	c.atLeastZero("opportunistic graft threshold", t.OpportunisticGraftThreshold)
	return c.err()
}

func (p *PeerScoreParams) validate() error {
	c := checks{prefix: "pubsub: peer score parameters: ", partial: p.SkipAtomicValidation}
	c.atLeastZero("topic score cap", p.TopicScoreCap)
	c.require(p.AppSpecificScore != nil || p.SkipAtomicValidation, "application specific score function is missing")
	c.finite("app specific weight", p.AppSpecificWeight)
	c.atMostZero("IP colocation factor weight", p.IPColocationFactorWeight)
	if p.IPColocationFactorWeight != 0 {
		c.require(p.IPColocationFactorThreshold >= 1, "IP colocation factor threshold must be at least 1")
	}
	c.penalty("behaviour penalty", p.BehaviourPenaltyWeight, p.BehaviourPenaltyThreshold, p.BehaviourPenaltyDecay)
	c.penalty("slow peer", p.SlowPeerWeight, p.SlowPeerThreshold, p.SlowPeerDecay)
	if p.DecayInterval != 0 || p.DecayToZero != 0 {
		c.require(p.DecayInterval >= time.Second, "decay interval must be at least a second")
		c.decay("decay to zero", p.DecayToZero)
	}
	c.require(p.RetainScore >= 0 && p.SeenMsgTTL >= 0, "times must not be negative")
	errs := []error{c.err()}
	for topic, tp := range p.Topics {
		if err := tp.validate(); err != nil {
			errs = append(errs, fmt.Errorf("pubsub: topic %q: %w", topic, err))
		}
	}
	return errors.Join(errs...)
}

func (t *TopicScoreParams) validate() error {
	if t == nil {
		return errors.New("pubsub: topic score parameters: missing")
	}
	c := checks{prefix: "pubsub: topic score parameters: ", partial: t.SkipAtomicValidation}
	c.atLeastZero("topic weight", t.TopicWeight)
	if c.group(t.TimeInMeshWeight, float64(t.TimeInMeshQuantum), t.TimeInMeshCap) {
		c.atLeastZero("time in mesh weight", t.TimeInMeshWeight)
		c.require(t.TimeInMeshQuantum > 0, "time in mesh quantum must be above zero")
		if t.TimeInMeshWeight != 0 {
			c.aboveZero("time in mesh cap", t.TimeInMeshCap)
		}
	}
	if c.group(t.FirstMessageDeliveriesWeight, t.FirstMessageDeliveriesCap, t.FirstMessageDeliveriesDecay) {
		c.atLeastZero("first message deliveries weight", t.FirstMessageDeliveriesWeight)
		if t.FirstMessageDeliveriesWeight != 0 {
			c.decay("first message deliveries decay", t.FirstMessageDeliveriesDecay)
			c.aboveZero("first message deliveries cap", t.FirstMessageDeliveriesCap)
		}
	}
	t.validateMesh(&c)
	if c.group(t.InvalidMessageDeliveriesWeight, t.InvalidMessageDeliveriesDecay) {
		c.atMostZero("invalid message deliveries weight", t.InvalidMessageDeliveriesWeight)
		c.decay("invalid message deliveries decay", t.InvalidMessageDeliveriesDecay)
	}
	return c.err()
}

func (t *TopicScoreParams) validateMesh(c *checks) {
	c.atMostZero("mesh message deliveries weight", t.MeshMessageDeliveriesWeight)
	if t.MeshMessageDeliveriesWeight != 0 {
		c.decay("mesh message deliveries decay", t.MeshMessageDeliveriesDecay)
		c.aboveZero("mesh message deliveries cap", t.MeshMessageDeliveriesCap)
		c.aboveZero("mesh message deliveries threshold", t.MeshMessageDeliveriesThreshold)
		c.require(t.MeshMessageDeliveriesWindow >= 0, "mesh message deliveries window must not be negative")
		c.require(t.MeshMessageDeliveriesActivation >= time.Second, "mesh message deliveries activation must be at least a second")
	}
	c.atMostZero("mesh failure penalty weight", t.MeshFailurePenaltyWeight)
	if t.MeshFailurePenaltyWeight != 0 {
		c.decay("mesh failure penalty decay", t.MeshFailurePenaltyDecay)
	}
}

// checks gathers what is wrong with a set of parameters.
type checks struct {
	prefix  string
	partial bool // check only groups of which something is set
	errs    []error
}

func (c *checks) err() error { return errors.Join(c.errs...) }

func (c *checks) require(ok bool, what string) {
	if !ok {
		c.errs = append(c.errs, errors.New(c.prefix+what))
	}
}

// group reports whether these are to be checked.
func (c *checks) group(values ...float64) bool {
	if !c.partial {
		return true
	}
	for _, v := range values {
		if v != 0 {
			return true
		}
	}
	return false
}

func (c *checks) finite(name string, v float64) bool {
	ok := !math.IsNaN(v) && !math.IsInf(v, 0)
	c.require(ok, name+" must be a number")
	return ok
}

func (c *checks) atMostZero(name string, v float64) {
	if c.finite(name, v) {
		c.require(v <= 0, name+" must not be above zero")
	}
}

func (c *checks) atLeastZero(name string, v float64) {
	if c.finite(name, v) {
		c.require(v >= 0, name+" must not be below zero")
	}
}

func (c *checks) aboveZero(name string, v float64) {
	if c.finite(name, v) {
		c.require(v > 0, name+" must be above zero")
	}
}

func (c *checks) decay(name string, v float64) {
	c.require(v > 0 && v < 1, name+" must be between zero and one")
}

func (c *checks) penalty(name string, weight, threshold, decay float64) {
	c.atMostZero(name+" weight", weight)
	if weight != 0 {
		c.atLeastZero(name+" threshold", threshold)
		c.decay(name+" decay", decay)
	}
}
