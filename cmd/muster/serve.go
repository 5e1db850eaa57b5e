package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/gologshim"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/access"
	"github.com/muster-p2p/muster/access/pgaccess"
	"github.com/muster-p2p/muster/admin"
	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/pubsub"
	"github.com/muster-p2p/muster/rdv"
	"github.com/muster-p2p/muster/rdv/pglobby"
	"github.com/muster-p2p/muster/reach/pglot"
	"github.com/muster-p2p/muster/rendezvous"
)

const (
	// usageInterval is how much of what quotas count a crash may forget.
	usageInterval = 30 * time.Second

	// memoryShare of what the control group allows is the collector's goal: the
	// rest is for what it does not see, such as sockets' buffers.
	memoryShare = 0.85

	// daemonGCPercent trades a little work for memory: what a point keeps is
	// small beside what its requests leave behind.
	daemonGCPercent = 50

	// reservedFiles are descriptors for the store, logs, and the admin listener.
	reservedFiles = 64
)

func newServeCmd(e *env) *cobra.Command {
	var flags configFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a point: rendezvous, discv5, rdv relay, reach, pubsub, status page",
		Long: `Serve runs a point, by which others find and reach each other. Without flags it
works on a fresh machine: it makes a key and a data directory and says what is
open to whom.

The first line on stdout is its multiaddr with /p2p/ID, as others give it to
--point. SIGTERM or an interrupt stops it: newcomers are refused, pairs under
way may finish for the time of --drain, a second signal cuts them. SIGHUP
reads limits, access lists, tokens, certificates and the log level again.

Every flag can be a variable or a line of the configuration file as well:
'muster config show' lists them, docs/config.md explains them.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.load()
			if err != nil {
				return err
			}
			p, err := c.plan()
			if err != nil {
				return err
			}
			return serve(cmd.Context(), e, &flags, p, asJSON)
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "write events and logs to stderr as JSON objects, one per line")
	return cmd
}

// A daemon is what 'muster serve' runs.
type daemon struct {
	env    *env
	flags  *configFlags
	plan   *servePlan // of the start
	now    *servePlan // of the last reload; what it may change is looked up here. Of the loop
	level  *slog.LevelVar
	log    *slog.Logger
	say    *announcer
	notify notifier

	node   *muster.Node
	admin  *admin.Server // nil if there is none
	tokens access.Tokens
	usage  *access.Usage
	shared *pgaccess.Store    // tokens, where points share them
	tls    *tls.Config        // of the HTTP side, nil if it has none
	certs  certificates       // nil without TLS
	acme   *acmeCerts         // nil unless they come of an authority
	lobby  *pglobby.Directory // nil unless points share one
	lot    *pglot.Directory   // and the callees

	relayed int // connections of the rdv server, 0 if any number
	observe atomic.Pointer[func(*http.Request) (netip.AddrPort, error)]

	ctx    context.Context // of what runs beside the loop; ended by close
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// serve runs the daemon until ctx ends, and then drains.
func serve(ctx context.Context, e *env, flags *configFlags, p *servePlan, asJSON bool) (err error) {
	begun := time.Now()
	if err := noDumps(); err != nil {
		return fail(exitLocal, err, "")
	}
	limitMemory(p.memory)
	d := &daemon{env: e, flags: flags, plan: p, now: p, level: &slog.LevelVar{}, notify: newNotifier()}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.level.Set(p.level)
	format := p.logFormat
	if asJSON {
		format = "json"
	}
	d.log = newLogger(e.stderr, format, d.level)
	d.say = &announcer{w: e.stderr, json: asJSON}
	gologshim.SetDefaultHandler(quiet{d.log.Handler()})

	for _, w := range p.warnings {
		d.log.Warn("configuration", "warning", w)
	}
	if err := openDataDir(p.dataDir, true); err != nil {
		return err
	}
	unlock, err := lockDataDir(p.dataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	hup := make(chan os.Signal, 1)
	if len(reloadSignals) > 0 {
		signal.Notify(hup, reloadSignals...)
		defer signal.Stop(hup)
	}
	if err := d.start(ctx); err != nil {
		return errors.Join(err, d.closeTokens())
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.ready(begun); err != nil {
		return err
	}
	d.loop(ctx, hup)
	d.drain()
	return nil
}

// limitMemory sets what the garbage collector works for, unless the user has.
func limitMemory(wanted int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(daemonGCPercent)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if wanted == 0 {
		wanted = int64(float64(memoryMax()) * memoryShare)
	}
	if wanted <= 0 {
		wanted = math.MaxInt64
	}
	debug.SetMemoryLimit(wanted)
}

// start opens all parts. What it cannot open is exit 9, with the flag to blame.
func (d *daemon) start(ctx context.Context) error {
	reg := admin.NewRegistry(buildVersion())
	cfg, err := d.nodeConfig(reg)
	if err != nil {
		return err
	}
	if err := d.openHTTP(ctx, cfg.Point); err != nil {
		return err
	}
	if err := d.shareLobby(ctx, cfg.Point); err != nil {
		return err
	}
	if d.node, err = muster.New(cfg); err != nil {
		return errors.Join(usageError(err, ""), d.leaveLobby())
	}
	if err := d.node.Start(ctx); err != nil {
		return errors.Join(startFailure(err), d.leaveLobby())
	}
	if d.acme != nil {
		if err := d.acme.start(d.ctx, &d.wg); err != nil {
			return errors.Join(err, d.close())
		}
	}
	if err := d.startAdmin(ctx, reg); err != nil {
		return errors.Join(err, d.close())
	}
	if err := d.joinTopics(); err != nil {
		return errors.Join(err, d.close())
	}
	return nil
}

// startFailure gives an error of Start its exit code and a hint.
func startFailure(err error) error {
	e, ok := errors.AsType[*muster.StartError](err)
	if !ok {
		return err
	}
	hint := map[muster.Part]string{
		muster.PartHost: "--listen", muster.PartRdv: "--http", muster.PartDiscv5: "--discv5-listen", muster.PartRendezvous: "--store",
	}[e.Part]
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "the port is in use: choose another with " + hint
	case errors.Is(err, syscall.EACCES) && e.Part != muster.PartRendezvous:
		hint = "ports below 1024 want a privilege (CAP_NET_BIND_SERVICE): choose another with " + hint
	case hint != "":
		hint = "check " + hint
	}
	return fail(exitLocal, e, hint)
}

// nodeConfig turns the plan into what the façade takes.
func (d *daemon) nodeConfig(reg prometheus.Registerer) (muster.Config, error) {
	p := d.plan
	key, nodeKey, err := daemonKeys(p)
	if err != nil {
		return muster.Config{}, err
	}
	conns, relayed := shareFiles(maxFiles(), p.maxConns)
	cfg := muster.Config{
		Key: key, Listen: p.listen, Announce: p.announce, MaxConns: conns,
		Talk:   muster.TalkConfig{Off: !p.pubsub, PubSub: pubsub.Config{MaxMessageSize: int(p.maxMessage)}},
		Logger: d.log, Registerer: reg,
	}
	if p.discv5 {
		dir := filepath.Join(p.dataDir, discv5Dir)
		if err := os.MkdirAll(dir, dataMode); err != nil {
			return cfg, fail(exitLocal, err, "")
		}
		cfg.Find.Discv5 = &discv5.Config{
			Key: nodeKey, Listen: p.discv5Listen, Advertise: p.discv5Announce, Bootnodes: p.bootnodes, DataDir: dir,
		}
	}
	cfg.Point, err = d.pointConfig(relayed)
	return cfg, err
}

// shareFiles divides the descriptors that the process may have, 0 if any
// number, between libp2p's connections and the relay's.
func shareFiles(files, wanted int) (conns, relayed int) {
	if files == 0 {
		return wanted, 0
	}
	const least = 16
	half := max(least, (files-reservedFiles)/2)
	conns = min(wanted, half)
	return conns, max(least, files-reservedFiles-conns)
}

func (d *daemon) pointConfig(relayed int) (_ *muster.PointConfig, err error) {
	p := d.plan
	if err := d.secure(); err != nil {
		return nil, err
	}
	if err := d.openTokens(); err != nil {
		return nil, err
	}
	store, err := openStoreFlag(p.store, p.configuration.durability, d.log)
	if err != nil {
		return nil, err
	}
	pc := &muster.PointConfig{
		NoRendezvous: !p.rendezvous,
		Rendezvous: rendezvous.Config{
			Store: store, Waku: p.waku, LegacyPeerInfo: p.legacy, DiscoverAll: p.discoverAll, MinTTL: p.minTTL, MaxTTL: p.maxTTL,
			Limits: p.registry(),
		},
		HTTP: p.http, URLs: p.urls, NoReach: !p.reach,
		Server:  p.server(relayed),
		Relayer: p.relayer(d.log),
		Policy:  p.policy, Tokens: d.tokens, Usage: d.usage, Hook: p.hook,
	}
	d.relayed = relayed
	d.observe.Store(new(rdv.TrustedProxies(p.proxies...)))
	pc.Server.ObservedAddrFunc = func(r *http.Request) (netip.AddrPort, error) { return (*d.observe.Load())(r) }
	if pc.Secret, err = mintSecret(p); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	pc.TLS = d.tls
	return pc, nil
}

// server returns an rdv server with the limits of the plan, for so many
// connections, 0 for any number.
func (p *servePlan) server(relayed int) *rdv.Server {
	l := p.lobby(relayed)
	return &rdv.Server{
		LobbyTimeout: l.LobbyTimeout, MaxWaiting: l.MaxWaiting, MaxWaitingPerSource: l.MaxWaitingPerSource, MaxPairs: l.MaxPairs,
		MaxConns: relayed,
	}
}

func (p *servePlan) lobby(relayed int) rdv.Limits {
	l := rdv.Limits{
		LobbyTimeout: p.lobbyTimeout, MaxWaiting: p.maxWaiting, MaxWaitingPerSource: p.maxWaitingPerSource, MaxPairs: p.maxPairs,
	}
	if relayed > 0 {
		l.MaxWaitingPerSource = min(l.MaxWaitingPerSource, max(1, relayed/4))
	}
	return l
}

func (p *servePlan) registry() rendezvous.Limits {
	return rendezvous.Limits{PerPeer: p.maxPerPeer, Total: p.maxTotal}
}

// relayer returns a relay with the limits of the plan.
func (p *servePlan) relayer(log *slog.Logger) *rdv.Relayer {
	return &rdv.Relayer{
		IdleTimeout: p.idleTimeout, PairRate: p.pairRate, SourceRate: p.sourceRate, TotalRate: p.totalRate, Logger: log,
	}
}

// joinTopics relays the topics of the plan.
func (d *daemon) joinTopics() error {
	if !d.plan.pubsub {
		return nil
	}
	for _, name := range d.plan.topics {
		topic, err := d.node.Talk.Join(name)
		if err == nil {
			_, err = topic.Relay() // until the router is closed
		}
		if err != nil {
			return usageError(fmt.Errorf("pubsub.topics: %q: %w", name, err), "")
		}
	}
	return nil
}

// startAdmin opens the operator's listener.
func (d *daemon) startAdmin(ctx context.Context, reg *prometheus.Registry) error {
	if d.plan.admin == "" {
		return nil
	}
	checks := d.node.Checks()
	if d.certs != nil {
		checks["certificate"] = func(context.Context) error { return d.certs.health() }
	}
	cfg := admin.Config{
		Listen: d.plan.admin, Token: d.plan.adminToken, Version: buildVersion(), Gatherer: reg, Checks: checks,
		Snapshot: d.snapshot, Peers: d.node.Peers, LogLevel: d.level, Logger: d.log, Registerer: reg,
	}
	if host, _, err := net.SplitHostPort(d.plan.admin); err == nil && host != "localhost" && !net.ParseIP(host).IsLoopback() {
		cfg.TLS = d.tls
	}
	s, err := admin.New(cfg)
	if err != nil {
		return usageError(fmt.Errorf("listen.admin: %w", err), "")
	}
	if err := s.Start(ctx); err != nil {
		return fail(exitLocal, errors.Join(err, s.Close()), "choose another place with --admin, or none with --admin ''")
	}
	d.admin = s
	return nil
}

func (d *daemon) snapshot() admin.Snapshot {
	s := d.node.Snapshot()
	s.Node.Store = kindOfStore(d.plan.store)
	return s
}

// ready tells the world.
func (d *daemon) ready(begun time.Time) error {
	addrs := d.addrs()
	if len(addrs) == 0 {
		return fail(exitLocal, errors.New("no address to listen on"), "check --listen")
	}
	if _, err := fmt.Fprintln(d.env.stdout, addrs[0]); err != nil {
		return err
	}
	d.say.ready(d, addrs, time.Since(begun))
	d.checkLobby()
	d.notify.tell("READY=1\nSTATUS=" + addrs[0])
	return nil
}

// loop does what has to be done from time to time, until ctx ends.
func (d *daemon) loop(ctx context.Context, hup <-chan os.Signal) {
	save := time.NewTicker(usageInterval)
	defer save.Stop()
	alive, stop := d.notify.ticks()
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			d.notify.tell("RELOADING=1")
			d.reload()
			d.notify.tell("READY=1")
		case <-alive:
			d.notify.tell("WATCHDOG=1")
		case <-save.C:
			if err := d.usage.Save(); err != nil {
				d.log.Error("usage not saved", "err", err)
			}
			d.enforce()
		}
	}
}

// drain lets pairs finish, unless a second signal comes.
func (d *daemon) drain() {
	d.env.drains.Store(true)
	d.notify.tell("STOPPING=1")
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	ctx, cancelDrain := context.WithTimeout(ctx, d.now.drain)
	defer cancelDrain()
	d.say.draining(d.node.Point.Server().Stats().Pairs)
	if err := d.node.Drain(ctx); err != nil {
		d.say.cut(d.node.Point.Server().Stats().Pairs)
	}
}

// close ends what start has opened.
func (d *daemon) close() error {
	var err error
	d.cancel()
	d.wg.Wait()
	if d.admin != nil {
		err = d.admin.Close()
	}
	err = errors.Join(err, d.node.Close(), d.leaveLobby(), d.closeTokens())
	if d.now.hook != nil {
		d.now.hook.Close()
	}
	return err
}

// quiet passes on of go-libp2p's log what an operator can act on.
type quiet struct{ slog.Handler }

// Enabled implements slog.Handler.
func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelError && q.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
