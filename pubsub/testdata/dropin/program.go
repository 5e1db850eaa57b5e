// Package dropin is a program written against go-libp2p-pubsub v0.17.0: call
// sites as kubo, lotus and Ethereum clients have them. It is compiled against
// both libraries, with nothing but the import paths changed.
package dropin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand"
	"net"
	"regexp"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/discovery/backoff"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsub_pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p-pubsub/timecache"
)

func init() {
	pubsub.GossipSubD = 8
	pubsub.GossipSubDscore = 6
	pubsub.GossipSubDout = 3
	pubsub.GossipSubDlo = 6
	pubsub.GossipSubDhi = 12
	pubsub.GossipSubDlazy = 12
	pubsub.GossipSubDirectConnectInitialDelay = 30 * time.Second
	pubsub.GossipSubIWantFollowupTime = 5 * time.Second
	pubsub.GossipSubHistoryLength = 10
	pubsub.GossipSubGossipFactor = 0.1
	pubsub.TimeCacheDuration = 4 * time.Minute
}

func hashID(m *pubsub_pb.Message) string {
	sum := sha256.Sum256(append([]byte(m.GetTopic()), m.Data...))
	return string(sum[:20])
}

type tracer struct{ log *slog.Logger }

var _ pubsub.RawTracer = (*tracer)(nil)
var _ pubsub.EventTracer = (*tracer)(nil)

func (t *tracer) OnNewOutboundStream(p peer.ID, proto protocol.ID) {
	t.log.Info("up", "p", p, "proto", proto)
}
func (t *tracer) OnClosedOutboundStream(p peer.ID)    {}
func (t *tracer) Join(topic string)                   {}
func (t *tracer) Leave(topic string)                  {}
func (t *tracer) Graft(p peer.ID, topic string)       {}
func (t *tracer) Prune(p peer.ID, topic string)       {}
func (t *tracer) ValidateMessage(msg *pubsub.Message) {}
func (t *tracer) DeliverMessage(msg *pubsub.Message)  { t.log.Info(msg.ID, "from", msg.ReceivedFrom) }
func (t *tracer) RejectMessage(msg *pubsub.Message, reason string) {
	switch reason {
	case pubsub.RejectInvalidSignature, pubsub.RejectValidationFailed, pubsub.RejectBlacklstedPeer:
		t.log.Info(reason, "topic", msg.GetTopic())
	}
}
func (t *tracer) DuplicateMessage(msg *pubsub.Message) {}
func (t *tracer) ThrottlePeer(p peer.ID)               {}
func (t *tracer) RecvRPC(rpc *pubsub.RPC) {
	for _, m := range rpc.GetPublish() {
		t.log.Info("message", "topic", m.GetTopic(), "bytes", len(m.GetData()))
	}
	for _, ihave := range rpc.GetControl().GetIhave() {
		t.log.Info("ihave", "topic", ihave.GetTopicID(), "n", len(ihave.GetMessageIDs()))
	}
}
func (t *tracer) SendRPC(rpc *pubsub.RPC, p peer.ID)       {}
func (t *tracer) DropRPC(rpc *pubsub.RPC, p peer.ID)       {}
func (t *tracer) UndeliverableMessage(msg *pubsub.Message) {}
func (t *tracer) Trace(evt *pubsub_pb.TraceEvent) {
	switch evt.GetType() {
	case pubsub_pb.TraceEvent_GRAFT:
		t.log.Info("graft", "topic", evt.GetGraft().GetTopic())
	case pubsub_pb.TraceEvent_DELIVER_MESSAGE:
		t.log.Info("deliver", "id", evt.GetDeliverMessage().GetMessageID())
	}
}

type filter struct{ pubsub.SubscriptionFilter }

func (f filter) FilterIncomingSubscriptions(p peer.ID, subs []*pubsub_pb.RPC_SubOpts) ([]*pubsub_pb.RPC_SubOpts, error) {
	if len(subs) > 100 {
		return nil, pubsub.ErrTooManySubscriptions
	}
	return pubsub.FilterSubscriptions(subs, func(topic string) bool { return topic != "" && f.CanSubscribe(topic) }), nil
}

type metaStore struct{ m map[peer.ID][]byte }

func (s metaStore) Get(_ context.Context, p peer.ID) ([]byte, error) { return s.m[p], nil }
func (s metaStore) Put(_ context.Context, p peer.ID, b []byte) error { s.m[p] = b; return nil }

func scoreParams() (*pubsub.PeerScoreParams, *pubsub.PeerScoreThresholds) {
	_, private, _ := net.ParseCIDR("10.0.0.0/8")
	return &pubsub.PeerScoreParams{
			AppSpecificScore:            func(p peer.ID) float64 { return 0 },
			AppSpecificWeight:           1,
			IPColocationFactorThreshold: 5,
			IPColocationFactorWeight:    -100,
			IPColocationFactorWhitelist: []*net.IPNet{private},
			BehaviourPenaltyThreshold:   6,
			BehaviourPenaltyWeight:      -10,
			BehaviourPenaltyDecay:       pubsub.ScoreParameterDecay(time.Hour),
			DecayInterval:               pubsub.DefaultDecayInterval,
			DecayToZero:                 pubsub.DefaultDecayToZero,
			RetainScore:                 6 * time.Hour,
			Topics: map[string]*pubsub.TopicScoreParams{"blocks": {
				TopicWeight: 0.1, TimeInMeshWeight: 0.00027, TimeInMeshQuantum: time.Second, TimeInMeshCap: 1,
				FirstMessageDeliveriesWeight: 5, FirstMessageDeliveriesDecay: pubsub.ScoreParameterDecay(time.Hour), FirstMessageDeliveriesCap: 100,
				InvalidMessageDeliveriesWeight: -1000, InvalidMessageDeliveriesDecay: pubsub.ScoreParameterDecay(time.Hour),
			}},
		}, &pubsub.PeerScoreThresholds{
			GossipThreshold: -500, PublishThreshold: -1000, GraylistThreshold: -2500, AcceptPXThreshold: 1000, OpportunisticGraftThreshold: 3.5,
		}
}

// Traced makes a router that traces to a file and to a collector, as lotus does.
func Traced(ctx context.Context, h host.Host, collector peer.AddrInfo, log *slog.Logger) (*pubsub.PubSub, error) {
	remote, err := pubsub.NewRemoteTracer(ctx, h, collector, log)
	if err != nil {
		return nil, err
	}
	file, err := pubsub.NewJSONTracer("trace.json")
	if err != nil {
		return nil, err
	}
	return pubsub.NewGossipSub(ctx, h, pubsub.WithEventTracer(remote), pubsub.WithEventTracer(file))
}

// New makes a router with most options there are.
func New(ctx context.Context, h host.Host, disc discovery.Discovery, friends []peer.AddrInfo, log *slog.Logger) (*pubsub.PubSub, error) {
	params, thresholds := scoreParams()
	gossip := pubsub.DefaultGossipSubParams()
	gossip.HeartbeatInterval = 700 * time.Millisecond
	inspect := func(scores map[peer.ID]*pubsub.PeerScoreSnapshot) {
		for p, s := range scores {
			log.Info("score", "p", p, "s", s.Score, "topics", len(s.Topics))
		}
	}
	tr := &tracer{log}
	opts := []pubsub.Option{
		pubsub.WithPeerScore(params, thresholds),
		pubsub.WithPeerScoreInspect(inspect, 10*time.Second),
		pubsub.WithGossipSubParams(gossip),
		pubsub.WithPeerGater(pubsub.NewPeerGaterParams(.33, pubsub.ScoreParameterDecay(2*time.Minute), pubsub.ScoreParameterDecay(10*time.Minute))),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictSign),
		pubsub.WithFloodPublish(true),
		pubsub.WithPeerExchange(true),
		pubsub.WithDirectPeers(friends),
		pubsub.WithDirectConnectTicks(100),
		pubsub.WithMaxMessageSize(10 << 20),
		pubsub.WithPeerOutboundQueueSize(600),
		pubsub.WithValidateQueueSize(600),
		pubsub.WithValidateThrottle(1024),
		pubsub.WithValidateWorkers(4),
		pubsub.WithSeenMessagesTTL(2 * time.Minute),
		pubsub.WithSeenMessagesStrategy(timecache.Strategy_LastSeen),
		pubsub.WithBlacklist(pubsub.NewMapBlacklist()),
		pubsub.WithSubscriptionFilter(filter{pubsub.WrapLimitSubscriptionFilter(pubsub.NewRegexpSubscriptionFilter(regexp.MustCompile("^blocks|news$")), 100)}),
		pubsub.WithPeerFilter(func(pid peer.ID, topic string) bool { return true }),
		pubsub.WithAppSpecificRpcInspector(func(p peer.ID, rpc *pubsub.RPC) error {
			if len(rpc.GetSubscriptions()) > 1000 {
				return errors.New("too many")
			}
			return nil
		}),
		pubsub.WithDefaultValidator(pubsub.NewBasicSeqnoValidator(metaStore{map[peer.ID][]byte{}}, log)),
		pubsub.WithRawTracer(tr),
		pubsub.WithEventTracer(tr),
	}
	if disc != nil {
		opts = append(opts, pubsub.WithDiscovery(disc, pubsub.WithDiscoveryOpts(discovery.Limit(20), discovery.TTL(time.Hour))))
	}
	return pubsub.NewGossipSub(ctx, h, opts...)
}

// Anonymous makes a router whose messages have no author.
func Anonymous(ctx context.Context, h host.Host) (*pubsub.PubSub, error) {
	return pubsub.NewGossipSub(ctx, h,
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(), pubsub.WithMessageIdFn(hashID),
		pubsub.WithGossipSubProtocols([]protocol.ID{pubsub.GossipSubID_v12, pubsub.GossipSubID_v11}, pubsub.GossipSubDefaultFeatures))
}

// Flood makes a floodsub router.
func Flood(ctx context.Context, h host.Host) (*pubsub.PubSub, error) {
	list, err := pubsub.NewTimeCachedBlacklist(time.Minute)
	if err != nil {
		return nil, err
	}
	return pubsub.NewFloodSub(ctx, h, pubsub.WithBlacklist(list))
}

// Use joins a topic, validates, publishes, reads and leaves.
func Use(ctx context.Context, ps *pubsub.PubSub, self peer.ID, key crypto.PrivKey) error {
	var v pubsub.ValidatorEx = func(ctx context.Context, from peer.ID, msg *pubsub.Message) pubsub.ValidationResult {
		switch {
		case len(msg.Data) == 0:
			return pubsub.ValidationReject
		case from == self:
			return pubsub.ValidationAccept
		case msg.GetFrom() == "":
			return pubsub.ValidationIgnore
		}
		msg.ValidatorData = string(msg.Data)
		return pubsub.ValidationAccept
	}
	err := ps.RegisterTopicValidator("blocks", v, pubsub.WithValidatorInline(false), pubsub.WithValidatorTimeout(time.Second), pubsub.WithValidatorConcurrency(16))
	if err != nil {
		return err
	}
	if err := ps.RegisterTopicValidator("news", func(ctx context.Context, from peer.ID, msg *pubsub.Message) bool { return true }); err != nil {
		return err
	}
	defer ps.UnregisterTopicValidator("blocks")
	topic, err := ps.Join("blocks", pubsub.WithTopicMessageIdFn(hashID))
	if err != nil {
		return err
	}
	defer topic.Close()
	events, err := topic.EventHandler()
	if err != nil {
		return err
	}
	defer events.Cancel()
	sub, err := topic.Subscribe(pubsub.WithBufferSize(64))
	if err != nil {
		return err
	}
	defer sub.Cancel()
	relay, err := topic.Relay()
	if err != nil {
		return err
	}
	defer relay()
	if params, _ := scoreParams(); params != nil {
		if err := topic.SetScoreParams(params.Topics["blocks"]); err != nil {
			return err
		}
	}
	if err := topic.Publish(ctx, []byte("hello "+topic.String()), pubsub.WithReadiness(pubsub.MinTopicSize(0)), pubsub.WithValidatorData("hello")); err != nil {
		var verr pubsub.ValidationError
		if errors.As(err, &verr) {
			return fmt.Errorf("refused: %s", verr.Reason)
		}
		return err
	}
	if err := topic.Publish(ctx, []byte("as another"), pubsub.WithSecretKeyAndPeerId(key, self), pubsub.WithLocalPublication(true)); err != nil {
		return err
	}
	var batch pubsub.MessageBatch
	if err := topic.AddToBatch(ctx, &batch, []byte("in a batch")); err != nil {
		return err
	}
	if err := ps.PublishBatch(&batch); err != nil {
		return err
	}
	for range 3 {
		msg, err := sub.Next(ctx)
		if errors.Is(err, pubsub.ErrSubscriptionCancelled) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Println(msg.GetTopic(), msg.GetFrom(), msg.ReceivedFrom, string(msg.GetData()), msg.GetSeqno(), msg.Local, msg.ID == hashID(msg.Message))
	}
	for _, p := range append(topic.ListPeers(), ps.ListPeers("news")...) {
		ps.BlacklistPeer(p)
	}
	ev, err := events.NextPeerEvent(ctx)
	if err == nil && ev.Type == pubsub.PeerJoin {
		fmt.Println("joined", ev.Peer)
	}
	fmt.Println(ps.GetTopics(), sub.Topic())
	return nil
}

// Room is a chat room, as the examples of libp2p have it.
type Room struct {
	Messages chan string

	ctx   context.Context
	ps    *pubsub.PubSub
	topic *pubsub.Topic
	sub   *pubsub.Subscription
	self  peer.ID
}

// Enter enters a chat room.
func Enter(ctx context.Context, h host.Host, name string) (*Room, error) {
	ps, err := pubsub.NewGossipSub(ctx, h)
	if err != nil {
		return nil, err
	}
	topic, err := ps.Join("chat-room:" + name)
	if err != nil {
		return nil, err
	}
	sub, err := topic.Subscribe()
	if err != nil {
		return nil, err
	}
	r := &Room{ctx: ctx, ps: ps, topic: topic, sub: sub, self: h.ID(), Messages: make(chan string, 128)}
	go r.read()
	return r, nil
}

func (r *Room) read() {
	for {
		msg, err := r.sub.Next(r.ctx)
		if err != nil {
			close(r.Messages)
			return
		}
		if msg.ReceivedFrom == r.self || msg.Local {
			continue
		}
		r.Messages <- string(msg.Data)
	}
}

// Say publishes a line.
func (r *Room) Say(line string) error { return r.topic.Publish(r.ctx, []byte(line)) }

// People lists who else is there.
func (r *Room) People() []peer.ID { return r.ps.ListPeers(r.topic.String()) }

// counts is what clients of Ethereum and Filecoin count of RPCs and events.
type counts map[string]int

func (c counts) rpc(rpc *pubsub.RPC) {
	c["from "+rpc.From().String()]++
	c["subscriptions"] += len(rpc.Subscriptions)
	c["messages"] += len(rpc.Publish)
	for _, s := range rpc.GetSubscriptions() {
		if s.GetSubscribe() {
			c[s.GetTopicid()]++
		}
	}
	if ctl := rpc.Control; ctl != nil {
		c["graft"] += len(ctl.Graft)
		c["prune"] += len(ctl.Prune)
		for _, p := range ctl.Prune {
			c["peers"] += len(p.GetPeers())
			if p.GetBackoff() > 60 && p.TopicID != nil {
				c[*p.TopicID]++
			}
		}
		for _, w := range ctl.Iwant {
			c["iwant"] += len(w.MessageIDs)
		}
		for _, h := range ctl.Ihave {
			c["ihave"] += len(h.MessageIDs)
		}
		for _, d := range ctl.Idontwant {
			c["idontwant"] += len(d.GetMessageIDs())
		}
	}
}

func (c counts) Trace(evt *pubsub_pb.TraceEvent) {
	switch evt.GetType() {
	case pubsub_pb.TraceEvent_PUBLISH_MESSAGE:
		c[evt.GetPublishMessage().GetTopic()]++
	case pubsub_pb.TraceEvent_REJECT_MESSAGE:
		switch evt.GetRejectMessage().GetReason() {
		case pubsub.RejectValidationIgnored, pubsub.RejectValidationThrottled, pubsub.RejectValidationQueueFull,
			pubsub.RejectBlacklistedSource, pubsub.RejectSelfOrigin:
		default:
			c[peer.ID(evt.GetRejectMessage().GetReceivedFrom()).String()]++
		}
	case pubsub_pb.TraceEvent_DUPLICATE_MESSAGE, pubsub_pb.TraceEvent_JOIN, pubsub_pb.TraceEvent_LEAVE, pubsub_pb.TraceEvent_PRUNE:
		c[evt.GetType().String()] += int(evt.GetTimestamp() % 2)
	case pubsub_pb.TraceEvent_RECV_RPC:
		c["received"] += len(evt.GetRecvRPC().GetMeta().GetMessages())
	case pubsub_pb.TraceEvent_SEND_RPC, pubsub_pb.TraceEvent_DROP_RPC:
		c["topics"] += len(evt.GetSendRPC().GetMeta().GetSubscription())
	}
}

// Consensus makes a router as clients of Ethereum have it, and subscribes.
func Consensus(ctx context.Context, h host.Host, disc discovery.Discovery, digest [4]byte) (*pubsub.Subscription, error) {
	gater := pubsub.NewPeerGaterParams(.33, pubsub.ScoreParameterDecay(2*time.Minute), pubsub.ScoreParameterDecay(10*time.Minute)).
		WithTopicDeliveryWeights(map[string]float64{"blocks": 10, "messages": 1})
	connector := pubsub.WithDiscoverConnector(func(h host.Host) (*backoff.BackoffConnector, error) {
		wait := backoff.NewExponentialBackoff(time.Minute, time.Hour, backoff.FullJitter, time.Second, 5.0, 0, rand.NewSource(1))
		return backoff.NewBackoffConnector(h, 100, 2*time.Minute, wait)
	})
	c := counts{}
	ps, err := pubsub.NewGossipSub(ctx, h,
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(pmsg *pubsub_pb.Message) string { return hashID(pmsg) }),
		pubsub.WithPeerGater(gater), pubsub.WithDiscovery(disc, connector), pubsub.WithEventTracer(c),
		pubsub.WithPeerScoreInspect(func(m map[peer.ID]*pubsub.PeerScoreSnapshot) {
			for p, s := range m {
				c[p.String()] += int(s.AppSpecificScore + s.BehaviourPenalty + s.IPColocationFactor)
				for topic, t := range s.Topics {
					c[topic] += int(t.FirstMessageDeliveries+t.MeshMessageDeliveries+t.InvalidMessageDeliveries) + int(t.TimeInMesh/time.Second)
				}
			}
		}, time.Minute),
		pubsub.WithPeerScore(scoreParams()),
		pubsub.WithAppSpecificRpcInspector(func(p peer.ID, rpc *pubsub.RPC) error { c.rpc(rpc); return nil }),
	)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("/eth2/%x/beacon_block/ssz_snappy", digest)
	validator := func(topic string) (string, pubsub.ValidatorEx) {
		return topic, func(ctx context.Context, pid peer.ID, msg *pubsub.Message) (res pubsub.ValidationResult) {
			if msg.Topic == nil || *msg.Topic != topic {
				return pubsub.ValidationReject
			}
			return pubsub.ValidationAccept
		}
	}
	if err := ps.RegisterTopicValidator(validator(name)); err != nil {
		return nil, err
	}
	return ps.Subscribe(name)
}

// Random makes a randomsub router.
func Random(ctx context.Context, h host.Host) (*pubsub.PubSub, error) {
	return pubsub.NewRandomSub(ctx, h, 100, pubsub.WithSeenMessagesStrategy(pubsub.TimeCacheStrategy))
}
