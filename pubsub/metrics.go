package pubsub

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counters are the counts behind Stats.
type counters struct {
	rpcsSent, rpcsReceived, messagesSent             atomic.Uint64
	published, publishRefused, delivered, duplicates atomic.Uint64
	undeliverable, rejected, ignored, throttled      atomic.Uint64
	badSignatures, badIDs, badRPCs, notWanted        atomic.Uint64
	excess, graylisted, gated, observerDrops         atomic.Uint64
	ihaveSent, iwantSent, iwantServed                atomic.Uint64
	idontwantSent, idontwantReceived                 atomic.Uint64
	brokenPromises, penalties                        atomic.Uint64
	streamsRefused, stuckStreams, disconnects        atomic.Uint64
	heartbeats                                       atomic.Uint64
	dropped                                          [dropReasons]atomic.Uint64
	refused                                          [refusals]atomic.Uint64
}

// Stats counts what a PubSub did since it was made.
type Stats struct {
	RPCsSent, RPCsReceived, MessagesSent uint64

	Published      uint64 // messages of ours that went out
	PublishRefused uint64 // for which Publish returned ErrQueueFull or ErrNoPeers
	Delivered      uint64 // messages of others that were accepted
	Duplicates     uint64
	Undeliverable  uint64 // lost in a subscription without room
	Rejected       uint64 // by the policy, a signature or a validator
	Ignored        uint64 // by a validator
	Throttled      uint64 // for want of room in validation
	BadSignatures  uint64 // messages that their sender should have refused
	BadIDs         uint64 // without a message id, or with one too long
	BadRPCs        uint64 // frames that could not be read
	NotWanted      uint64 // messages of topics that we are not in
	Excess         uint64 // entries of RPCs beyond a limit
	Graylisted     uint64 // RPCs of peers with too low a score
	Gated          uint64 // RPCs whose messages the peer gater dropped
	ObserverDrops  uint64 // RPCs that an observer dropped

	IHaveSent, IWantSent, IWantServed uint64 // message ids, ids, messages
	IDontWantSent, IDontWantReceived  uint64 // message ids
	BrokenPromises, Penalties         uint64

	// Dropped from queues to peers.
	DroppedFull, DroppedExpired, DroppedUnwanted, DroppedTooLong uint64
	// Limits that a peer hit.
	RefusedTopics, RefusedIHave, RefusedIWant, RefusedGraft, RefusedIDontWant uint64

	StreamsRefused, StuckStreams, Disconnects uint64
	Heartbeats                                uint64

	Peers, Topics, SeenIDs int // now
}

// Stats returns a snapshot of the counters.
func (ps *PubSub) Stats() Stats {
	c := &ps.stats
	return Stats{
		RPCsSent: c.rpcsSent.Load(), RPCsReceived: c.rpcsReceived.Load(), MessagesSent: c.messagesSent.Load(),
		Published: c.published.Load(), PublishRefused: c.publishRefused.Load(), Delivered: c.delivered.Load(),
		Duplicates: c.duplicates.Load(), Undeliverable: c.undeliverable.Load(), Rejected: c.rejected.Load(),
		Ignored: c.ignored.Load(), Throttled: c.throttled.Load(), BadSignatures: c.badSignatures.Load(),
		BadIDs: c.badIDs.Load(), BadRPCs: c.badRPCs.Load(), NotWanted: c.notWanted.Load(), Excess: c.excess.Load(),
		Graylisted: c.graylisted.Load(), Gated: c.gated.Load(), ObserverDrops: c.observerDrops.Load(),
		IHaveSent: c.ihaveSent.Load(), IWantSent: c.iwantSent.Load(), IWantServed: c.iwantServed.Load(),
		IDontWantSent: c.idontwantSent.Load(), IDontWantReceived: c.idontwantReceived.Load(),
		BrokenPromises: c.brokenPromises.Load(), Penalties: c.penalties.Load(),
		DroppedFull: c.dropped[dropFull].Load(), DroppedExpired: c.dropped[dropExpired].Load(),
		DroppedUnwanted: c.dropped[dropUnwanted].Load(), DroppedTooLong: c.dropped[dropTooLong].Load(),
		RefusedTopics: c.refused[refusedTopics].Load(), RefusedIHave: c.refused[refusedIHave].Load(),
		RefusedIWant: c.refused[refusedIWant].Load(), RefusedGraft: c.refused[refusedGraft].Load(),
		RefusedIDontWant: c.refused[refusedIDontWant].Load(),
		StreamsRefused:   c.streamsRefused.Load(), StuckStreams: c.stuckStreams.Load(), Disconnects: c.disconnects.Load(),
		Heartbeats: c.heartbeats.Load(),
		Peers:      len(*ps.peerList.Load()), Topics: len(*ps.joined.Load()), SeenIDs: ps.seen.len(),
	}
}

// A collector offers Stats to Prometheus. No label names a peer or a topic:
// strangers would decide how many series there are.
type collector struct{ ps *PubSub }

// A metric is one counter or gauge of Stats.
type metric struct {
	desc  *prometheus.Desc
	gauge bool
	value func(*Stats) float64
}

func counterOf(name, help string, f func(*Stats) uint64) metric {
	return metric{
		desc:  prometheus.NewDesc("muster_pubsub_"+name, help, nil, nil),
		value: func(s *Stats) float64 { return float64(f(s)) },
	}
}

func gaugeOf(name, help string, f func(*Stats) int) metric {
	return metric{
		desc: prometheus.NewDesc("muster_pubsub_"+name, help, nil, nil), gauge: true,
		value: func(s *Stats) float64 { return float64(f(s)) },
	}
}

// metricList is never changed.
var metricList = []metric{
	counterOf("rpcs_sent_total", "RPCs written.", func(s *Stats) uint64 { return s.RPCsSent }),
	counterOf("rpcs_received_total", "RPCs read.", func(s *Stats) uint64 { return s.RPCsReceived }),
	counterOf("messages_sent_total", "Messages written, copies counted.", func(s *Stats) uint64 { return s.MessagesSent }),
	counterOf("published_total", "Messages published here.", func(s *Stats) uint64 { return s.Published }),
	counterOf("publish_refused_total", "Publishes refused for want of room or peers.", func(s *Stats) uint64 { return s.PublishRefused }),
	counterOf("delivered_total", "Messages accepted.", func(s *Stats) uint64 { return s.Delivered }),
	counterOf("duplicates_total", "Messages received again.", func(s *Stats) uint64 { return s.Duplicates }),
	counterOf("undeliverable_total", "Messages lost in a full subscription.", func(s *Stats) uint64 { return s.Undeliverable }),
	counterOf("rejected_total", "Messages rejected.", func(s *Stats) uint64 { return s.Rejected }),
	counterOf("ignored_total", "Messages ignored by a validator.", func(s *Stats) uint64 { return s.Ignored }),
	counterOf("throttled_total", "Messages dropped for want of room in validation.", func(s *Stats) uint64 { return s.Throttled }),
	counterOf("bad_signatures_total", "Messages that their sender should have refused.", func(s *Stats) uint64 { return s.BadSignatures }),
	counterOf("bad_rpcs_total", "Frames that could not be read.", func(s *Stats) uint64 { return s.BadRPCs }),
	counterOf("excess_total", "Entries of RPCs beyond a limit.", func(s *Stats) uint64 { return s.Excess }),
	counterOf("graylisted_total", "RPCs of peers with too low a score.", func(s *Stats) uint64 { return s.Graylisted }),
	counterOf("ihave_sent_total", "Message ids advertised.", func(s *Stats) uint64 { return s.IHaveSent }),
	counterOf("iwant_sent_total", "Message ids asked for.", func(s *Stats) uint64 { return s.IWantSent }),
	counterOf("iwant_served_total", "Messages sent because they were asked for.", func(s *Stats) uint64 { return s.IWantServed }),
	counterOf("idontwant_sent_total", "IDONTWANT ids sent.", func(s *Stats) uint64 { return s.IDontWantSent }),
	counterOf("idontwant_received_total", "IDONTWANT ids received.", func(s *Stats) uint64 { return s.IDontWantReceived }),
	counterOf("broken_promises_total", "Messages advertised, asked for and not sent.", func(s *Stats) uint64 { return s.BrokenPromises }),
	counterOf("penalties_total", "Counts of misbehaviour.", func(s *Stats) uint64 { return s.Penalties }),
	counterOf("dropped_full_total", "Things dropped from full queues to peers.", func(s *Stats) uint64 { return s.DroppedFull }),
	counterOf("dropped_expired_total", "Things dropped because they waited too long.", func(s *Stats) uint64 { return s.DroppedExpired }),
	counterOf("dropped_unwanted_total", "Copies not sent because the peer had the message.", func(s *Stats) uint64 { return s.DroppedUnwanted }),
	counterOf("dropped_too_long_total", "Messages too long for a floodsub peer that reads one small RPC of each stream.", func(s *Stats) uint64 { return s.DroppedTooLong }),
	counterOf("refused_topics_total", "Subscriptions beyond a peer's limit.", func(s *Stats) uint64 { return s.RefusedTopics }),
	counterOf("refused_ihave_total", "IHAVEs beyond a peer's limit.", func(s *Stats) uint64 { return s.RefusedIHave }),
	counterOf("refused_iwant_total", "IWANTs beyond a peer's limit.", func(s *Stats) uint64 { return s.RefusedIWant }),
	counterOf("refused_graft_total", "GRAFTs inside their back-off.", func(s *Stats) uint64 { return s.RefusedGraft }),
	counterOf("refused_idontwant_total", "IDONTWANTs beyond a peer's limit.", func(s *Stats) uint64 { return s.RefusedIDontWant }),
	counterOf("stuck_streams_total", "Streams closed because they made no progress.", func(s *Stats) uint64 { return s.StuckStreams }),
	counterOf("streams_refused_total", "Inbound streams beyond a peer's limit.", func(s *Stats) uint64 { return s.StreamsRefused }),
	counterOf("disconnects_total", "Peers disconnected for misbehaviour.", func(s *Stats) uint64 { return s.Disconnects }),
	gaugeOf("peers", "Connected peers.", func(s *Stats) int { return s.Peers }),
	gaugeOf("topics", "Topics that we are in.", func(s *Stats) int { return s.Topics }),
	gaugeOf("seen_ids", "Message ids remembered.", func(s *Stats) int { return s.SeenIDs }),
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for i := range metricList {
		ch <- metricList[i].desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.ps.Stats()
	for i := range metricList {
		m := &metricList[i]
		kind := prometheus.CounterValue
		if m.gauge {
			kind = prometheus.GaugeValue
		}
		ch <- prometheus.MustNewConstMetric(m.desc, kind, m.value(&s))
	}
}
