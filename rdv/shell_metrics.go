package rdv

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// A collector shows the counters of a server, and of its handler if that is or
// embeds a [Relayer], to Prometheus. Labels are statuses and outcomes only: nothing
// that a client chooses.
type collector struct{ s *Server }

var (
	descWaiting = prometheus.NewDesc("muster_rdv_waiting", "Clients in the lobby.", nil, nil)
	descReqs    = prometheus.NewDesc("muster_rdv_requests", "Connections that are not upgraded yet.", nil, nil)
	descPairs   = prometheus.NewDesc("muster_rdv_pairs", "Pairs with the handler.", nil, nil)
	descClients = prometheus.NewDesc("muster_rdv_clients_total", "Clients by what the lobby did with them.", []string{"outcome"}, nil)
	descRefused = prometheus.NewDesc("muster_rdv_refused_total", "Clients that were refused, by HTTP status.", []string{"code"}, nil)
	descPicks   = prometheus.NewDesc("muster_rdv_picks_total", "Pairs by the connection that they picked.", []string{"pick"}, nil)
	descEnded   = prometheus.NewDesc("muster_rdv_relay_ended_total", "Relayed pairs that a timeout ended.", []string{"reason"}, nil)
	descRelays  = prometheus.NewDesc("muster_rdv_relays", "Pairs that are being relayed.", nil, nil)
	descBytes   = prometheus.NewDesc("muster_rdv_relay_bytes_total", "Bytes relayed, both directions.", nil, nil)
	descOut     = prometheus.NewDesc("muster_rdv_handed_over", "Clients that are with other servers of the lobby.", nil, nil)
	descHands   = prometheus.NewDesc("muster_rdv_handovers_total", "Clients passed on to other servers of the lobby, and taken from them, by outcome.", []string{"outcome"}, nil)
	descCarried = prometheus.NewDesc("muster_rdv_handover_bytes_total", "Bytes carried between clients and other servers of the lobby, both directions.", nil, nil)
	descDir     = prometheus.NewDesc("muster_rdv_directory_up", "Whether the last call of the lobby's directory succeeded.", nil, nil)
	descDirErrs = prometheus.NewDesc("muster_rdv_directory_errors_total", "Calls of the lobby's directory that failed.", nil, nil)
	descPanics  = prometheus.NewDesc("muster_rdv_panics_total", "Handlers that panicked.", nil, nil)
)

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descReqs, descWaiting, descPairs, descClients, descRefused, descPicks, descEnded, descRelays, descBytes, descPanics,
		descOut, descHands, descCarried, descDir, descDirErrs,
	} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	count := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	st := c.s.Stats()
	gauge(descReqs, int64(st.Requests))
	gauge(descWaiting, int64(st.Waiting))
	gauge(descPairs, int64(st.Pairs))
	count(descClients, st.Matched, "matched")
	count(descClients, st.Replaced, "replaced")
	count(descClients, st.Gone, "gone")
	count(descClients, st.Expired, "expired")
	count(descClients, st.Early, "early")
	count(descClients, st.Evicted, "evicted")
	count(descPanics, st.Panics)
	for code, n := range st.Refused {
		count(descRefused, n, strconv.Itoa(code))
	}
	if c.s.Directory != nil {
		c.collectSharing(st, gauge, count)
	}
	r, ok := c.s.handler.(interface{ Stats() RelayStats })
	if !ok {
		return
	}
	rs := r.Stats()
	gauge(descRelays, rs.Relaying)
	count(descBytes, rs.Bytes)
	count(descPicks, rs.Direct, "direct")
	count(descPicks, rs.Relayed, "relay")
	count(descPicks, rs.Silent, "none")
	count(descPicks, rs.Failed, "failed")
	count(descEnded, rs.Idle, "idle")
	count(descEnded, rs.Stuck, "stuck")
}

func (c collector) collectSharing(st ServerStats, gauge func(*prometheus.Desc, int64), count func(*prometheus.Desc, int64, ...string)) {
	up := int64(1)
	if st.Directory != nil {
		up = 0
	}
	gauge(descDir, up)
	gauge(descOut, int64(st.HandedOver))
	count(descCarried, c.s.carrier.Stats().Bytes)
	count(descDirErrs, st.DirectoryErrors)
	for outcome, n := range st.HandOvers {
		count(descHands, n, outcome)
	}
}
