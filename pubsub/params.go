package pubsub

import (
	"errors"
	"fmt"
	"time"

	"github.com/muster-p2p/muster/pubsub/timecache"
)

// GossipSubParams are gossipsub's parameters, with the names that go-libp2p
// programs use. Take [DefaultGossipSubParams] and change fields: zero is a
// meaningful value for many of them, so zero is not replaced by a default.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.0.md#parameters
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md#overview-of-new-parameters
type GossipSubParams struct {
	// D is the wanted number of mesh peers per topic; Dlo and Dhi are the
	// bounds outside which a heartbeat grafts or prunes.
	// All of them and Dout zero is legal: a bootstrapper without a mesh.
	D, Dlo, Dhi int

	// Dscore is how many of the best-scoring peers are kept when a mesh is
	// pruned; the rest are drawn at random.
	Dscore int

	// Dout is how many mesh peers should be ones that we dialled.
	// Dout < Dlo and Dout ≤ D/2.
	Dout int

	// HistoryLength is for how many heartbeats messages are kept to answer
	// IWANT; HistoryGossip of these are advertised with IHAVE.
	HistoryLength, HistoryGossip int

	// Dlazy is the least number of peers outside the mesh that get gossip in
	// a heartbeat; GossipFactor is the share of them that do, if that is more.
	Dlazy        int
	GossipFactor float64

	// GossipRetransmission is how often one peer is sent one message by IWANT.
	GossipRetransmission int

	// HeartbeatInitialDelay is the time to the first heartbeat and
	// HeartbeatInterval the time between two.
	HeartbeatInitialDelay, HeartbeatInterval time.Duration

	// SlowHeartbeatWarning is the part of HeartbeatInterval that a heartbeat
	// may take before it is logged. Zero never logs.
	SlowHeartbeatWarning float64

	// FanoutTTL is how long fanout peers are kept for a topic that we
	// publish to without being in it.
	FanoutTTL time.Duration

	// PrunePeers is how many peers a PRUNE names, and how many we take from one.
	PrunePeers int

	// PruneBackoff is how long a pruned peer must not GRAFT again;
	// UnsubscribeBackoff is the same after we left a topic.
	PruneBackoff, UnsubscribeBackoff time.Duration

	// Connectors is how many peers named by PRUNE are dialled at a time,
	// MaxPendingConnections how many wait for it, and ConnectionTimeout how
	// long one dial may take.
	Connectors, MaxPendingConnections int
	ConnectionTimeout                 time.Duration

	// DirectConnectTicks is how many heartbeats lie between attempts to reach
	// direct peers, and DirectConnectInitialDelay the time to the first.
	DirectConnectTicks        uint64
	DirectConnectInitialDelay time.Duration

	// OpportunisticGraftTicks is how many heartbeats lie between attempts to
	// replace a poor mesh, by OpportunisticGraftPeers peers at a time.
	OpportunisticGraftTicks uint64
	OpportunisticGraftPeers int

	// GraftFloodThreshold is the time after a PRUNE within which a GRAFT is
	// punished twice.
	GraftFloodThreshold time.Duration

	// MaxIHaveLength bounds the message ids of one IHAVE that we send, and
	// those that we consider from one peer in a heartbeat; MaxIHaveMessages
	// bounds the RPCs with IHAVE from one peer in a heartbeat.
	MaxIHaveLength, MaxIHaveMessages int

	// MaxIDontWantLength bounds the ids that count of one RPC, and
	// MaxIDontWantMessages the RPCs with IDONTWANT from one peer in a heartbeat.
	MaxIDontWantLength, MaxIDontWantMessages int

	// IWantFollowupTime is how long a peer may take to send what it
	// advertised and we asked for.
	IWantFollowupTime time.Duration

	// IDontWantMessageThreshold is the least size in bytes of a message for
	// which IDONTWANT is sent. The router raises it by itself towards peers
	// for which it prevents nothing.
	IDontWantMessageThreshold int

	// IDontWantMessageTTL is for how many heartbeats an IDONTWANT is remembered.
	IDontWantMessageTTL int
}

// Defaults of [GossipSubParams]. They are variables because programs written
// for go-libp2p-pubsub set them in an init function; [DefaultGossipSubParams]
// reads them, and nothing else does. New programs change the struct instead.
var (
	GossipSubD                                = 6
	GossipSubDlo                              = 5
	GossipSubDhi                              = 12
	GossipSubDscore                           = 4
	GossipSubDout                             = 2
	GossipSubHistoryLength                    = 5
	GossipSubHistoryGossip                    = 3
	GossipSubDlazy                            = 6
	GossipSubGossipFactor                     = 0.25
	GossipSubGossipRetransmission             = 3
	GossipSubHeartbeatInitialDelay            = 100 * time.Millisecond
	GossipSubHeartbeatInterval                = 1 * time.Second
	GossipSubFanoutTTL                        = 60 * time.Second
	GossipSubPrunePeers                       = 16
	GossipSubPruneBackoff                     = time.Minute
	GossipSubUnsubscribeBackoff               = 10 * time.Second
	GossipSubConnectors                       = 8
	GossipSubMaxPendingConnections            = 128
	GossipSubConnectionTimeout                = 30 * time.Second
	GossipSubDirectConnectTicks        uint64 = 300
	GossipSubDirectConnectInitialDelay        = time.Second
	GossipSubOpportunisticGraftTicks   uint64 = 60
	GossipSubOpportunisticGraftPeers          = 2
	GossipSubGraftFloodThreshold              = 10 * time.Second
	GossipSubMaxIHaveLength                   = 5000
	GossipSubMaxIHaveMessages                 = 10
	GossipSubMaxIDontWantLength               = 10
	GossipSubMaxIDontWantMessages             = 1000
	GossipSubIWantFollowupTime                = 3 * time.Second
	GossipSubIDontWantMessageThreshold        = 1024
	GossipSubIDontWantMessageTTL              = 3
)

// TimeCacheDuration is the default of Config.SeenTTL, a variable for the same
// reason.
var TimeCacheDuration = DefaultSeenTTL

// TimeCacheStrategy is the default of WithSeenMessagesStrategy.
var TimeCacheStrategy = timecache.Strategy_FirstSeen

// slowHeartbeat is a tenth of the interval: a router that needs more of its
// time for housekeeping has too many topics for its machine.
const slowHeartbeat = 0.1

// DefaultGossipSubParams returns the parameters that go-libp2p uses.
func DefaultGossipSubParams() GossipSubParams {
	return GossipSubParams{
		D:                         GossipSubD,
		Dlo:                       GossipSubDlo,
		Dhi:                       GossipSubDhi,
		Dscore:                    GossipSubDscore,
		Dout:                      GossipSubDout,
		HistoryLength:             GossipSubHistoryLength,
		HistoryGossip:             GossipSubHistoryGossip,
		Dlazy:                     GossipSubDlazy,
		GossipFactor:              GossipSubGossipFactor,
		GossipRetransmission:      GossipSubGossipRetransmission,
		HeartbeatInitialDelay:     GossipSubHeartbeatInitialDelay,
		HeartbeatInterval:         GossipSubHeartbeatInterval,
		SlowHeartbeatWarning:      slowHeartbeat,
		FanoutTTL:                 GossipSubFanoutTTL,
		PrunePeers:                GossipSubPrunePeers,
		PruneBackoff:              GossipSubPruneBackoff,
		UnsubscribeBackoff:        GossipSubUnsubscribeBackoff,
		Connectors:                GossipSubConnectors,
		MaxPendingConnections:     GossipSubMaxPendingConnections,
		ConnectionTimeout:         GossipSubConnectionTimeout,
		DirectConnectTicks:        GossipSubDirectConnectTicks,
		DirectConnectInitialDelay: GossipSubDirectConnectInitialDelay,
		OpportunisticGraftTicks:   GossipSubOpportunisticGraftTicks,
		OpportunisticGraftPeers:   GossipSubOpportunisticGraftPeers,
		GraftFloodThreshold:       GossipSubGraftFloodThreshold,
		MaxIHaveLength:            GossipSubMaxIHaveLength,
		MaxIHaveMessages:          GossipSubMaxIHaveMessages,
		MaxIDontWantLength:        GossipSubMaxIDontWantLength,
		MaxIDontWantMessages:      GossipSubMaxIDontWantMessages,
		IWantFollowupTime:         GossipSubIWantFollowupTime,
		IDontWantMessageThreshold: GossipSubIDontWantMessageThreshold,
		IDontWantMessageTTL:       GossipSubIDontWantMessageTTL,
	}
}

// validate reports every relation between the fields that does not hold.
func (p *GossipSubParams) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(p.D >= 0 && p.Dlo >= 0 && p.Dout >= 0 && p.Dscore >= 0 && p.Dlazy >= 0, "a negative mesh degree")
	check(p.Dlo <= p.D && p.D <= p.Dhi, "want Dlo ≤ D ≤ Dhi, have %d, %d, %d", p.Dlo, p.D, p.Dhi)
	check(p.Dscore <= p.Dhi, "want Dscore ≤ Dhi, have %d, %d", p.Dscore, p.Dhi)
	check(p.Dout == 0 || p.Dout < p.Dlo && p.Dout <= p.D/2,
		"want Dout < Dlo and Dout ≤ D/2, have Dout %d, Dlo %d, D %d", p.Dout, p.Dlo, p.D)
	check(p.HistoryLength > 0, "want HistoryLength > 0, have %d", p.HistoryLength)
	check(p.HistoryGossip >= 0 && p.HistoryGossip <= p.HistoryLength,
		"want HistoryGossip ≤ HistoryLength, have %d, %d", p.HistoryGossip, p.HistoryLength)
	check(p.GossipFactor >= 0 && p.GossipFactor <= 1, "want GossipFactor within 0 and 1, have %v", p.GossipFactor)
	check(p.HeartbeatInterval > 0, "want HeartbeatInterval > 0, have %v", p.HeartbeatInterval)
	check(p.HeartbeatInitialDelay >= 0, "want HeartbeatInitialDelay ≥ 0, have %v", p.HeartbeatInitialDelay)
	check(p.PruneBackoff > 0 && p.UnsubscribeBackoff > 0,
		"want positive back-offs, have %v and %v", p.PruneBackoff, p.UnsubscribeBackoff)
	return errors.Join(errs...)
}
