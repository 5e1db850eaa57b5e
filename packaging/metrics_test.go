// Package packaging_test holds what is shipped beside the program to what the
// program is: dashboards and alerts name metrics that exist, units are as
// tight as they say, and releases are reproducible.
package packaging_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/admin"
	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/link"
)

var update = flag.Bool("update", false, "rewrite the table of metrics in docs/operate.md")

// A described metric, as its collector describes it.
type described struct {
	help   string
	labels []string
}

// A recorder is a registry that keeps what collectors say they have, so that
// counters which nothing has counted yet are known too.
type recorder struct {
	*prometheus.Registry
	known map[string]described
}

// descText is what a description says of itself; it has no other way.
var (
	descText  = regexp.MustCompile(`fqName: "([^"]+)", help: ("(?:[^"\\]|\\.)*"), (?:unit: "[^"]*", )?constLabels: \{(.*?)\}, variableLabels: \{(.*?)\}`)
	constName = regexp.MustCompile(`(\w+)="`)
)

func (r *recorder) Register(c prometheus.Collector) error {
	ch := make(chan *prometheus.Desc, 1000) // more than a collector has
	c.Describe(ch)
	close(ch)
	for d := range ch {
		m := descText.FindStringSubmatch(d.String())
		if m == nil {
			return fmt.Errorf("cannot read %s", d)
		}
		help, err := strconv.Unquote(m[2])
		if err != nil {
			return err
		}
		was := r.known[m[1]]
		for _, l := range constName.FindAllStringSubmatch(m[3], -1) {
			was.labels = append(was.labels, l[1])
		}
		was.labels = append(was.labels, strings.FieldsFunc(m[4], func(r rune) bool { return r == ',' || r == ' ' })...)
		slices.Sort(was.labels)
		r.known[m[1]] = described{help, slices.Compact(was.labels)}
	}
	return r.Registry.Register(c)
}

func (r *recorder) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

// daemon starts a point with all wings, as 'muster serve' has them, and returns
// the metrics that it has.
func daemon(t *testing.T) *recorder {
	t.Helper()
	// The metrics of NewRegistry were registered before the recorder was there.
	r := &recorder{admin.NewRegistry("test"), map[string]described{}}
	key, _, err := crypto.GenerateEd25519Key(nil)
	if err != nil {
		t.Fatal(err)
	}
	node, err := muster.New(muster.Config{
		Key:        key,
		Listen:     []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")},
		Find:       muster.FindConfig{Discv5: &discv5.Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}}},
		Point:      &muster.PointConfig{HTTP: "127.0.0.1:0"},
		Logger:     slog.New(slog.DiscardHandler),
		Registerer: r,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	links, err := link.New(link.Config{Key: key, Registerer: r})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := admin.New(admin.Config{Registerer: r, Checks: node.Checks()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, close := range []func() error{srv.Close, links.Close, node.Close} {
			if err := close(); err != nil {
				t.Error(err)
			}
		}
	})
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if _, ok := r.known[f.GetName()]; ok {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		r.known[f.GetName()] = described{f.GetHelp(), labels}
	}
	return r
}

var (
	quoted   = regexp.MustCompile(`"[^"]*"`)
	metric   = regexp.MustCompile(`\b((?:muster|libp2p|go|process)_[a-z0-9_]+)\b(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	builtins = []string{"instance", "job"}
)

// check fails the test if an expression names a metric or a label that the
// daemon does not have.
func check(t *testing.T, where, expr string, known map[string]described) (found int) {
	t.Helper()
	for _, m := range metric.FindAllStringSubmatch(quoted.ReplaceAllString(expr, `""`), -1) {
		found++
		d, ok := known[m[1]]
		if !ok {
			t.Errorf("%s: no metric %s", where, m[1])
			continue
		}
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(d.labels, l[1]) && !slices.Contains(builtins, l[1]) {
				t.Errorf("%s: %s has no label %s, it has %q", where, m[1], l[1], d.labels)
			}
		}
	}
	return found
}

func TestDashboardNamesMetrics(t *testing.T) {
	known := daemon(t).known
	b, err := os.ReadFile("grafana/muster.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &board); err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, p := range board.Panels {
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		if len(p.Targets) == 0 {
			t.Errorf("%s asks nothing", p.Title)
		}
		for _, target := range p.Targets {
			if check(t, p.Title, target.Expr, known) == 0 {
				t.Errorf("%s: %s names no metric", p.Title, target.Expr)
			}
		}
	}
	if want := []string{"Health", "Find", "Reach", "Talk", "Abuse"}; !slices.Equal(rows, want) {
		t.Errorf("rows %q, want %q", rows, want)
	}
}

func TestRulesNameMetrics(t *testing.T) {
	known := daemon(t).known
	b, err := os.ReadFile("prometheus/muster.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := 0
	for rule := range strings.SplitSeq(string(b), "\n      - ") {
		name, rest, _ := strings.Cut(rule, "\n")
		_, expr, ok := strings.Cut(rest, "expr: ")
		if !ok {
			continue
		}
		expr, _, _ = strings.Cut(expr, "labels:")
		expr, _, _ = strings.Cut(expr, "for: ")
		if strings.Contains(expr, "muster:") || strings.HasPrefix(expr, "up{") {
			name += " (of a recording rule or of Prometheus)"
		} else if check(t, name, expr, known) == 0 {
			t.Errorf("%s names no metric: %s", name, expr)
		}
		if strings.HasPrefix(name, "alert:") {
			alerts++
			for _, want := range []string{"severity:", "summary:", "description:"} {
				if !strings.Contains(rest, want) {
					t.Errorf("%s has no %s", name, want)
				}
			}
		}
	}
	if alerts < 12 {
		t.Errorf("%d alerts were found", alerts)
	}
}

// The number of series is bounded whatever strangers do; here it is what a
// point has from the start, plus what counters grow to that begin empty.
func TestSeries(t *testing.T) {
	r := daemon(t)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n, seen := 0, map[string]bool{}
	for _, f := range families {
		seen[f.GetName()] = true
		for _, m := range f.GetMetric() {
			n++
			if h := m.GetHistogram(); h != nil {
				n += len(h.GetBucket()) + 2
			}
			n += len(m.GetSummary().GetQuantile())
		}
	}
	const values = 10 // at most, of the labels of those: HTTP statuses are 9, kinds of paths 2
	for name, d := range r.known {
		switch {
		case seen[name]:
		case len(d.labels) == 0:
			n++
		default:
			n += values
		}
	}
	t.Logf("%d series at most", n)
	if n > admin.MaxSeries {
		t.Errorf("%d series, %d are promised", n, admin.MaxSeries)
	}
	for name, d := range r.known {
		for _, l := range d.labels {
			if slices.Contains([]string{"peer", "peer_id", "ns", "namespace", "token", "ip", "addr", "topic"}, l) {
				t.Errorf("%s has the label %s: strangers decide how many series that makes", name, l)
			}
		}
	}
}

// docs/operate.md lists the metrics. 'go test ./packaging -update' rewrites it.
func TestDocsListMetrics(t *testing.T) {
	known := daemon(t).known
	var b strings.Builder
	b.WriteString("| metric | labels | what it counts |\n|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if strings.HasPrefix(name, "muster_") {
			d := known[name]
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, strings.Join(d.labels, ", "), d.help)
		}
	}
	const file, begin, end = "../docs/operate.md", "<!-- metrics:begin -->\n", "<!-- metrics:end -->"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(doc), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no table of metrics", file)
	}
	if got == b.String() {
		return
	}
	if *update {
		if err := os.WriteFile(file, []byte(head+begin+b.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s lists other metrics than there are; run 'go test ./packaging -update'", file)
}
