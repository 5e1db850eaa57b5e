package pubsub

import (
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Protocols, and what each adds to the one before.
//
// https://github.com/libp2p/specs/tree/master/pubsub
const (
	// FloodSubID sends every message to every peer of the topic.
	FloodSubID = protocol.ID("/floodsub/1.0.0")
	// GossipSubID_v10 has the mesh and gossip.
	GossipSubID_v10 = protocol.ID("/meshsub/1.0.0") //nolint:revive // the name that users of go-libp2p-pubsub know
	// GossipSubID_v11 has peer exchange and back-off in PRUNE, and scoring.
	GossipSubID_v11 = protocol.ID("/meshsub/1.1.0") //nolint:revive // see GossipSubID_v10
	// GossipSubID_v12 has IDONTWANT.
	GossipSubID_v12 = protocol.ID("/meshsub/1.2.0") //nolint:revive // see GossipSubID_v10
)

// FloodSubTopicSearchSize is how many peers a floodsub topic should have.
const FloodSubTopicSearchSize = 5

// GossipSubDefaultProtocols are the protocols of gossipsub, newest first. It
// is read when a PubSub is made.
var GossipSubDefaultProtocols = []protocol.ID{GossipSubID_v12, GossipSubID_v11, GossipSubID_v10, FloodSubID}

// A GossipSubFeature is something that a protocol may allow.
type GossipSubFeature int

const (
	// GossipSubFeatureMesh is the mesh: gossipsub 1.0.
	GossipSubFeatureMesh = GossipSubFeature(iota)
	// GossipSubFeaturePX is peer exchange on PRUNE: gossipsub 1.1.
	GossipSubFeaturePX
	// GossipSubFeatureIdontwant is IDONTWANT: gossipsub 1.2.
	GossipSubFeatureIdontwant
	// GossipSubFeatureExtensions is the control message of gossipsub 1.3,
	// which no protocol here has yet.
	GossipSubFeatureExtensions
)

// GossipSubFeatureTest reports whether a protocol has a feature.
type GossipSubFeatureTest = func(GossipSubFeature, protocol.ID) bool

// GossipSubDefaultFeatures is the test for GossipSubDefaultProtocols.
func GossipSubDefaultFeatures(feat GossipSubFeature, proto protocol.ID) bool {
	switch feat {
	case GossipSubFeatureMesh:
		return proto == GossipSubID_v12 || proto == GossipSubID_v11 || proto == GossipSubID_v10
	case GossipSubFeaturePX:
		return proto == GossipSubID_v12 || proto == GossipSubID_v11
	case GossipSubFeatureIdontwant:
		return proto == GossipSubID_v12
	default:
		return false
	}
}

// ProtocolMatchFn makes the function that decides which protocols of
// inbound streams count as one of ours.
type ProtocolMatchFn = func(protocol.ID) func(protocol.ID) bool

// A PeerFilter decides whether a peer may be in a topic. It must be quick and
// give the same answer each time.
type PeerFilter func(pid peer.ID, topic string) bool

// DefaultPeerFilter admits all peers to all topics.
func DefaultPeerFilter(peer.ID, string) bool { return true }
