package discv5

import "github.com/prometheus/client_golang/prometheus"

// A collector turns Stats into metrics when it is asked for them.
type collector struct{ n *Node }

func newCollector(n *Node) *collector { return &collector{n} }

// A metric is one number of Stats with its name.
type metric struct {
	desc  *prometheus.Desc
	gauge bool
	get   func(*Stats) float64
}

func counter(name, help string, get func(*Stats) uint64, labels ...string) metric {
	return metric{desc: desc(name, help, labels), get: func(s *Stats) float64 { return float64(get(s)) }}
}

func gauge(name, help string, get func(*Stats) int, labels ...string) metric {
	return metric{desc: desc(name, help, labels), gauge: true, get: func(s *Stats) float64 { return float64(get(s)) }}
}

// desc takes labels as names and values by turns.
func desc(name, help string, labels []string) *prometheus.Desc {
	fixed := prometheus.Labels{}
	for i := 0; i+1 < len(labels); i += 2 {
		fixed[labels[i]] = labels[i+1]
	}
	return prometheus.NewDesc("muster_discv5_"+name, help, nil, fixed)
}

const (
	helpDropped = "Packets, messages and requests that were dropped, by reason."
	helpLimits  = "Limits that were hit."
	helpNodes   = "Nodes in the table."
)

var metrics = []metric{
	counter("packets_total", "UDP packets.", func(s *Stats) uint64 { return s.PacketsIn }, "direction", "in"),
	counter("packets_total", "UDP packets.", func(s *Stats) uint64 { return s.PacketsOut }, "direction", "out"),
	counter("bytes_total", "UDP payload bytes.", func(s *Stats) uint64 { return s.BytesIn }, "direction", "in"),
	counter("bytes_total", "UDP payload bytes.", func(s *Stats) uint64 { return s.BytesOut }, "direction", "out"),
	counter("dropped_total", helpDropped, func(s *Stats) uint64 { return s.PacketsInvalid }, "reason", "invalid-packet"),
	counter("dropped_total", helpDropped, func(s *Stats) uint64 { return s.PacketsUnsent }, "reason", "unsent"),
	counter("dropped_total", helpDropped, func(s *Stats) uint64 { return s.MessagesInvalid }, "reason", "invalid-message"),
	counter("dropped_total", helpDropped, func(s *Stats) uint64 { return s.Undecryptable }, "reason", "undecryptable"),
	counter("dropped_total", helpDropped, func(s *Stats) uint64 { return s.Unsolicited }, "reason", "unsolicited-answer"),
	counter("dropped_total", helpDropped, func(s *Stats) uint64 { return s.UnsolicitedChallenges }, "reason", "unsolicited-challenge"),
	counter("dropped_total", helpDropped, func(s *Stats) uint64 { return s.UnsolicitedHandshakes }, "reason", "unsolicited-handshake"),
	counter("dropped_total", helpDropped, func(s *Stats) uint64 { return s.HandshakesRefused }, "reason", "handshake-refused"),
	counter("dropped_total", helpDropped, func(s *Stats) uint64 { return s.TopicMessages }, "reason", "topic"),
	counter("dropped_total", helpDropped, func(s *Stats) uint64 { return s.NodesRefusedUnrelayable }, "reason", "unrelayable-record"),
	counter("dropped_total", helpDropped, func(s *Stats) uint64 { return s.EventsDropped }, "reason", "slow-subscriber"),
	counter("limit_hits_total", helpLimits, func(s *Stats) uint64 { return s.ChallengesRateLimited }, "limit", "challenge-rate"),
	counter("limit_hits_total", helpLimits, func(s *Stats) uint64 { return s.ChallengesDropped }, "limit", "challenges"),
	counter("limit_hits_total", helpLimits, func(s *Stats) uint64 { return s.HandshakesDropped }, "limit", "handshake-queue"),
	counter("limit_hits_total", helpLimits, func(s *Stats) uint64 { return s.SessionsEvicted }, "limit", "sessions"),
	counter("limit_hits_total", helpLimits, func(s *Stats) uint64 { return s.NodesRefusedByNetwork }, "limit", "nodes-per-network"),
	counter("limit_hits_total", helpLimits, func(s *Stats) uint64 { return s.TalksDropped }, "limit", "talk-queue"),
	counter("limit_hits_total", helpLimits, func(s *Stats) uint64 { return s.TalksTimedOut }, "limit", "talk-time"),
	counter("limit_hits_total", helpLimits, func(s *Stats) uint64 { return s.TalksTooLarge }, "limit", "talk-size"),
	counter("limit_hits_total", helpLimits, func(s *Stats) uint64 { return s.RequestsRefused }, "limit", "requests-per-peer"),
	counter("challenges_total", "WHOAREYOU packets sent.", func(s *Stats) uint64 { return s.ChallengesSent }),
	counter("handshakes_total", "Handshakes.", func(s *Stats) uint64 { return s.HandshakesIn }, "direction", "in"),
	counter("handshakes_total", "Handshakes.", func(s *Stats) uint64 { return s.HandshakesOut }, "direction", "out"),
	counter("requests_total", "Requests of others.", func(s *Stats) uint64 { return s.PingsIn }, "kind", "ping"),
	counter("requests_total", "Requests of others.", func(s *Stats) uint64 { return s.FindNodesIn }, "kind", "findnode"),
	counter("requests_total", "Requests of others.", func(s *Stats) uint64 { return s.TalkRequestsIn }, "kind", "talk"),
	counter("own_requests_total", "Own requests.", func(s *Stats) uint64 { return s.RequestsOut }),
	counter("own_requests_failed_total", "Own requests without an answer.", func(s *Stats) uint64 { return s.RequestsFailed }),
	counter("record_updates_total", "Changes of the local record.", func(s *Stats) uint64 { return s.RecordUpdates }),
	gauge("table_nodes", helpNodes, func(s *Stats) int { return s.TableAlive }, "state", "alive"),
	gauge("table_nodes", helpNodes, func(s *Stats) int { return s.TableNodes - s.TableAlive }, "state", "unchecked"),
	gauge("table_nodes", helpNodes, func(s *Stats) int { return s.TableSpares }, "state", "spare"),
	gauge("sessions", "Sessions held.", func(s *Stats) int { return s.Sessions }),
	gauge("challenges", "Challenges waiting for their handshake.", func(s *Stats) int { return s.Challenges }),
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range metrics {
		ch <- m.desc
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.n.Stats()
	for _, m := range metrics {
		kind := prometheus.CounterValue
		if m.gauge {
			kind = prometheus.GaugeValue
		}
		ch <- prometheus.MustNewConstMetric(m.desc, kind, m.get(&s))
	}
}
