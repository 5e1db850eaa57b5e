package access

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// ops and results are the labels of the decisions: there are no others, so
// that strangers cannot make any.
var (
	ops     = []string{"relay", "reach", "register", "discover"}
	results = []string{"allowed", "unauthorized", "forbidden", "unavailable"}
)

type metrics struct {
	decisions         [4][4]atomic.Uint64 // by ops and results
	minted, exhausted atomic.Uint64
}

func (m *metrics) count(op string, err error) {
	r := 0
	switch {
	case errors.Is(err, ErrUnauthorized):
		r = 1
	case errors.Is(err, ErrForbidden):
		r = 2
	case err != nil:
		r = 3
	}
	for i := range ops {
		if ops[i] == op {
			m.decisions[i][r].Add(1)
		}
	}
}

func (m *metrics) register(r prometheus.Registerer, g *Gate) error {
	if r == nil {
		return nil
	}
	if err := r.Register(collector{g}); err != nil {
		return fmt.Errorf("access: register metrics: %w", err)
	}
	return nil
}

var (
	decisionsDesc = prometheus.NewDesc("muster_access_decisions_total", "Requests that were decided on.", []string{"op", "result"}, nil)
	mintedDesc    = prometheus.NewDesc("muster_access_minted_tokens_total", "Tokens that were minted for meetings.", nil, nil)
	exhaustedDesc = prometheus.NewDesc("muster_access_quota_exhausted_total", "Times that a quota of bytes was found used up.", nil, nil)
	tokensDesc    = prometheus.NewDesc("muster_access_tokens", "Issued tokens that are known.", nil, nil)
	damagedDesc   = prometheus.NewDesc("muster_access_damaged_tokens", "Issued tokens that are kept and cannot be read.", nil, nil)
	upDesc        = prometheus.NewDesc("muster_access_tokens_up", "Whether all issued tokens are known as they are kept.", nil, nil)
)

// A collector reads the counters when it is asked.
type collector struct{ g *Gate }

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{decisionsDesc, mintedDesc, exhaustedDesc, tokensDesc, damagedDesc, upDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for i, op := range ops {
		for j, result := range results {
			n := float64(c.g.stats.decisions[i][j].Load())
			ch <- prometheus.MustNewConstMetric(decisionsDesc, prometheus.CounterValue, n, op, result)
		}
	}
	ch <- prometheus.MustNewConstMetric(mintedDesc, prometheus.CounterValue, float64(c.g.stats.minted.Load()))
	ch <- prometheus.MustNewConstMetric(exhaustedDesc, prometheus.CounterValue, float64(c.g.stats.exhausted.Load()))
	n, damaged, up := 0, 0, 1.0
	if tokens := c.g.cfg.Tokens; tokens != nil {
		set := tokens.Set(c.g.cfg.Now())
		n, damaged = set.Len(), len(set.damaged)
		if tokens.Health() != nil {
			up = 0
		}
	}
	ch <- prometheus.MustNewConstMetric(tokensDesc, prometheus.GaugeValue, float64(n))
	ch <- prometheus.MustNewConstMetric(damagedDesc, prometheus.GaugeValue, float64(damaged))
	ch <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, up)
}
