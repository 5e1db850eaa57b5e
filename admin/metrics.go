package admin

import (
	"runtime"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// MaxSeries is how many series a daemon's /metrics has at most, whatever its
// peers do. No label is chosen by a stranger, so the number is known; a test
// of the daemon holds it.
const MaxSeries = 400

// NewRegistry returns a registry with the metrics of the Go runtime and the
// process, and muster_build_info, to which a daemon adds its rooms' metrics.
func NewRegistry(version string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "muster_build_info",
		Help:        "1, with the version of the program and of Go.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()},
	})
	info.Set(1)
	r.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Why a request or connection was refused.
type refusal uint8

const (
	refusedHost refusal = iota
	refusedOrigin
	refusedToken
	refusedConns
	refusedSubscribers
	refusedProfiles
	numRefusals
)

var refusalNames = [numRefusals]string{"host", "origin", "token", "connections", "subscribers", "profiles"}

// metrics counts what a server does. Its fields may be used at once.
type metrics struct {
	refused     [numRefusals]atomic.Uint64
	subscribers atomic.Int64
	slow        atomic.Uint64
	panics      atomic.Uint64

	readiness func() Readiness

	descReady, descRefused, descSubscribers, descSlow, descPanics *prometheus.Desc
}

func newMetrics(readiness func() Readiness) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("muster_admin_"+name, help, labels, nil)
	}
	return &metrics{
		readiness:       readiness,
		descReady:       prometheus.NewDesc("muster_ready", "1 if the part said it is ready when it was last asked.", []string{"part"}, nil),
		descRefused:     desc("refused_total", "Requests and connections refused, by reason.", "reason"),
		descSubscribers: desc("subscribers", "Readers of the event stream."),
		descSlow:        desc("slow_subscribers_total", "Readers of the event stream dropped because they were slow."),
		descPanics:      desc("panics_total", "Handlers and sources that panicked."),
	}
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.descReady, m.descRefused, m.descSubscribers, m.descSlow, m.descPanics} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	r := m.readiness()
	for _, part := range r.Parts {
		ready := 1.0
		if _, failing := r.Failing[part]; failing {
			ready = 0
		}
		ch <- prometheus.MustNewConstMetric(m.descReady, prometheus.GaugeValue, ready, part)
	}
	for i := range m.refused {
		count(m.descRefused, m.refused[i].Load(), refusalNames[i])
	}
	ch <- prometheus.MustNewConstMetric(m.descSubscribers, prometheus.GaugeValue, float64(m.subscribers.Load()))
	count(m.descSlow, m.slow.Load())
	count(m.descPanics, m.panics.Load())
}
