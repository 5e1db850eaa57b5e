package discv5_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/discv5"
)

// TestMetrics checks that the metrics are consistent, named as they should
// be, free of labels that tell of peers, and gone with the node.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	n := listen(t, discv5.Config{Registerer: reg})
	other := listen(t, discv5.Config{})
	if _, err := other.Ping(t.Context(), n.LocalRecord()); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{"direction": true, "reason": true, "limit": true, "kind": true, "state": true}
	pings := 0.0
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "muster_discv5_") {
			t.Errorf("metric %s", f.GetName())
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !allowed[l.GetName()] {
					t.Errorf("metric %s has label %s", f.GetName(), l.GetName())
				}
				if f.GetName() == "muster_discv5_requests_total" && l.GetValue() == "ping" {
					pings = m.GetCounter().GetValue()
				}
			}
		}
	}
	if pings == 0 {
		t.Error("the ping was not counted")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if families, err := reg.Gather(); err != nil || len(families) != 0 {
		t.Errorf("%d metrics after Close, %v", len(families), err)
	}
}
