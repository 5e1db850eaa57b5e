package rendezvous

import (
	"context"
	"errors"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// clientMetrics count what points answer. Clients with one registerer share
// them. A nil one counts nothing.
type clientMetrics struct {
	requests *prometheus.CounterVec // by op and outcome
	records  *prometheus.CounterVec // by whether they were of use
}

func newClientMetrics(r prometheus.Registerer) (*clientMetrics, error) {
	if r == nil {
		return nil, nil
	}
	requests, err := shared(r, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "muster_rendezvous_client_requests_total",
		Help: "Requests to points, by what came of them.",
	}, []string{"op", "outcome"}))
	if err != nil {
		return nil, err
	}
	records, err := shared(r, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "muster_rendezvous_client_records_total",
		Help: "Records that points have listed: good, or dropped since they are not what their peers have signed.",
	}, []string{"outcome"}))
	if err != nil {
		return nil, err
	}
	return &clientMetrics{requests, records}, nil
}

// shared registers a counter, or returns the one that is there.
func shared(r prometheus.Registerer, c *prometheus.CounterVec) (*prometheus.CounterVec, error) {
	err := r.Register(c)
	if there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if old, ok := there.ExistingCollector.(*prometheus.CounterVec); ok {
			return old, nil
		}
	}
	return c, err
}

// asked counts a request. A status that no specification knows is one
// outcome: points must not make labels.
func (m *clientMetrics) asked(k wire.Kind, res *wire.Message, err error) {
	if m == nil {
		return
	}
	outcome := "other"
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		outcome = "timeout"
	case errors.Is(err, context.Canceled):
		outcome = "cancelled"
	case err != nil:
		outcome = "failed"
	case slices.Contains(statuses[:], res.Status):
		outcome = res.Status.String()
	}
	m.requests.WithLabelValues(opNames[k], outcome).Inc()
}

func (m *clientMetrics) listed(p *Page) {
	if m == nil {
		return
	}
	m.records.WithLabelValues("good").Add(float64(len(p.Records)))
	m.records.WithLabelValues("dropped").Add(float64(p.Dropped))
}
