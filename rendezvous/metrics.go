package rendezvous

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// statuses are those that a point sends, in the order of its counters.
var statuses = [...]wire.Status{
	wire.OK, wire.InvalidNamespace, wire.InvalidSignedRecord, wire.InvalidTTL,
	wire.InvalidCookie, wire.NotAuthorized, wire.InternalError, wire.Unavailable,
}

func statusIndex(s wire.Status) int {
	for i, v := range statuses {
		if v == s {
			return i
		}
	}
	return statusIndex(wire.InternalError)
}

// Why a point refused something, for the metric of refusals.
type reason uint8

const (
	reasonMalformed reason = iota
	reasonTooLong
	reasonDeadline
	reasonStreams
	reasonRate
	reasonBusy
	reasonDenied
	reasonUndecided
	reasonStale
	reasonPeerFull
	reasonSourceFull
	reasonNamespaceFull
	reasonFull
	reasonStore
	numReasons
)

var reasonNames = [numReasons]string{
	"malformed", "too_long", "deadline", "streams", "rate", "busy", "denied", "undecided", "stale_record",
	"peer_limit", "source_limit", "namespace_limit", "total_limit", "store",
}

// reasonOf returns what limit err says was hit.
func reasonOf(err error) (reason, bool) {
	for _, r := range []struct {
		err    error
		reason reason
	}{
		{errRate, reasonRate},
		{errBusy, reasonBusy},
		{errDenied, reasonDenied},
		{ErrUndecided, reasonUndecided},
		{errStaleRecord, reasonStale},
		{errPeerFull, reasonPeerFull},
		{errSourceFull, reasonSourceFull},
		{errNamespaceFull, reasonNamespaceFull},
		{errFull, reasonFull},
	} {
		if err == r.err { //nolint:errorlint // our own, never wrapped
			return r.reason, true
		}
	}
	return 0, false
}

// opNames are indexed by wire.Kind; kinds that are no requests are empty.
var opNames = [...]string{wire.Register: "register", wire.Unregister: "unregister", wire.Discover: "discover"}

const numDialects = 2

var dialectNames = [numDialects]string{wire.Libp2p: "libp2p", wire.Waku: "waku"}

// metrics counts what a point does. Its fields may be used at once.
type metrics struct {
	requests [numDialects][len(opNames)][len(statuses)]atomic.Uint64
	refused  [numReasons]atomic.Uint64
	records  atomic.Uint64
	bytes    atomic.Uint64
	expired  atomic.Uint64
	streams  atomic.Int64
	cookies  [4]atomic.Uint64 // by cookieFit, and none
	commits  atomic.Uint64
	commitNs atomic.Uint64
	verified atomic.Uint64
}

const cookieNone = 3 // no cookie came with the request

var cookieNames = [4]string{cookieBad: "bad", cookieOther: "restart", cookieGood: "resume", cookieNone: "new"}

func (m *metrics) committed(d time.Duration) {
	m.commits.Add(1)
	m.commitNs.Add(uint64(d))
}

// Stats is a point's state and what it has done since it was made.
type Stats struct {
	Registrations int    // of /rendezvous/1.0.0
	Namespaces    int    // of /rendezvous/1.0.0
	Peers         int    // of /rendezvous/1.0.0
	Waku          int    // registrations of the Waku protocol
	WakuNames     int    // namespaces of the Waku protocol
	Bytes         int64  // memory for registrations, estimated
	Streams       int    // open
	Registers     uint64 // requests of each kind, refused ones too
	Unregisters   uint64
	Discovers     uint64
	Records       uint64            // records sent in answers
	AnswerBytes   uint64            // bytes of answers to DISCOVER
	Expired       uint64            // registrations that ran out
	Refused       map[string]uint64 // by limit or reason
}

func (m *metrics) op(k wire.Kind) (n uint64) {
	for d := range m.requests {
		for s := range m.requests[d][k] {
			n += m.requests[d][k][s].Load()
		}
	}
	return n
}

// collector tells Prometheus about a point. No label holds a peer, a namespace
// or an address: their number is up to strangers.
type collector struct {
	p                                 *Point
	requests, refused, cookies        *prometheus.Desc
	registrations, namespaces, memory *prometheus.Desc
	records, bytes, expired, streams  *prometheus.Desc
	commits, commitSeconds, verified  *prometheus.Desc
	nimRegister, nimDiscover, nimLive *prometheus.Desc
	nimNamespaces, peers              *prometheus.Desc
}

func newCollector(p *Point) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	const own, nim = "muster_rendezvous_", "libp2p_rendezvous_"
	return &collector{
		p:             p,
		requests:      desc(own+"requests_total", "Requests answered.", "protocol", "op", "status"),
		refused:       desc(own+"refused_total", "Requests and streams refused, by limit or reason.", "reason"),
		cookies:       desc(own+"cookies_total", "Discovers, by what their cookie was good for.", "cookie"),
		registrations: desc(own+"registrations", "Registrations kept.", "protocol"),
		namespaces:    desc(own+"namespaces", "Namespaces with registrations.", "protocol"),
		peers:         desc(own+"peers", "Peers with registrations.", "protocol"),
		memory:        desc(own+"registrations_bytes", "Memory for registrations, estimated."),
		records:       desc(own+"answer_records_total", "Records sent in answers."),
		bytes:         desc(own+"answer_bytes_total", "Bytes of answers with records."),
		expired:       desc(own+"expired_total", "Registrations that ran out."),
		streams:       desc(own+"streams", "Streams open."),
		commits:       desc(own+"commits_total", "Commits to the store."),
		commitSeconds: desc(own+"commit_seconds_total", "Time that requests waited for the store."),
		verified:      desc(own+"verified_total", "Signatures verified."),
		// What nim-libp2p's dashboards ask for.
		nimRegister:   desc(nim+"register_total", "Number of advertise requests."),
		nimDiscover:   desc(nim+"discover_total", "Number of discovery requests."),
		nimLive:       desc(nim+"registered", "Number of registered peers."),
		nimNamespaces: desc(nim+"namespaces", "Number of registered namespaces."),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.requests, c.refused, c.cookies, c.registrations, c.namespaces, c.peers, c.memory, c.records, c.bytes,
		c.expired, c.streams, c.commits, c.commitSeconds, c.verified,
		c.nimRegister, c.nimDiscover, c.nimLive, c.nimNamespaces,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	m := &c.p.metrics
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for d := range m.requests {
		for op := range m.requests[d] {
			if opNames[op] == "" || d == int(wire.Waku) && wire.Kind(op) == wire.Unregister {
				continue
			}
			for s := range m.requests[d][op] {
				counter(c.requests, float64(m.requests[d][op][s].Load()), dialectNames[d], opNames[op], statuses[s].String())
			}
		}
	}
	for i := range m.refused {
		counter(c.refused, float64(m.refused[i].Load()), reasonNames[i])
	}
	for i := range m.cookies {
		counter(c.cookies, float64(m.cookies[i].Load()), cookieNames[i])
	}
	lib, waku := c.p.registryStats()
	gauge(c.registrations, float64(lib.registrations), "libp2p")
	gauge(c.registrations, float64(waku.registrations), "waku")
	gauge(c.namespaces, float64(lib.namespaces), "libp2p")
	gauge(c.namespaces, float64(waku.namespaces), "waku")
	gauge(c.peers, float64(lib.peers), "libp2p")
	gauge(c.peers, float64(waku.peers), "waku")
	gauge(c.memory, float64(lib.bytes))
	counter(c.records, float64(m.records.Load()))
	counter(c.bytes, float64(m.bytes.Load()))
	counter(c.expired, float64(m.expired.Load()))
	gauge(c.streams, float64(m.streams.Load()))
	counter(c.commits, float64(m.commits.Load()))
	counter(c.commitSeconds, time.Duration(m.commitNs.Load()).Seconds())
	counter(c.verified, float64(m.verified.Load()))
	counter(c.nimRegister, float64(m.op(wire.Register)))
	counter(c.nimDiscover, float64(m.op(wire.Discover)))
	gauge(c.nimLive, float64(lib.registrations))
	gauge(c.nimNamespaces, float64(lib.namespaces))
}
