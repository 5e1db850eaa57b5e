package rendezvous

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

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
	x.p.metrics.cookies[fit].Add(1)
	if fit == cookieBad || fit == cookieOther && x.p.cfg.StrictCookies {
		return listing{}, errCookie
	}
	return l, nil
}

// emit returns a function that adds an entry to the page and says whether it
// fitted in.
func (x *session) emit(now time.Time, page *wire.Page) func(*entry) bool {
	budget := x.budget()
	legacy := x.p.cfg.LegacyPeerInfo && x.p.reg.isLegacy(now, x.realm, x.peer)
	most := uint64(x.p.cfg.MaxTTL / time.Second)
	if x.realm == RealmWaku {
		most = uint64(WakuTTL / time.Second)
	}
	var r wire.Registration
	return func(e *entry) bool {
		r.NS, r.Record, r.HasTTL = e.ns.name, e.record, true
		r.TTL = min(max(uint64(x.p.reg.left(now, e)/time.Second), 1), most)
		switch {
		case legacy && e.form == FormSigned:
			r.Record = peerInfoOf(e.record)
		case !legacy && e.form == FormPeerInfo:
			return true // passed over
		}
		if !page.Room(&r, cookieSize, budget) {
			return false
		}
		page.Add(&r)
		return true
	}
}

// budget returns how long an answer this peer can read.
func (x *session) budget() int {
	agent, err := x.p.host.Peerstore().Get(x.peer, "AgentVersion")
	if s, ok := agent.(string); err == nil && ok && strings.HasPrefix(s, "nim-libp2p") {
		return NimMaxAnswer
	}
	return MaxAnswer
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
				AddrInfo: peer.AddrInfo{ID: e.peer.id, Addrs: parseAddrs(rec.Addrs)}, NS: e.ns.name,
				TTL: p.reg.left(now, e), Seq: e.seq, Point: p.host.ID(), Record: e.record,
			})
		}
		return true
	})
	return out
}
