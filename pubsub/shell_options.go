package pubsub

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/muster-p2p/muster/pubsub/timecache"
)

// An Option changes a [Config]. The options exist for programs that were
// written for go-libp2p-pubsub; [New] takes the Config itself.
type Option func(*Config) error

// set makes an option of an assignment.
func set(f func(*Config)) Option {
	return func(c *Config) error {
		f(c)
		return nil
	}
}

// WithGossipSubParams sets gossipsub's parameters.
func WithGossipSubParams(p GossipSubParams) Option { return set(func(c *Config) { c.Params = &p }) }

// WithGossipSubProtocols sets the protocols and what they allow.
func WithGossipSubProtocols(protos []protocol.ID, feature GossipSubFeatureTest) Option {
	return set(func(c *Config) { c.Protocols, c.FeatureTest = protos, feature })
}

// WithProtocolMatchFn sets how protocols of inbound streams are matched.
func WithProtocolMatchFn(m ProtocolMatchFn) Option {
	return set(func(c *Config) { c.ProtocolMatch = m })
}

// WithPeerScore turns on peer scoring.
func WithPeerScore(params *PeerScoreParams, thresholds *PeerScoreThresholds) Option {
	return set(func(c *Config) { c.Score, c.Thresholds = params, thresholds })
}

// WithPeerScoreInspect calls a PeerScoreInspectFn or an
// ExtendedPeerScoreInspectFn with all scores every period.
func WithPeerScoreInspect(inspect any, period time.Duration) Option {
	return set(func(c *Config) { c.ScoreInspect, c.ScoreInspectPeriod = inspect, period })
}

// WithPeerGater turns on the peer gater.
func WithPeerGater(params *PeerGaterParams) Option {
	return func(c *Config) error {
		c.Gater = params
		return params.validate()
	}
}

// WithPeerExchange sends other peers along with PRUNE.
func WithPeerExchange(doPX bool) Option { return set(func(c *Config) { c.PeerExchange = doPX }) }

// OnlyPublicAddrsOnPeerExchange leaves out peers without a public address.
func OnlyPublicAddrsOnPeerExchange() Option { return set(func(c *Config) { c.PublicPXOnly = true }) }

// WithFloodPublish sends our own messages to all peers of the topic.
func WithFloodPublish(floodPublish bool) Option {
	return set(func(c *Config) { c.FloodPublish = floodPublish })
}

// WithDirectPeers sets peering agreements.
func WithDirectPeers(pis []peer.AddrInfo) Option {
	return set(func(c *Config) { c.DirectPeers = append(c.DirectPeers, pis...) })
}

// WithDirectConnectTicks sets how many heartbeats lie between attempts to
// reach direct peers.
func WithDirectConnectTicks(t uint64) Option {
	return func(c *Config) error {
		p := c.params()
		p.DirectConnectTicks = t
		return nil
	}
}

// params returns the parameters to be changed.
func (c *Config) params() *GossipSubParams {
	p := DefaultGossipSubParams()
	if c.Params != nil {
		p = *c.Params
	}
	c.Params = &p
	return &p
}

// WithMessageSignaturePolicy sets the signature policy. Under StrictNoSign
// messages keep author and sequence number, as in go-libp2p-pubsub, unless
// WithNoAuthor is given too.
func WithMessageSignaturePolicy(policy MessageSignaturePolicy) Option {
	return set(func(c *Config) { c.Signatures, c.UnsignedAuthors = &policy, !c.NoAuthor })
}

// WithMessageSigning turns signing on or off.
//
// Deprecated: use WithMessageSignaturePolicy.
func WithMessageSigning(enabled bool) Option { return policyBit(policySign, enabled) }

// WithStrictSignatureVerification turns strictness on or off.
//
// Deprecated: use WithMessageSignaturePolicy.
func WithStrictSignatureVerification(required bool) Option { return policyBit(policyVerify, required) }

func policyBit(bit MessageSignaturePolicy, on bool) Option {
	return set(func(c *Config) {
		p := StrictSign
		if c.Signatures != nil {
			p = *c.Signatures
		}
		if p &^= bit; on {
			p |= bit
		}
		c.Signatures = &p
	})
}

// WithMessageAuthor sets the author of our messages, whose key has to be in
// the host's peerstore.
func WithMessageAuthor(author peer.ID) Option { return set(func(c *Config) { c.Author = author }) }

// WithNoAuthor leaves author, sequence number and signature out of our
// messages, and under StrictNoSign refuses those of others that have them.
func WithNoAuthor() Option {
	return set(func(c *Config) { c.NoAuthor, c.UnsignedAuthors = true, false })
}

// WithMessageIdFn sets the message-id function.
func WithMessageIdFn(fn MsgIdFunction) Option { //nolint:revive // the name that users of go-libp2p-pubsub know
	return set(func(c *Config) { c.MessageID = fn })
}

// WithMaxMessageSize bounds an RPC, both ways.
func WithMaxMessageSize(n int) Option {
	return func(c *Config) error {
		if n <= 0 {
			return fmt.Errorf("pubsub: max message size %d", n)
		}
		c.MaxMessageSize = n
		return nil
	}
}

// WithMaxControlMessageSize bounds the control part of an inbound RPC.
func WithMaxControlMessageSize(n int) Option {
	return set(func(c *Config) { c.Limits.ControlBytes = n })
}

// WithPeerOutboundQueueSize bounds each lane of each peer, in messages.
func WithPeerOutboundQueueSize(size int) Option {
	return func(c *Config) error {
		if size <= 0 {
			return errors.New("pubsub: outbound queue size must be positive")
		}
		c.QueueItems = size
		return nil
	}
}

// WithBackpressure makes Publish wait for room rather than refuse.
func WithBackpressure() Option { return set(func(c *Config) { c.Backpressure = true }) }

// WithValidateQueueSize is accepted and has no effect: messages wait to be
// validated in the stream that they come from, and none is dropped there.
func WithValidateQueueSize(n int) Option {
	return func(*Config) error {
		if n <= 0 {
			return errors.New("pubsub: validate queue size must be positive")
		}
		return nil
	}
}

// WithValidateThrottle bounds the asynchronous validators over all topics.
func WithValidateThrottle(n int) Option { return set(func(c *Config) { c.ValidateThrottle = n }) }

// WithValidateWorkers bounds the signatures that are verified at a time.
func WithValidateWorkers(n int) Option {
	return func(c *Config) error {
		if n <= 0 {
			return errors.New("pubsub: the number of validation workers must be positive")
		}
		c.ValidateWorkers = n
		return nil
	}
}

// WithDefaultValidator adds a validator for all topics.
func WithDefaultValidator(val any, opts ...ValidatorOpt) Option {
	return set(func(c *Config) { c.Validators = append(c.Validators, DefaultValidator{Validate: val, Options: opts}) })
}

// WithSeenMessagesTTL sets how long message ids are remembered.
func WithSeenMessagesTTL(ttl time.Duration) Option { return set(func(c *Config) { c.SeenTTL = ttl }) }

// WithSeenMessagesStrategy sets from when on that time counts.
func WithSeenMessagesStrategy(s timecache.Strategy) Option {
	return set(func(c *Config) { c.SeenLast = s == timecache.Strategy_LastSeen })
}

// WithBlacklist sets the blacklist.
func WithBlacklist(b Blacklist) Option { return set(func(c *Config) { c.Blacklist = b }) }

// WithSubscriptionFilter sets the subscription filter.
func WithSubscriptionFilter(f SubscriptionFilter) Option {
	return set(func(c *Config) { c.SubscriptionFilter = f })
}

// WithPeerFilter sets which peers may be in which topic.
func WithPeerFilter(f PeerFilter) Option { return set(func(c *Config) { c.PeerFilter = f }) }

// WithAppSpecificRpcInspector shows each inbound RPC to a function; an error
// drops it.
func WithAppSpecificRpcInspector(f func(peer.ID, *RPC) error) Option { //nolint:revive // the name that users of go-libp2p-pubsub know
	return set(func(c *Config) { c.Inspector = f })
}

// WithObserver adds an observer.
func WithObserver(o Observer) Option {
	return set(func(c *Config) { c.Observers = append(c.Observers, o) })
}

// WithRawTracer adds a tracer.
func WithRawTracer(t RawTracer) Option {
	return func(c *Config) error {
		if t == nil {
			return errors.New("pubsub: nil tracer")
		}
		c.RawTracers = append(c.RawTracers, t)
		return nil
	}
}

// WithEventTracer adds an event tracer.
func WithEventTracer(t EventTracer) Option {
	return func(c *Config) error {
		if t == nil {
			return errors.New("pubsub: nil tracer")
		}
		c.EventTracers = append(c.EventTracers, t)
		return nil
	}
}

// WithDiscovery finds peers for topics that have too few.
func WithDiscovery(d discovery.Discovery, opts ...DiscoverOpt) Option {
	return func(c *Config) error {
		c.Discovery = &DiscoveryConfig{Discovery: d}
		for _, opt := range opts {
			if err := opt(c.Discovery); err != nil {
				return err
			}
		}
		return nil
	}
}

// WithLogger sets the logger.
func WithLogger(l *slog.Logger) Option { return set(func(c *Config) { c.Logger = l }) }

// WithRPCLogger sets a logger for each RPC.
func WithRPCLogger(l *slog.Logger) Option { return set(func(c *Config) { c.RPCLogger = l }) }
