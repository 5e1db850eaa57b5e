package link

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of an endpoint. Endpoints with one registerer share them.
type metrics struct {
	links    prometheus.Gauge
	opened   *prometheus.CounterVec // role
	paths    *prometheus.CounterVec // kind
	lost     *prometheus.CounterVec // kind
	switches *prometheus.CounterVec // to
	bytes    *prometheus.CounterVec // kind, direction
	resumes  *prometheus.CounterVec // result
	identity prometheus.Counter
	refused  prometheus.Counter
	peers    prometheus.Counter
	networks prometheus.Counter

	moved [Direct + 1]struct{ sent, received prometheus.Counter } // bytes, by kind, looked up once
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "muster_link_" + name, Help: help}, labels)
	}
	single := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "muster_link_" + name, Help: help})
	}
	m := &metrics{
		links:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "muster_link_open", Help: "Links that are open."}),
		opened:   counter("opened_total", "Links opened, by role.", "role"),
		paths:    counter("paths_total", "Paths that came about, by kind.", "kind"),
		lost:     counter("paths_lost_total", "Paths that were lost, by kind.", "kind"),
		switches: counter("switches_total", "Changes of the path that is sent on, by the kind of the new one.", "to"),
		bytes:    counter("bytes_total", "Bytes of applications, repeated ones too, by kind of path and direction.", "kind", "direction"),
		resumes:  counter("resumes_total", "Links without a path, by how that ended.", "result"),
		identity: single("wrong_identity_total", "Handshakes with somebody else than was asked for."),
		refused:  single("refused_total", "Peers that were refused."),
		peers:    single("protocol_errors_total", "Links ended because the peer broke the protocol."),
		networks: single("network_changes_total", "Changes of the machine's network that were noticed while there were links."),
	}
	defer m.lookup()
	if r == nil {
		return m, nil
	}
	var errs []error
	errs = append(errs, share(r, &m.links), share(r, &m.identity), share(r, &m.refused), share(r, &m.peers), share(r, &m.networks))
	for _, c := range []**prometheus.CounterVec{&m.opened, &m.paths, &m.lost, &m.switches, &m.bytes, &m.resumes} {
		errs = append(errs, share(r, c))
	}
	return m, errors.Join(errs...)
}

// share registers c, or takes the one that is there.
func share[C prometheus.Collector](r prometheus.Registerer, c *C) error {
	err := r.Register(*c)
	if are, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if old, ok := are.ExistingCollector.(C); ok {
			*c = old
			return nil
		}
	}
	return err
}

func (m *metrics) lookup() {
	for _, k := range []Kind{Relay, Direct} {
		m.moved[k].sent = m.bytes.WithLabelValues(k.String(), "sent")
		m.moved[k].received = m.bytes.WithLabelValues(k.String(), "received")
	}
}
