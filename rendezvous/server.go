package rendezvous

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// answer does what the request in x.in asks for. An error means that it could
// not be answered and the stream is to be reset.
func (x *session) answer() error {
	switch x.in.Kind {
	case wire.Register:
		ttl, err := x.register()
		return x.registered(ttl, err)
	case wire.Unregister:
		x.count(wire.Unregister, x.unregister())
		return nil // the spec has no answer
	case wire.Discover:
		return x.discover()
	default:
		return errors.Join(wire.ErrMalformed, errors.New("rendezvous: an answer where a request should be"))
	}
}

// count counts a request and what limit it hit.
func (x *session) count(k wire.Kind, err error) wire.Status {
	s := statusOf(err)
	if x.realm == RealmWaku && errors.Is(err, errOthersRecord) {
		s = wire.InvalidSignedRecord // what Waku peers know
	}
	x.p.metrics.requests[x.dialect][k][statusIndex(s)].Add(1)
	if r, ok := reasonOf(err); ok {
		x.p.metrics.refused[r].Add(1)
	}
	return s
}

// text is what the peer is told beside the status: the point's own words and
// nothing of the store's or the operator's.
func text(err error, s wire.Status) string {
	if err == nil {
		return ""
	}
	if s == wire.InternalError {
		return "internal error"
	}
	if errors.Is(err, ErrUnavailable) {
		return "store unavailable"
	}
	return strings.TrimPrefix(err.Error(), "rendezvous: ")
}

func (x *session) registered(ttl time.Duration, err error) error {
	s := x.count(wire.Register, err)
	m := wire.Message{Kind: wire.RegisterResponse, Status: s, Text: text(err, s)}
	if err == nil {
		m.TTL, m.HasTTL = uint64(ttl/time.Second), true
	}
	x.out = wire.AppendFrame(x.out[:0], x.dialect, &m)
	return x.write(x.out)
}

// register returns the granted lifetime.
func (x *session) register() (time.Duration, error) {
	now := time.Now()
	if err := x.rate(now); err != nil {
		return 0, err
	}
	if !x.validNS() || x.in.NS == "" {
		return 0, ErrInvalidNamespace
	}
	ttl, err := x.p.grant(x.realm, x.in.TTL)
	if err != nil {
		return 0, err
	}
	if err := x.access(OpRegister); err != nil {
		return 0, err
	}
	reg := Registration{
		Key:    Key{Realm: x.realm, NS: x.in.NS, Peer: x.peer},
		Form:   FormSigned,
		TTL:    ttl,
		Source: x.source,
	}
	if err := x.record(&reg); err != nil {
		return 0, err
	}
	return ttl, x.p.put(now, &reg)
}

// put registers what has been checked, for as long as was granted.
func (p *Point) put(now time.Time, reg *Registration) error {
	if reg.Realm == RealmWaku {
		reg.TTL += WakuGrace
	}
	reg.Expires = now.Add(reg.TTL)
	p.mu.Lock()
	t, err := p.reg.admit(now, reg)
	p.mu.Unlock()
	if err != nil {
		return err
	}
	err = p.commit(reg.Realm, []Change{{Registration: *reg}})
	p.mu.Lock()
	p.reg.release(t)
	p.mu.Unlock()
	return err
}

func (x *session) rate(now time.Time) error {
	x.p.rateMu.Lock()
	defer x.p.rateMu.Unlock()
	if !x.p.rates.allow(now, x.peer, x.source, x.local) {
		return errRate
	}
	return nil
}

// charge makes the peer pay for a long answer.
func (x *session) charge(now time.Time, size int) {
	const perToken = 16 << 10
	if size < perToken {
		return
	}
	x.p.rateMu.Lock()
	defer x.p.rateMu.Unlock()
	x.p.rates.charge(now, x.peer, x.source, x.local, float64(size)/perToken)
}

// Namespaces are at most 255 bytes in libp2p and 256 in Waku.
//
// Spec: https://github.com/libp2p/specs/blob/master/rendezvous/README.md#recommendations-for-rendezvous-points-configurations
func (x *session) validNS() bool {
	longest := MaxNamespace
	if x.realm == RealmWaku {
		longest = MaxWakuNamespace
	}
	return len(x.in.NS) <= longest && utf8.ValidString(x.in.NS)
}

// Bounds of a namespace in bytes of UTF-8.
const (
	MaxNamespace     = 255
	MaxWakuNamespace = 256
)

// grant returns the lifetime that is asked for. Zero, which stands for absent
// too, is the default. What is out of bounds is refused: a client that is
// granted less than it counts on goes missing. Seconds are compared before they
// are multiplied.
func (p *Point) grant(realm Realm, seconds uint64) (time.Duration, error) {
	least, most, def := p.cfg.MinTTL, p.cfg.MaxTTL, p.cfg.DefaultTTL
	if realm == RealmWaku {
		least, most, def = time.Second, WakuTTL, WakuTTL
	}
	if seconds == 0 {
		return def, nil
	}
	if seconds < uint64(least/time.Second) || seconds > uint64(most/time.Second) {
		return 0, ErrInvalidTTL
	}
	return time.Duration(seconds) * time.Second, nil
}

func (x *session) access(op Op) error {
	if x.p.cfg.Access == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(x.p.ctx, commitTimeout)
	defer cancel()
	r := Request{Op: op, Realm: x.realm, Peer: x.peer, Remote: x.remote, NS: x.in.NS}
	if err := x.p.cfg.Access(ctx, r); err != nil {
		x.p.cfg.Logger.Debug("refused", "op", op, "peer", x.peer, "err", err)
		if errors.Is(err, ErrUndecided) {
			return ErrUndecided
		}
		return errDenied
	}
	return nil
}

// record checks the request's record and puts a copy of it into reg, unless
// the peer is registered with the same bytes: those need no second look.
func (x *session) record(reg *Registration) (err error) {
	if x.known(reg) {
		return nil
	}
	if x.p.cfg.LegacyPeerInfo && x.realm == RealmLibp2p {
		if _, err := wire.ParseEnvelope(x.in.Record); err != nil {
			reg.Form = FormPeerInfo
			reg.Record, err = admitPeerInfo(x.in.Record, x.peer)
			return err
		}
	}
	if err := x.p.enterVerify(); err != nil {
		return err
	}
	reg.Seq, err = admitRecord(x.in.Record, x.peer)
	<-x.p.verify
	x.p.metrics.verified.Add(1)
	reg.Record = bytes.Clone(x.in.Record)
	return err
}

// known fills reg from a registration with the same record, if there is one.
func (x *session) known(reg *Registration) bool {
	x.p.mu.RLock()
	defer x.p.mu.RUnlock()
	e := x.p.reg.known(x.realm, x.peer, x.in.Record)
	if e == nil {
		return false
	}
	reg.Record, reg.Seq, reg.Form = e.record, e.seq, e.form
	return true
}

// verifyWait bounds how long a request waits for a processor to verify its
// signature: a verification takes some 60 microseconds, so more than that
// means more load than the machine can bear.
const verifyWait = time.Second

func (p *Point) enterVerify() error {
	select {
	case p.verify <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(verifyWait)
	defer timer.Stop()
	select {
	case p.verify <- struct{}{}:
		return nil
	case <-timer.C:
		return errBusy
	case <-p.ctx.Done():
		return ErrClosed
	}
}

// unregister removes the peer from the namespace, or from all if it is empty.
// A request with somebody else's id is ignored.
func (x *session) unregister() error {
	if len(x.in.ID) > 0 && string(x.in.ID) != string(x.peer) {
		return errDenied
	}
	if err := x.rate(time.Now()); err != nil {
		return err
	}
	x.p.mu.RLock()
	changes := x.p.reg.removals(x.realm, x.peer, x.in.NS)
	x.p.mu.RUnlock()
	if len(changes) == 0 {
		return nil
	}
	return x.p.commit(x.realm, changes)
}

// registerSelf registers the point's own host, without limits of rate, and
// returns the granted lifetime.
func (p *Point) registerSelf(realm Realm, ns string, rec []byte, ttl time.Duration) (time.Duration, error) {
	seq, err := admitRecord(rec, p.host.ID())
	if err != nil {
		return 0, err
	}
	if p.stores[realm] == nil {
		return 0, ErrUnsupported
	}
	granted, err := p.grant(realm, uint64(ttl/time.Second))
	if err != nil {
		return 0, err
	}
	return granted, p.put(time.Now(), &Registration{
		Key: Key{Realm: realm, NS: ns, Peer: p.host.ID()}, Record: rec, Form: FormSigned, Seq: seq, TTL: granted,
	})
}

func (p *Point) unregisterSelf(realm Realm, ns string) {
	p.mu.RLock()
	changes := p.reg.removals(realm, p.host.ID(), ns)
	p.mu.RUnlock()
	if len(changes) > 0 {
		_ = p.commit(realm, changes) // it logs; the registration runs out in any case
	}
}
