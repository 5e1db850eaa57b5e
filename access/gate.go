package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"
)

// Config configures a Gate. The zero Config is a gate that lets nobody relay.
type Config struct {
	Policy Policy

	// Minter believes and makes the tokens of meetings. If nil, there are none.
	Minter *Minter

	// Tokens are the issued ones. If nil, there are none.
	Tokens Tokens

	// Usage counts what is relayed. If nil, it is counted from zero at the start.
	Usage *Usage

	// Registered, if not nil, reports whether a peer is registered here under a
	// name; mode ByName needs it.
	Registered func(name string, id peer.ID) bool

	// Hook, if not nil, has the last word on who is not refused without it, but
	// for minted tokens: it was asked when they were minted.
	Hook *Hook

	// Shared says that other points mint with the same secret for tokens of
	// their own: such a token's meetings are let in here, although it is not
	// known who pays. Policy.SessionBytes bounds each of them.
	Shared bool

	// Logger is told of refusals at level debug. If nil, nobody is.
	Logger *slog.Logger

	// Registerer, if not nil, gets the metrics muster_access_*.
	Registerer prometheus.Registerer

	// Now is the clock. If nil, it is time.Now.
	Now func() time.Time
}

// A Gate decides. Its methods may be called by several goroutines at once.
// Errors wrap ErrUnauthorized, ErrForbidden or ErrUnavailable.
type Gate struct {
	cfg    Config
	policy atomic.Pointer[Policy]
	hook   atomic.Pointer[Hook] // nil if there is none
	stats  metrics
}

// NewGate returns a gate.
func NewGate(cfg Config) (*Gate, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Usage == nil {
		cfg.Usage = NewUsage()
	}
	g := &Gate{cfg: cfg}
	g.hook.Store(cfg.Hook)
	if err := g.SetPolicy(cfg.Policy); err != nil {
		return nil, err
	}
	return g, g.stats.register(cfg.Registerer, g)
}

// SetPolicy changes what is allowed, for requests from now on. Pairs that are
// relayed go on.
func (g *Gate) SetPolicy(p Policy) error {
	if err := p.validate(); err != nil {
		return err
	}
	if p.Relay == ByName && g.cfg.Registered == nil {
		return fmt.Errorf("access: mode %s without a rendezvous point", ByName)
	}
	g.policy.Store(&p)
	return nil
}

// SetHook changes who is asked, nil for nobody, and returns who was: it may
// have questions to answer still, and is the caller's to close.
func (g *Gate) SetHook(h *Hook) (before *Hook) { return g.hook.Swap(h) }

// Policy returns what is allowed now. Its lists must not be changed.
func (g *Gate) Policy() Policy { return *g.policy.Load() }

// A Grant is who pays for a pair.
type Grant struct {
	account Account
	session string // the token of a meeting that nobody pays for, by its hash
}

// A RelayRequest is what a relay knows of who asks: no peer, since rdv has
// none.
type RelayRequest struct {
	Token  string     // of the meeting
	Bearer string     // of the header Authorization, empty if there is none
	Remote netip.Addr // as observed
}

// Relay decides on a request to be introduced and relayed.
func (g *Gate) Relay(ctx context.Context, r RelayRequest) (Grant, error) {
	grant, err := g.relay(ctx, r)
	return grant, g.note("relay", err)
}

func (g *Gate) relay(ctx context.Context, r RelayRequest) (Grant, error) {
	p, now := g.policy.Load(), g.cfg.Now()
	if p.Relay == Closed {
		return Grant{}, fmt.Errorf("%w: the relay is closed", ErrForbidden)
	}
	grant, err := g.minted(now, r.Token, r.Bearer)
	if err == nil || errors.Is(err, ErrForbidden) {
		return grant, err
	}
	tok, err := g.issued(ctx, now, r.Bearer, Relay, "")
	grant = grantOf(tok)
	if p.Relay == OpenToEach && errors.Is(err, ErrUnauthorized) {
		err = nil
	}
	return grant, g.ask(ctx, err, Question{Op: "relay", Remote: r.Remote, Token: r.Bearer})
}

// Payer returns who pays for a request that Relay has let in.
func (g *Gate) Payer(r RelayRequest) Grant {
	now := g.cfg.Now()
	if grant, err := g.minted(now, r.Token, r.Bearer); err == nil {
		return grant
	}
	tok, _ := g.issued(context.Background(), now, r.Bearer, Relay, "")
	return grantOf(tok)
}

// Session returns who pays for a meeting that no token pays for: its own quota,
// if there is one.
func (g *Gate) Session(token string) Grant {
	if g.policy.Load().SessionBytes == 0 {
		return Grant{}
	}
	return Grant{session: sessionOf(token)}
}

func sessionOf(token string) string { return Short(token) + Short("session "+token) }

// minted looks for a minted token, in the path or in the header.
func (g *Gate) minted(now time.Time, tokens ...string) (Grant, error) {
	err := ErrUnauthorized
	if g.cfg.Minter == nil {
		return Grant{}, err
	}
	for _, t := range tokens {
		payer, terr := g.cfg.Minter.open(now, t)
		if errors.Is(terr, ErrUnauthorized) {
			continue
		}
		if terr != nil {
			err = terr
			continue
		}
		grant := Grant{account: payer}
		if mode, ok := modeOf(payer); ok && mode > g.policy.Load().Relay {
			return Grant{}, fmt.Errorf("%w: the relay was open when it was minted", ErrForbidden)
		} else if ok || payer == (Account{}) {
			grant.account = Account{}
			grant.session = sessionOf(t)
			return grant, nil
		}
		tok := g.token(now, payer)
		if tok == nil && g.cfg.Shared && !g.revoked(now, payer) {
			return Grant{session: sessionOf(t)}, nil
		}
		if tok == nil {
			return Grant{}, fmt.Errorf("%w: who paid for it is gone", ErrForbidden)
		}
		return grant, g.usable(now, tok, "")
	}
	return Grant{}, err
}

func (g *Gate) token(now time.Time, id Account) *Token {
	if g.cfg.Tokens == nil {
		return nil
	}
	return g.cfg.Tokens.Set(now).byID[id]
}

func (g *Gate) revoked(now time.Time, id Account) bool {
	return g.cfg.Tokens != nil && g.cfg.Tokens.Set(now).gone[id]
}

// issued returns the issued token with a text, if it is good for the scope.
func (g *Gate) issued(ctx context.Context, now time.Time, text string, scope Scope, id peer.ID) (*Token, error) {
	if text == "" || g.cfg.Tokens == nil {
		return nil, fmt.Errorf("%w: there is none", ErrUnauthorized)
	}
	tok := g.find(ctx, now, text)
	if tok == nil {
		return nil, fmt.Errorf("%w: it is not known", ErrUnauthorized)
	}
	// Who may be reached has to be relayed for.
	if !slices.Contains(tok.Scopes, scope) && (scope != Relay || !slices.Contains(tok.Scopes, Reach)) {
		return nil, fmt.Errorf("%w: the token is not for %s", ErrForbidden, scope)
	}
	return tok, g.usable(now, tok, id)
}

// find returns the issued token of a text, nil if there is none.
func (g *Gate) find(ctx context.Context, now time.Time, text string) *Token {
	if tok := g.cfg.Tokens.Set(now).find(text); tok != nil {
		return tok
	}
	if _, ok := idOf(text); !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, LookWait)
	defer cancel()
	g.cfg.Tokens.Look(ctx)
	return g.cfg.Tokens.Set(now).find(text)
}

// usable says whether a known token may be used now.
func (g *Gate) usable(now time.Time, tok *Token, id peer.ID) error {
	switch {
	case !tok.Expires.IsZero() && !now.Before(tok.Expires):
		return errExpired
	case tok.Peer != "" && id != "" && id != tok.Peer:
		return fmt.Errorf("%w: the token is another peer's", ErrForbidden)
	case tok.Bytes > 0 && g.cfg.Usage.Bytes(tok.ID) >= tok.Bytes:
		g.stats.exhausted.Add(1)
		return fmt.Errorf("%w: the token's quota is used up", ErrForbidden)
	default:
		return nil
	}
}

func grantOf(tok *Token) Grant {
	if tok == nil {
		return Grant{}
	}
	a, _ := ParseAccount(tok.ID) // was read as one
	return Grant{account: a}
}

// A ReachRequest is what a point knows of a peer that wants to be reached, or
// to invite another one.
type ReachRequest struct {
	Peer  peer.ID
	Token string // its access token, empty if it has none

	// Callee is whom it invites, empty if it is itself the callee. CalleeToken
	// is the one that the callee was let in with.
	Callee      peer.ID
	CalleeToken string
}

// Reach decides on a request to be reached or to invite. Who invites without a
// token is paid for by the callee's: the callee lets callers in by itself.
func (g *Gate) Reach(ctx context.Context, r ReachRequest) (Grant, error) {
	grant, err := g.reach(ctx, r)
	return grant, g.note("reach", err)
}

// Ask decides whether somebody may ask where a peer waits that is not here, so
// that its token is not known: another point may know both.
func (g *Gate) Ask(id, callee peer.ID) error {
	if err := g.policy.Load().mayMeet(id, callee); err != nil {
		return g.note("reach", err)
	}
	return nil
}

// mayMeet returns why two peers are not brought together whoever pays, if they
// are not.
func (p *Policy) mayMeet(ids ...peer.ID) error {
	if p.Relay == Closed {
		return fmt.Errorf("%w: the relay is closed", ErrForbidden)
	}
	if slices.ContainsFunc(ids, func(id peer.ID) bool { return slices.Contains(p.Banned, id) }) {
		return fmt.Errorf("%w: the peer is banned", ErrForbidden)
	}
	return nil
}

func (g *Gate) reach(ctx context.Context, r ReachRequest) (Grant, error) {
	p, now := g.policy.Load(), g.cfg.Now()
	if err := p.mayMeet(r.Peer, r.Callee); err != nil { // it may have come before it was banned
		return Grant{}, err
	}
	token := r.Token
	tok, err := g.issued(ctx, now, token, Reach, r.Peer)
	if errors.Is(err, ErrUnauthorized) && token == "" && r.Callee != "" {
		token = r.CalleeToken
		tok, err = g.issued(ctx, now, token, Reach, r.Callee)
	}
	if errors.Is(err, ErrUnauthorized) && (p.Relay == OpenToEach || p.Relay == ByName && g.named(p, r.Peer, r.Callee)) {
		err = nil
	}
	return grantOf(tok), g.ask(ctx, err, Question{Op: "reach", Peer: r.Peer, Token: token})
}

// named reports whether one of the peers is registered under a name that is
// relayed for: who is invited speaks for who invites, since a caller has no
// name as a rule.
func (g *Gate) named(p *Policy, ids ...peer.ID) bool {
	for _, id := range ids {
		if id != "" && slices.ContainsFunc(p.RelayNames, func(n string) bool { return g.cfg.Registered(n, id) }) {
			return true
		}
	}
	return false
}

// Mint returns a token for a meeting that the grant pays for, empty if there
// is no minter.
func (g *Gate) Mint(grant Grant, ttl time.Duration) string {
	if g.cfg.Minter == nil {
		return ""
	}
	g.stats.minted.Add(1)
	payer := grant.account
	if mode := g.policy.Load().Relay; payer == (Account{}) && mode >= ByName {
		payer = ofMode(mode)
	}
	return g.cfg.Minter.MintFor(g.cfg.Now(), ttl, payer)
}

// ofMode stands for nobody in a token that is minted while a mode lets in who
// has none: when the operator closes the relay, such a token is no use.
func ofMode(m Mode) Account {
	a := modeAccount
	a[accountLen-1] = byte(m)
	return a
}

// modeOf reads what ofMode writes.
func modeOf(a Account) (Mode, bool) {
	m := Mode(a[accountLen-1])
	return m, a == ofMode(m)
}

var modeAccount = Account{0xff, 0xff, 0xff, 0xff} // and the mode; newText avoids it

// Register decides whether a peer may register a name, Discover whether it may
// list one; an empty name is all of them.
func (g *Gate) Register(ctx context.Context, id peer.ID, remote netip.Addr, name string) error {
	return g.note("register", g.register(ctx, id, remote, name))
}

func (g *Gate) register(ctx context.Context, id peer.ID, remote netip.Addr, name string) error {
	p := g.policy.Load()
	if slices.Contains(p.Banned, id) {
		return fmt.Errorf("%w: the peer is banned", ErrForbidden)
	}
	listed := len(p.RegisterNames) == 0 || matches(p.RegisterNames, name)
	if p.RegisterByToken || !listed {
		if !g.tokenRegisters(id, name, listed) {
			return fmt.Errorf("%w: the name is not served", ErrForbidden)
		}
	}
	return g.ask(ctx, nil, Question{Op: "register", Peer: id, Remote: remote, Namespace: name})
}

// tokenRegisters reports whether a token of the peer covers the name: one of
// those that it names or, if it names none, one that is listed.
func (g *Gate) tokenRegisters(id peer.ID, name string, listed bool) bool {
	if g.cfg.Tokens == nil {
		return false
	}
	now := g.cfg.Now()
	return g.cfg.Tokens.Set(now).any(func(t *Token) bool {
		if t.Peer != id || !slices.Contains(t.Scopes, Rendezvous) || (!t.Expires.IsZero() && !now.Before(t.Expires)) {
			return false
		}
		return matches(t.Namespaces, name) || len(t.Namespaces) == 0 && listed
	})
}

// Discover decides whether a peer may list a name; an empty name is all.
func (g *Gate) Discover(_ context.Context, id peer.ID, name string) error {
	return g.note("discover", g.discover(id, name))
}

func (g *Gate) discover(id peer.ID, name string) error {
	p := g.policy.Load()
	switch {
	case slices.Contains(p.Banned, id):
		return fmt.Errorf("%w: the peer is banned", ErrForbidden)
	case name == "" || len(p.RegisterNames) == 0 || matches(p.RegisterNames, name) || g.tokenRegisters(id, name, false):
		return nil
	default:
		return fmt.Errorf("%w: the name is not served", ErrForbidden)
	}
}

// ask puts to the hook what is not refused, or only for want of a known token.
func (g *Gate) ask(ctx context.Context, err error, q Question) error {
	hook := g.hook.Load()
	if hook == nil || (err != nil && !errors.Is(err, ErrUnauthorized)) {
		return err
	}
	if err != nil && q.Token == "" {
		return err // nothing that the hook could know
	}
	return hook.Ask(ctx, q)
}

// Charge counts n bytes that were relayed for a pair, and returns ErrForbidden
// when a quota is used up: the pair is to be ended. Those that pay twice pay
// once.
func (g *Gate) Charge(n int64, grants ...Grant) error {
	var err error
	for i, gr := range grants {
		if slices.Contains(grants[:i], gr) {
			continue
		}
		err = errors.Join(err, g.charge(n, gr))
	}
	return err
}

func (g *Gate) charge(n int64, gr Grant) error {
	limit, name := int64(0), ""
	switch {
	case gr.account != (Account{}):
		tok := g.token(g.cfg.Now(), gr.account)
		if tok == nil {
			return fmt.Errorf("%w: the token was revoked", ErrForbidden)
		}
		limit, name = tok.Bytes, tok.ID
	case gr.session != "":
		limit, name = g.policy.Load().SessionBytes, gr.session
		if limit == 0 {
			return nil
		}
	default:
		return nil
	}
	if used := g.cfg.Usage.add(name, n); limit > 0 && used > limit {
		g.stats.exhausted.Add(1)
		return fmt.Errorf("%w: the quota is used up", ErrForbidden)
	}
	return nil
}

// note counts and logs a decision. Why it could not be made is for the log only:
// the error is told to strangers, and may name the operator's service.
func (g *Gate) note(op string, err error) error {
	g.stats.count(op, err)
	if err != nil {
		g.cfg.Logger.Debug("refused", "op", op, "err", err)
	}
	if errors.Is(err, ErrUnavailable) {
		return ErrUnavailable
	}
	return err
}

// Health returns nil, or what of the gate does not work.
func (g *Gate) Health() error {
	var err error
	if g.cfg.Tokens != nil {
		err = g.cfg.Tokens.Health()
	}
	if hook := g.hook.Load(); hook != nil {
		err = errors.Join(err, hook.Health())
	}
	return err
}
