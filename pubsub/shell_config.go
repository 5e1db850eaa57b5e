package pubsub

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/pubsub/wire"
)

// Defaults and bounds of a [Config].
const (
	// DefaultMaxMessageSize is the longest RPC, and so about the longest
	// message, that go-, js- and nim-libp2p accept: 1 MiB.
	DefaultMaxMessageSize = wire.DefaultMaxRPC

	// DefaultMaxControlMessageSize bounds the control part of an inbound RPC.
	DefaultMaxControlMessageSize = wire.DefaultMaxControlBytes

	// DefaultSeenTTL is how long message ids are remembered: 120 s in
	// go-, js- and nim-libp2p.
	DefaultSeenTTL = 120 * time.Second

	// DefaultSeenIDs bounds the remembered ids, at some 40 bytes each. Beyond
	// it the oldest are forgotten early.
	DefaultSeenIDs = 1 << 20

	// DefaultCacheBytes bounds the messages that are kept to answer IWANT.
	DefaultCacheBytes = 64 << 20

	// DefaultLaneItems and DefaultLaneBytes bound each lane of each peer.
	DefaultLaneItems = 16384
	DefaultLaneBytes = 8 << 20

	// Ages at which a queued thing is of no use any more. Own messages wait
	// longest: somebody was told that they went out.
	DefaultPublishAge = 10 * time.Second
	DefaultRelayAge   = 5 * time.Second
	DefaultGossipAge  = 2 * time.Second

	// DefaultReadTimeout is how long a frame may take once its length has
	// arrived, and DefaultWriteTimeout how long a write may make no progress.
	DefaultReadTimeout  = 30 * time.Second
	DefaultWriteTimeout = 10 * time.Second

	// DefaultFirstFrameTimeout is how long a new inbound stream may be silent.
	// There is no idle timeout after that: quiet peers are normal.
	DefaultFirstFrameTimeout = time.Minute

	// DefaultMaxStreams bounds the inbound streams of one peer. One is
	// normal; rust-libp2p's floodsub opens one per RPC.
	DefaultMaxStreams = 8

	// DefaultBulkWrites is how many messages of DefaultBulkSize or more are
	// written at a time, over all peers: a host that writes all copies at once
	// delivers all of them late. With one, the last copies are late.
	DefaultBulkWrites = 2
	DefaultBulkSize   = 8 << 10

	// DefaultValidateThrottle bounds the asynchronous validators that run at
	// a time, and DefaultValidateConcurrency those of one validator.
	DefaultValidateThrottle    = 8192
	DefaultValidateConcurrency = 1024

	// DefaultSubscriptionBuffer is how many messages wait for a reader of a
	// [Subscription]. The memory is taken as they come.
	DefaultSubscriptionBuffer = 1024

	// DefaultMaxBadSignatures is how many messages with bad signatures, or
	// against the signature policy, end the connection to their sender.
	DefaultMaxBadSignatures = 20
)

// A Config configures a [PubSub]. The zero value is gossipsub with the
// defaults of go-libp2p, strict signing, and every limit on.
type Config struct {
	// FloodSub runs floodsub: every message goes to every peer in its topic.
	FloodSub bool
	// RandomPeers, if above zero, makes floodsub send a message to so many of
	// the topic's peers that do not speak FloodSubID, drawn at random.
	RandomPeers int

	// Params are gossipsub's parameters. If nil, DefaultGossipSubParams.
	Params *GossipSubParams

	// Score and Thresholds turn on peer scoring; both or none.
	Score      *PeerScoreParams
	Thresholds *PeerScoreThresholds

	// ScoreInspect, a PeerScoreInspectFn or an ExtendedPeerScoreInspectFn, is
	// called with all scores every ScoreInspectPeriod.
	ScoreInspect       any
	ScoreInspectPeriod time.Duration

	// PeerExchange sends other peers along with PRUNE. PublicPXOnly leaves
	// out those that have no public address.
	PeerExchange, PublicPXOnly bool

	// FloodPublish sends our own messages to all peers of the topic whose
	// score is not below the publish threshold, and not only to the mesh.
	FloodPublish bool

	// DirectPeers get every message and are kept connected, outside the mesh.
	DirectPeers []peer.AddrInfo

	// Protocols are offered newest first. If nil, the default ones of the router.
	Protocols []protocol.ID
	// FeatureTest says what a protocol allows. If nil, GossipSubDefaultFeatures.
	FeatureTest GossipSubFeatureTest
	// ProtocolMatch, if not nil, decides which inbound protocols are ours.
	ProtocolMatch ProtocolMatchFn

	// Signatures is the policy for signing and verifying. If nil, StrictSign.
	Signatures *MessageSignaturePolicy
	// NoAuthor leaves author and sequence number out of our messages, and so
	// the signature too.
	NoAuthor bool
	// UnsignedAuthors accepts author and sequence number in messages under
	// StrictNoSign, and unless NoAuthor is set sends them: so does
	// go-libp2p-pubsub, whose default message id is empty without them. The
	// specification, js and rust want neither, which is what false means.
	UnsignedAuthors bool
	// Author signs our messages; its key must be SignKey or in the host's
	// peerstore. If empty, the host.
	Author  peer.ID
	SignKey crypto.PrivKey

	// MessageID makes the id of a message. If nil, MessageIDGo, and
	// MessageIDSHA256 for messages without an author, where there may be such.
	MessageID MsgIdFunction

	// MaxMessageSize bounds an RPC in bytes, both ways; the longest message
	// is a little less. 0 means DefaultMaxMessageSize.
	MaxMessageSize int
	// Limits bounds what one RPC may hold beside. Zero fields mean defaults;
	// Limits.RPC is MaxMessageSize.
	Limits wire.Limits
	// MaxPeerTopics and MaxPeerTopicBytes bound the subscriptions of one peer.
	// 0 means DefaultMaxPeerTopics and DefaultMaxPeerTopicBytes.
	MaxPeerTopics, MaxPeerTopicBytes int
	// MaxStreams bounds the inbound streams of one peer; 0 means DefaultMaxStreams.
	MaxStreams int
	// MaxBadSignatures ends the connection to a peer after so many messages
	// that it should have refused; 0 means DefaultMaxBadSignatures, negative never.
	MaxBadSignatures int

	// SeenTTL is how long message ids are remembered; SeenIDs bounds them.
	// 0 means DefaultSeenTTL and DefaultSeenIDs.
	SeenTTL time.Duration
	SeenIDs int
	// SeenLast counts SeenTTL from the last copy of a message, not the first.
	SeenLast bool
	// CacheBytes bounds the message cache; 0 means DefaultCacheBytes.
	CacheBytes int

	// QueueItems and QueueBytes bound each lane of each peer.
	// 0 means DefaultLaneItems and DefaultLaneBytes.
	QueueItems, QueueBytes int
	// Backpressure makes Publish wait for room at its recipients, rather
	// than refuse a message that none of them has room for. One that takes
	// nothing for five seconds is not waited for until it does again.
	Backpressure bool
	// BulkSize and BulkWrites pace large messages; 0 means DefaultBulkSize
	// and DefaultBulkWrites.
	BulkSize, BulkWrites int

	// ReadTimeout, WriteTimeout and FirstFrameTimeout end streams that are
	// stuck. 0 means the defaults.
	ReadTimeout, WriteTimeout, FirstFrameTimeout time.Duration

	// Validators apply to every topic.
	Validators []DefaultValidator
	// ValidateThrottle bounds asynchronous validators over all topics;
	// 0 means DefaultValidateThrottle.
	ValidateThrottle int
	// ValidateWorkers bounds the signatures that are verified at a time;
	// 0 sets no bound but that each peer's messages are verified one by one.
	ValidateWorkers int

	// Blacklist refuses peers, as senders and as authors. If nil, a MapBlacklist.
	Blacklist Blacklist
	// SubscriptionFilter decides which topics may be joined and remembered.
	SubscriptionFilter SubscriptionFilter
	// PeerFilter decides which peers may be in a topic. If nil, all.
	PeerFilter PeerFilter
	// Inspector sees each inbound RPC; an error drops it.
	Inspector func(peer.ID, *RPC) error
	// Gater turns on random early drop of peers that waste our validators.
	Gater *PeerGaterParams

	// Discovery finds peers for topics that have too few.
	Discovery *DiscoveryConfig

	// Observers see RPCs and validated messages.
	Observers []Observer
	// RawTracers and EventTracers see what happens; they must not block.
	RawTracers   []RawTracer
	EventTracers []EventTracer

	// AllowLimited uses relayed connections too.
	AllowLimited bool

	// Logger gets reports; if nil they are dropped. RPCLogger gets each RPC.
	Logger, RPCLogger *slog.Logger
	// Registerer, if not nil, gets the counters of Stats as metrics.
	Registerer prometheus.Registerer
}

// withDefaults returns c with every zero field that has a default set to it.
func (c Config) withDefaults() Config {
	if c.Params == nil {
		p := DefaultGossipSubParams()
		c.Params = &p
	}
	if c.Signatures == nil {
		strict := StrictSign
		c.Signatures = &strict
	}
	if c.NoAuthor {
		unsigned := *c.Signatures &^ policySign
		c.Signatures = &unsigned
	}
	if !c.Signatures.mustSign() && c.Signatures.mustVerify() {
		// StrictNoSign: author and sequence number have to be absent.
		c.NoAuthor = c.NoAuthor || !c.UnsignedAuthors
	} else {
		c.UnsignedAuthors = false
	}
	if c.MessageID == nil {
		c.MessageID = MessageIDGo
		switch {
		case c.NoAuthor && c.Signatures.mustVerify():
			c.MessageID = MessageIDSHA256
		case c.UnsignedAuthors, !c.Signatures.mustVerify():
			c.MessageID = messageIDUnsigned
		}
	}
	if c.Protocols == nil {
		c.Protocols = GossipSubDefaultProtocols
		if c.FloodSub {
			c.Protocols = []protocol.ID{FloodSubID}
		}
	}
	if c.FeatureTest == nil {
		c.FeatureTest = GossipSubDefaultFeatures
	}
	if c.PeerFilter == nil {
		c.PeerFilter = DefaultPeerFilter
	}
	if c.Blacklist == nil {
		c.Blacklist = NewMapBlacklist()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		n   *int
		def int
	}{
		{&c.MaxMessageSize, DefaultMaxMessageSize},
		{&c.MaxPeerTopics, DefaultMaxPeerTopics},
		{&c.MaxPeerTopicBytes, DefaultMaxPeerTopicBytes},
		{&c.MaxStreams, DefaultMaxStreams},
		{&c.MaxBadSignatures, DefaultMaxBadSignatures},
		{&c.SeenIDs, DefaultSeenIDs},
		{&c.CacheBytes, DefaultCacheBytes},
		{&c.QueueItems, DefaultLaneItems},
		{&c.QueueBytes, DefaultLaneBytes},
		{&c.BulkSize, DefaultBulkSize},
		{&c.BulkWrites, DefaultBulkWrites},
		{&c.ValidateThrottle, DefaultValidateThrottle},
	} {
		if *d.n == 0 {
			*d.n = d.def
		}
	}
	for _, d := range []struct {
		t   *time.Duration
		def time.Duration
	}{
		{&c.SeenTTL, TimeCacheDuration},
		{&c.ReadTimeout, DefaultReadTimeout},
		{&c.WriteTimeout, DefaultWriteTimeout},
		{&c.FirstFrameTimeout, DefaultFirstFrameTimeout},
	} {
		if *d.t == 0 {
			*d.t = d.def
		}
	}
	c.Limits.RPC = c.MaxMessageSize
	c.Limits = c.Limits.WithDefaults()
	// A queue must have room for a few of the largest messages.
	c.QueueBytes = max(c.QueueBytes, 4*c.MaxMessageSize)
	return c
}

// validate reports what is wrong with a configuration that has its defaults.
func (c *Config) validate() error {
	errs := []error{c.Params.validate()}
	if (c.Score == nil) != (c.Thresholds == nil) {
		errs = append(errs, errors.New("peer scoring needs parameters and thresholds"))
	}
	if c.Score != nil && c.Thresholds != nil {
		errs = append(errs, c.Score.validate(), c.Thresholds.validate())
	}
	switch c.ScoreInspect.(type) {
	case nil:
	case PeerScoreInspectFn, ExtendedPeerScoreInspectFn:
		if c.Score == nil {
			errs = append(errs, errors.New("inspecting scores needs peer scoring"))
		}
		if c.ScoreInspectPeriod <= 0 {
			errs = append(errs, errors.New("inspecting scores needs a period"))
		}
	default:
		errs = append(errs, fmt.Errorf("%T does not inspect scores", c.ScoreInspect))
	}
	if c.MaxMessageSize < 0 || c.QueueItems < 0 || c.QueueBytes < 0 || c.SeenIDs < 0 || c.SeenTTL < 0 {
		errs = append(errs, errors.New("a negative limit"))
	}
	if c.RandomPeers < 0 || c.RandomPeers > 0 && !c.FloodSub {
		errs = append(errs, errors.New("random peers without floodsub"))
	}
	if len(c.Protocols) == 0 {
		errs = append(errs, errors.New("no protocols"))
	}
	for i := range c.Observers {
		if o := &c.Observers[i]; o.OnRecv == nil && o.OnSend == nil && o.OnValidated == nil {
			errs = append(errs, errors.New("an observer that observes nothing"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("pubsub: config: %w", err)
	}
	return nil
}

// laneLimits are the bounds of a peer's lanes.
func (c *Config) laneLimits() [lanes]laneLimits {
	l := laneLimits{items: c.QueueItems, bytes: c.QueueBytes}
	var out [lanes]laneLimits
	for i, v := range [...]struct {
		age   time.Duration
		evict bool
	}{
		LanePublish: {DefaultPublishAge, false},
		LaneRelay:   {DefaultRelayAge, true},
		LaneGossip:  {DefaultGossipAge, true},
		LaneBulk:    {DefaultPublishAge, false},
	} {
		l.age, l.evict = v.age, v.evict
		out[i] = l
	}
	return out
}
