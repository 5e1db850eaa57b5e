package pubsub

import (
	"errors"
	"regexp"

	"github.com/libp2p/go-libp2p/core/peer"

	pb "github.com/muster-p2p/muster/pubsub/pb"
)

// ErrTooManySubscriptions is returned by a SubscriptionFilter for an RPC with
// too many subscriptions, which are then all ignored.
var ErrTooManySubscriptions = errors.New("pubsub: too many subscriptions")

// A SubscriptionFilter decides which topics may be joined here, and which
// subscriptions of others are remembered. It is called from many goroutines.
type SubscriptionFilter interface {
	// CanSubscribe reports whether we may join the topic.
	CanSubscribe(topic string) bool
	// FilterIncomingSubscriptions returns the subscriptions of an RPC to be
	// remembered, or an error to ignore all.
	FilterIncomingSubscriptions(peer.ID, []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error)
}

// NewAllowlistSubscriptionFilter allows the given topics.
func NewAllowlistSubscriptionFilter(topics ...string) SubscriptionFilter {
	allowed := make(allowlist, len(topics))
	for _, t := range topics {
		allowed[t] = struct{}{}
	}
	return allowed
}

type allowlist map[string]struct{}

func (a allowlist) CanSubscribe(topic string) bool {
	_, ok := a[topic]
	return ok
}

func (a allowlist) FilterIncomingSubscriptions(_ peer.ID, subs []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	return FilterSubscriptions(subs, a.CanSubscribe), nil
}

// NewRegexpSubscriptionFilter allows the topics that match rx. Anchor it with
// ^ and $ unless it is meant to match a part of a name.
func NewRegexpSubscriptionFilter(rx *regexp.Regexp) SubscriptionFilter { return regexpFilter{rx} }

type regexpFilter struct{ rx *regexp.Regexp }

func (f regexpFilter) CanSubscribe(topic string) bool { return f.rx.MatchString(topic) }

func (f regexpFilter) FilterIncomingSubscriptions(_ peer.ID, subs []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	return FilterSubscriptions(subs, f.CanSubscribe), nil
}

// WrapLimitSubscriptionFilter ignores RPCs with more than limit subscriptions.
func WrapLimitSubscriptionFilter(filter SubscriptionFilter, limit int) SubscriptionFilter {
	return limitFilter{filter, limit}
}

type limitFilter struct {
	SubscriptionFilter
	limit int
}

func (f limitFilter) FilterIncomingSubscriptions(p peer.ID, subs []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	if len(subs) > f.limit {
		return nil, ErrTooManySubscriptions
	}
	return f.SubscriptionFilter.FilterIncomingSubscriptions(p, subs)
}

// FilterSubscriptions keeps the subscriptions to topics for which filter
// returns true, one per topic: the last word on it counts.
func FilterSubscriptions(subs []*pb.RPC_SubOpts, filter func(string) bool) []*pb.RPC_SubOpts {
	at := make(map[string]int)
	var out []*pb.RPC_SubOpts
	for _, s := range subs {
		topic := s.GetTopicid()
		if !filter(topic) {
			continue
		}
		if i, ok := at[topic]; ok {
			out[i] = s
			continue
		}
		at[topic] = len(out)
		out = append(out, s)
	}
	return out
}
