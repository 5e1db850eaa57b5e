package rendezvous

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// discover answers with a page of records.
func (x *session) discover() error {
	now := time.Now()
	page := x.p.pages.Get().(*wire.Page)
	page.Reset(x.dialect)
	defer x.p.putPage(page)
	var cookie []byte
	err := x.mayDiscover(now)
	if err == nil {
		x.learnAgent()
		now = time.Now()
		cookie, err = x.fill(now, page)
	}
	s := x.count(wire.Discover, err)
	frame := page.Finish(cookie, s, text(err, s))
	if scope := x.s.Scope(); len(frame) > 64<<10 {
		if err := scope.ReserveMemory(len(frame), network.ReservationPriorityMedium); err != nil {
			page.Reset(x.dialect)
			x.p.metrics.refused[reasonBusy].Add(1)
			frame = page.Finish(nil, wire.Unavailable, text(errBusy, wire.Unavailable))
		} else {
			defer scope.ReleaseMemory(len(frame))
		}
	}
	x.p.metrics.records.Add(uint64(page.Len()))
	x.p.metrics.bytes.Add(uint64(len(frame)))
	x.charge(now, len(frame))
	return x.write(frame)
}

// putPage keeps a page's memory for the next answer, unless it is unusual.
func (p *Point) putPage(page *wire.Page) {
	if page.Cap() <= 2*MaxAnswer {
		p.pages.Put(page)
	}
}

func (x *session) mayDiscover(now time.Time) error {
	if err := x.rate(now); err != nil {
		return err
	}
	if !x.validNS() {
		return ErrInvalidNamespace
	}
	if x.in.NS == "" && x.realm == RealmLibp2p && !x.p.cfg.DiscoverAll {
		return errDenied
	}
	return x.access(OpDiscover)
}

// fill puts records into the page and returns the cookie for the next one.
func (x *session) fill(now time.Time, page *wire.Page) ([]byte, error) {
	limit := MaxRecords
	if x.in.Limit > 0 && x.in.Limit < MaxRecords {
		limit = int(x.in.Limit)
	}
	if x.realm == RealmWaku {
		x.fillSample(now, page, limit)
		return nil, nil
	}
	x.p.mu.RLock()
	defer x.p.mu.RUnlock()
	o, tag := x.p.reg.orderOf(x.realm, x.in.NS)
	l, err := x.position(tag)
	if err != nil {
		return nil, err
	}
	emit := x.emit(now, page)
	l = x.p.reg.list(now, x.realm, o, l, x.rng, func(e *entry) bool {
		return page.Len() < limit && emit(e)
	})
	return x.p.cookies.seal(make([]byte, 0, cookieSize), tag, l), nil
}

func (x *session) fillSample(now time.Time, page *wire.Page, limit int) {
	x.p.mu.RLock()
	defer x.p.mu.RUnlock()
	o, _ := x.p.reg.orderOf(x.realm, x.in.NS)
	if x.in.NS != "" {
		x.p.reg.sample(now, o, limit, x.rng, x.emit(now, page))
	}
}

// position reads the request's cookie. An empty one is none.
func (x *session) position(tag nsTag) (listing, error) {
	if len(x.in.Cookie) == 0 {
		x.p.metrics.cookies[cookieNone].Add(1)
		return listing{}, nil
	}
	l, fit := x.p.cookies.open(x.in.Cookie, tag)
	if fit == cookieGood && x.p.reg.lost(x.realm, l) {
		l, fit = listing{}, cookieOther
	}
	x.p.metrics.cookies[fit].Add(1)
	if fit == cookieBad || fit == cookieOther && x.p.cfg.StrictCookies {
		return listing{}, errCookie
	}
	return l, nil
}

// emit returns a function that adds an entry to the page and says whether it
// fitted in.
func (x *session) emit(now time.Time, page *wire.Page) func(*entry) bool {
	reads := x.reads(now)
	most := uint64(x.p.cfg.MaxTTL / time.Second)
	if x.realm == RealmWaku {
		most = uint64(WakuTTL / time.Second)
	}
	var r wire.Registration
	passed := 0
	return func(e *entry) bool {
		if r.Record = reads.record(e); r.Record == nil {
			passed++
			return passed < maxPassedOver
		}
		r.NS, r.HasTTL = e.ns.name, true
		r.TTL = min(max(uint64(x.p.reg.left(now, e)/time.Second), 1), most)
		if !page.Room(&r, cookieSize, reads.budget) {
			return false
		}
		page.Add(&r)
		return true
	}
}

// maxPassedOver bounds the registrations that one DISCOVER looks at and does
// not show: they take a millisecond. The cookie goes on behind them.
const maxPassedOver = 100_000

// A reader says what a client can read. rust-libp2p and js-libp2p lose a whole
// answer for one record whose signature they do not know how to verify.
type reader struct {
	budget   int  // the longest answer, in bytes
	spec     bool // records signed as the spec says
	rust     bool // records signed as rust-libp2p does
	peerInfo bool // PeerInfo only
}

// record returns e as the reader can read it, or nil.
func (r *reader) record(e *entry) []byte {
	switch {
	case r.peerInfo && e.form == FormSigned:
		return peerInfoOf(e.record)
	case r.peerInfo != (e.form == FormPeerInfo):
		return nil
	case r.peerInfo || r.spec && r.rust:
		return e.record
	case e.rust == r.rust:
		return e.record
	default:
		return nil
	}
}

// reads returns what the client can read, by what it calls itself and, if that
// says nothing, by what it has registered. Go's implementations pass over what
// they cannot verify, so they and unknown ones are shown all.
func (x *session) reads(now time.Time) reader {
	r := reader{budget: MaxAnswer, spec: true, rust: true}
	switch {
	case strings.HasPrefix(x.agent, "nim-libp2p"):
		r.budget = NimMaxAnswer
	case strings.HasPrefix(x.agent, "rust-libp2p"):
		r.spec = false
	case strings.Contains(x.agent, "js-libp2p"):
		r.rust = false
	case strings.HasPrefix(x.agent, "muster"):
	default:
		r.spec = !x.p.reg.isRust(x.realm, x.peer)
	}
	r.peerInfo = x.p.cfg.LegacyPeerInfo && x.p.reg.isLegacy(now, x.realm, x.peer)
	return r
}

// identifyWait bounds how long a stream's first DISCOVER waits for identify,
// which runs beside it on a new connection.
const identifyWait = time.Second

// learnAgent finds out what the client calls itself, once per stream.
func (x *session) learnAgent() {
	if x.agentAsked {
		return
	}
	x.agentAsked = true
	if x.agent = x.storedAgent(); x.agent != "" {
		return
	}
	h, ok := x.p.host.(interface{ IDService() identify.IDService })
	if !ok {
		return
	}
	timer := time.NewTimer(identifyWait)
	defer timer.Stop()
	select {
	case <-h.IDService().IdentifyWait(x.s.Conn()):
	case <-timer.C:
	case <-x.p.ctx.Done():
	}
	x.agent = x.storedAgent()
}

func (x *session) storedAgent() string {
	v, err := x.p.host.Peerstore().Get(x.peer, "AgentVersion")
	if err != nil {
		return ""
	}
	agent, _ := v.(string)
	return agent
}

// peerInfoOf says in the older form what a signed record says.
func peerInfoOf(record []byte) []byte {
	env, err := wire.ParseEnvelope(record)
	if err != nil {
		return nil
	}
	rec, err := wire.ParsePeerRecord(env.Payload, MaxRecordAddrs)
	if err != nil {
		return nil
	}
	return wire.AppendPeerInfo(nil, &rec)
}

// Local returns up to limit of the registrations of ns that this point holds,
// or of all namespaces if ns is empty and listing all is allowed, in no order.
// Unsigned ones are left out.
func (p *Point) Local(realm Realm, ns string, limit int) []Found {
	now := time.Now()
	rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	var out []Found
	p.mu.RLock()
	defer p.mu.RUnlock()
	o, _ := p.reg.orderOf(realm, ns)
	p.reg.sample(now, o, limit, rng, func(e *entry) bool {
		env, err := wire.ParseEnvelope(e.record)
		if err != nil || e.form != FormSigned {
			return true
		}
		rec, err := wire.ParsePeerRecord(env.Payload, MaxRecordAddrs)
		if err == nil {
			out = append(out, Found{
				AddrInfo: peer.AddrInfo{ID: e.peer.id, Addrs: addrsOf(e.peer.id, rec.Addrs)}, NS: e.ns.name,
				TTL: p.reg.left(now, e), Seq: e.seq, Point: p.host.ID(), Record: e.record,
			})
		}
		return true
	})
	return out
}

// Registered reports whether a peer is registered under ns at this point, or
// another one over the same store.
func (p *Point) Registered(realm Realm, ns string, id peer.ID) bool {
	now := time.Now()
	p.mu.RLock()
	defer p.mu.RUnlock()
	e := p.reg.entry(Key{Realm: realm, NS: ns, Peer: id})
	return e != nil && p.reg.left(now, e) > 0
}
