package reach

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/reach/wire"
)

// Limits and reasons for which streams and requests are refused.
const (
	reasonStreams   = iota // too many requests at once
	reasonRate             // too many requests in a time
	reasonFull             // no spot left
	reasonBusy             // too many invitations for the callee or of the caller
	reasonMalformed        // not a message
	reasonSlow             // a message not sent or not taken in time
	reasonUnknown          // a message that may not come there
	reasonForwards         // too many requests with other points, or of them
	numReasons
)

var reasonNames = [numReasons]string{
	reasonStreams: "streams", reasonRate: "rate", reasonFull: "full", reasonBusy: "busy",
	reasonMalformed: "malformed", reasonSlow: "slow", reasonUnknown: "unknown", reasonForwards: "forwards",
}

// metrics counts what a server does. Its fields may be used at once.
type metrics struct {
	answers  [numOps + 1][wire.NumStatuses]atomic.Uint64
	refused  [numReasons]atomic.Uint64
	askedNs  atomic.Uint64
	askedNum atomic.Uint64
	panics   atomic.Uint64
	forwards [numForwards]atomic.Uint64
}

// What becomes of requests for callees that are not here, if points share them.
const (
	forwardAnswered = iota // another point has passed it on
	forwardNobody          // the callee waits nowhere
	forwardFailed          // the point where it waits was not reached, or broke off
	forwardAway            // the directory did not answer
	forwardIn              // the other way: a request that another point had got
	numForwards
)

var forwardNames = [numForwards]string{
	forwardAnswered: "answered", forwardNobody: "nobody", forwardFailed: "failed", forwardAway: "away", forwardIn: "in",
}

func (m *metrics) answered(op Op, s wire.Status) { m.answers[op][min(s, wire.Internal)].Add(1) }

func (m *metrics) asked(d time.Duration) {
	m.askedNum.Add(1)
	m.askedNs.Add(uint64(d))
}

// Stats is a server's state and what it has done since it was made.
type Stats struct {
	Parked   int               // callees that wait
	Requests int               // under way
	Parks    uint64            // streams parked
	Invites  uint64            // invitations that a callee took
	Reserves uint64            // tokens for tickets
	Refused  map[string]uint64 // by limit or reason
	Forwards map[string]uint64 // requests passed on to other points and taken from them, by outcome
}

// Stats returns the server's state and counters.
func (s *Server) Stats() Stats {
	m := &s.metrics
	st := Stats{
		Parks: m.answers[OpPark][wire.OK].Load(), Invites: m.answers[OpInvite][wire.OK].Load(),
		Reserves: m.answers[OpReserve][wire.OK].Load(), Refused: map[string]uint64{}, Forwards: map[string]uint64{},
	}
	for i := range m.refused {
		if n := m.refused[i].Load(); n > 0 {
			st.Refused[reasonNames[i]] = n
		}
	}
	for i := range m.forwards {
		if n := m.forwards[i].Load(); n > 0 {
			st.Forwards[forwardNames[i]] = n
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Parked, st.Requests = len(s.lot.spots), s.asking
	return st
}

// collector tells Prometheus about a server. No label holds a peer, a service
// or an address: their number is up to strangers.
type collector struct {
	s                        *Server
	parked, requests, panics *prometheus.Desc
	answers, refused         *prometheus.Desc
	asked, askedSeconds      *prometheus.Desc
	forwards, up             *prometheus.Desc
}

func newCollector(s *Server) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("muster_reach_"+name, help, labels, nil)
	}
	return &collector{
		s:            s,
		parked:       desc("parked", "Callees that wait to be invited."),
		requests:     desc("requests", "Requests under way."),
		panics:       desc("panics_total", "Panics while serving a stream, contained."),
		answers:      desc("answers_total", "Requests answered.", "op", "status"),
		refused:      desc("refused_total", "Requests and streams refused, by limit or reason.", "reason"),
		asked:        desc("invitations_total", "Invitations passed on to callees."),
		askedSeconds: desc("invitation_seconds_total", "Time that callers waited for callees' replies."),
		forwards:     desc("forwards_total", "Requests for callees that are not here, passed on to other points and taken from them, by outcome.", "outcome"),
		up:           desc("directory_up", "Whether it is known which callees wait at other points."),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.parked, c.requests, c.panics, c.answers, c.refused, c.asked, c.askedSeconds, c.forwards, c.up} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	st, m := c.s.Stats(), &c.s.metrics
	ch <- prometheus.MustNewConstMetric(c.parked, prometheus.GaugeValue, float64(st.Parked))
	ch <- prometheus.MustNewConstMetric(c.requests, prometheus.GaugeValue, float64(st.Requests))
	counter(c.panics, float64(m.panics.Load()))
	for op := range m.answers {
		for status := range m.answers[op] {
			// What has never happened is left out: most pairs cannot happen.
			if n := m.answers[op][status].Load(); n > 0 || status == int(wire.OK) && op < int(numOps) {
				counter(c.answers, float64(n), Op(op).String(), wire.Status(status).String())
			}
		}
	}
	for i := range m.refused {
		counter(c.refused, float64(m.refused[i].Load()), reasonNames[i])
	}
	counter(c.asked, float64(m.askedNum.Load()))
	counter(c.askedSeconds, time.Duration(m.askedNs.Load()).Seconds())
	if c.s.cfg.Directory == nil {
		return
	}
	for i := range m.forwards {
		counter(c.forwards, float64(m.forwards[i].Load()), forwardNames[i])
	}
	up := 0.0
	if c.s.cfg.Directory.Health() == nil {
		up = 1
	}
	ch <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, up)
}
