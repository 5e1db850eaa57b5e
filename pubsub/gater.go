package pubsub

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Defaults of [PeerGaterParams]. They are variables because programs written
// for go-libp2p-pubsub set them; DefaultPeerGaterParams reads them.
var (
	DefaultPeerGaterRetainStats     = 6 * time.Hour
	DefaultPeerGaterQuiet           = time.Minute
	DefaultPeerGaterDuplicateWeight = 0.125
	DefaultPeerGaterIgnoreWeight    = 1.0
	DefaultPeerGaterRejectWeight    = 16.0
	DefaultPeerGaterThreshold       = 0.33
	DefaultPeerGaterGlobalDecay     = ScoreParameterDecay(2 * time.Minute)
	DefaultPeerGaterSourceDecay     = ScoreParameterDecay(time.Hour)
)

// PeerGaterParams configure the peer gater: while validators have no room,
// peers whose messages are mostly of no use have them dropped at random
// before validation. Peers at one address are counted together, so that it
// does not help to be many.
type PeerGaterParams struct {
	// Threshold is the ratio of throttled to validated messages from which
	// the gater works.
	Threshold float64
	// GlobalDecay and SourceDecay are the factors by which the counts shrink
	// every DecayInterval, to zero below DecayToZero.
	GlobalDecay, SourceDecay float64
	DecayInterval            time.Duration
	DecayToZero              float64
	// RetainStats is how long a peer's counts are kept once it is quiet.
	RetainStats time.Duration
	// Quiet is how long after the last throttled message the gater rests.
	Quiet time.Duration
	// Weights of messages that are no use, against those that are.
	DuplicateWeight, IgnoreWeight, RejectWeight float64
	// TopicDeliveryWeights weigh deliveries by topic; others weigh 1.
	TopicDeliveryWeights map[string]float64
}

// NewPeerGaterParams returns the defaults with these fields changed.
func NewPeerGaterParams(threshold, globalDecay, sourceDecay float64) *PeerGaterParams {
	return &PeerGaterParams{
		Threshold:       threshold,
		GlobalDecay:     globalDecay,
		SourceDecay:     sourceDecay,
		DecayInterval:   time.Second,
		DecayToZero:     DefaultDecayToZero,
		RetainStats:     DefaultPeerGaterRetainStats,
		Quiet:           DefaultPeerGaterQuiet,
		DuplicateWeight: DefaultPeerGaterDuplicateWeight,
		IgnoreWeight:    DefaultPeerGaterIgnoreWeight,
		RejectWeight:    DefaultPeerGaterRejectWeight,
	}
}

// DefaultPeerGaterParams returns the defaults.
func DefaultPeerGaterParams() *PeerGaterParams {
	return NewPeerGaterParams(DefaultPeerGaterThreshold, DefaultPeerGaterGlobalDecay, DefaultPeerGaterSourceDecay)
}

// WithTopicDeliveryWeights sets TopicDeliveryWeights and returns p.
func (p *PeerGaterParams) WithTopicDeliveryWeights(w map[string]float64) *PeerGaterParams {
	p.TopicDeliveryWeights = w
	return p
}

func (p *PeerGaterParams) validate() error {
	switch {
	case p == nil:
		return errors.New("pubsub: peer gater without parameters")
	case p.Threshold <= 0 || p.DecayInterval <= 0 || p.Quiet <= 0:
		return errors.New("pubsub: peer gater: threshold, decay interval and quiet must be positive")
	case p.GlobalDecay <= 0 || p.GlobalDecay >= 1 || p.SourceDecay <= 0 || p.SourceDecay >= 1:
		return errors.New("pubsub: peer gater: decays must lie between 0 and 1")
	case p.DuplicateWeight < 0 || p.IgnoreWeight < 1 || p.RejectWeight < 1:
		return errors.New("pubsub: peer gater: weights out of range")
	}
	return nil
}

// A gaterOutcome is what became of a message.
type gaterOutcome struct {
	kind  gaterKind
	topic string
}

type gaterKind uint8

const (
	gaterDelivered gaterKind = iota
	gaterDuplicate
	gaterIgnored
	gaterRejected
)

// gaterSources bounds the sources whose counts are kept.
const gaterSources = 4096

// A gaterSource is whom messages are put down to: an address, the /64 of an
// IPv6 one, or a peer's id where the address is not known.
type gaterSource string

func sourceOf(id peer.ID, ips []netip.Addr) gaterSource {
	if len(ips) == 0 {
		return gaterSource(id)
	}
	ip := ips[0].Unmap().WithZone("")
	if ip.Is6() {
		p, _ := ip.Prefix(64) // within the size
		ip = p.Addr()
	}
	return gaterSource(ip.String())
}

// A gater is the peer gater as a pure machine: random early drop.
type gater struct {
	p    *PeerGaterParams
	rng  *rand.Rand
	from map[gaterSource]*gaterCounts

	validated, throttledN float64
	lastThrottle, decayed time.Time
}

type gaterCounts struct {
	delivered, duplicate, ignored, rejected float64
	last                                    time.Time
}

func newGater(p *PeerGaterParams, rng *rand.Rand) *gater {
	return &gater{p: p, rng: rng, from: make(map[gaterSource]*gaterCounts)}
}

// admit decides on the messages of an RPC.
func (g *gater) admit(now time.Time, from gaterSource) bool {
	g.decay(now)
	c := g.counts(from)
	if c != nil {
		c.last = now
	}
	if now.Sub(g.lastThrottle) > g.p.Quiet || g.throttledN == 0 {
		return true
	}
	if g.validated != 0 && g.throttledN/g.validated < g.p.Threshold {
		return true
	}
	if c == nil {
		return false
	}
	total := c.delivered + g.p.DuplicateWeight*c.duplicate + g.p.IgnoreWeight*c.ignored + g.p.RejectWeight*c.rejected
	if total == 0 {
		return true
	}
	return g.rng.Float64() < (1+c.delivered)/(1+total)
}

// counts returns nil if there are too many sources.
func (g *gater) counts(from gaterSource) *gaterCounts {
	c := g.from[from]
	if c == nil && len(g.from) < gaterSources {
		c = &gaterCounts{}
		g.from[from] = c
	}
	return c
}

// note counts what became of a message.
func (g *gater) note(from gaterSource, o gaterOutcome) {
	c := g.counts(from)
	if c == nil {
		return
	}
	switch o.kind {
	case gaterDelivered:
		g.validated++
		w := 1.0
		if v, ok := g.p.TopicDeliveryWeights[o.topic]; ok {
			w = v
		}
		c.delivered += w
	case gaterDuplicate:
		c.duplicate++
	case gaterIgnored:
		g.validated++
		c.ignored++
	case gaterRejected:
		g.validated++
		c.rejected++
	}
}

// throttled notes that a message found no room in validation.
func (g *gater) throttled(now time.Time) {
	g.lastThrottle = now
	g.throttledN++
}

func (g *gater) decay(now time.Time) {
	if now.Sub(g.decayed) < g.p.DecayInterval {
		return
	}
	g.decayed = now
	shrink := func(v *float64, d float64) {
		if *v *= d; *v < g.p.DecayToZero {
			*v = 0
		}
	}
	shrink(&g.validated, g.p.GlobalDecay)
	shrink(&g.throttledN, g.p.GlobalDecay)
	for from, c := range g.from {
		for _, v := range []*float64{&c.delivered, &c.duplicate, &c.ignored, &c.rejected} {
			shrink(v, g.p.SourceDecay)
		}
		if now.Sub(c.last) > g.p.RetainStats {
			delete(g.from, from)
		}
	}
}
