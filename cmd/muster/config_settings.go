package main

import (
	"slices"
	"strings"
	"time"

	"github.com/muster-p2p/muster/admin"
	"github.com/muster-p2p/muster/pubsub"
	"github.com/muster-p2p/muster/rdv"
	"github.com/muster-p2p/muster/rendezvous"
)

// A serveConfig is what 'muster serve' is told, by whatever of flag,
// environment, file and default says it.
type serveConfig struct {
	dataDir, keyFile string

	listen, announce []string
	http             string
	urls             []string
	admin            string
	adminToken       string

	tlsMode, tlsCert, tlsKey string
	tlsHosts                 []string
	tlsEmail, tlsACME, tlsCA string
	acmeHTTP                 string
	acmeAccount, acmeKey     string
	trustedProxies           []string

	rendezvous, waku, legacy, discoverAll bool
	minTTL, maxTTL                        time.Duration
	maxPerPeer, maxTotal                  int
	store, durability                     string

	discv5                       bool
	discv5Listen, discv5Announce []string
	bootnodes                    []string

	relayAccess                                   string
	openRelay                                     bool
	relayNames                                    []string
	lobbyTimeout, idleTimeout                     time.Duration
	maxWaiting, maxWaitingPerSource, maxPairs     int
	pairRate, sourceRate, totalRate, sessionBytes int64

	reach    bool
	handOver string

	pubsub     bool
	topics     []string
	maxMessage int64

	names         []string
	registerToken bool
	banned        []string
	hook          string

	maxConns int
	memory   int64
	drain    time.Duration

	logLevel, logFormat string
}

// A setting is one thing that can be configured. The table of settings is the
// only list of them: flags, environment, file, documentation and 'config show'
// are made of it.
type setting struct {
	key    string // in the file: section.name
	flag   string // empty: the key with - in place of . and _
	env    string // empty: MUSTER_ and the flag in upper case
	def    string // as text; lists are joined by commas
	usage  string // one sentence without its full stop
	choice []string
	secret bool // never shown; may come from a file that the variable with _FILE names
	reload bool // SIGHUP applies it

	// into returns where the value belongs: *string, *[]string, *bool, *int,
	// *int64 for bytes, *time.Duration.
	into func(*serveConfig) any
}

// sections say what the parts of the file are about, in their order.
var sections = [][2]string{
	{"node", "Who this point is, and where it keeps what it knows"},
	{"listen", "Where it listens, and what others are told"},
	{"tls", "How the HTTP side is secured"},
	{"access", "Who may register names; who may use relay and reach is in [relay]"},
	{"rendezvous", "Finding peers by name"},
	{"store", "Where registrations are kept"},
	{"discv5", "Finding nodes without a server"},
	{"relay", "Introducing peers and relaying for them"},
	{"pubsub", "Saying things to many"},
	{"limits", "What it may take of the machine"},
	{"log", "What it tells"},
}

// settings is the table.
var settings = []setting{
	{
		key: "node.data_dir", flag: "data-dir", usage: "directory for key, registrations and tokens (default: $STATE_DIRECTORY, or muster in the user's state directory)",
		into: func(c *serveConfig) any { return &c.dataDir },
	},
	{
		key: "node.key_file", flag: "key", env: "MUSTER_KEY_FILE", usage: "identity file, made if it is missing (default: node.key in the data directory)",
		into: func(c *serveConfig) any { return &c.keyFile },
	},
	{
		key: "listen.libp2p", flag: "listen", env: "MUSTER_LISTEN", def: "/ip4/0.0.0.0/tcp/4001,/ip6/::/tcp/4001",
		usage: "multiaddrs to listen on for peers", into: func(c *serveConfig) any { return &c.listen },
	},
	{
		key: "listen.announce", flag: "announce", env: "MUSTER_ANNOUNCE",
		usage: "multiaddrs that others are told in place of those, such as behind a NAT or with a DNS name", into: func(c *serveConfig) any { return &c.announce },
	},
	{
		key: "listen.http", flag: "http", env: "MUSTER_HTTP", def: ":8080", usage: "where the rdv server listens, HOST:PORT; empty: no rdv server",
		into: func(c *serveConfig) any { return &c.http },
	},
	{
		key: "listen.urls", flag: "url", env: "MUSTER_URL", usage: "URLs that others reach the rdv server by (default: the host that they reached this point by)",
		into: func(c *serveConfig) any { return &c.urls },
	},
	{
		key: "listen.admin", flag: "admin", env: "MUSTER_ADMIN", def: admin.DefaultListen,
		usage: "where metrics, health and the status page are, HOST:PORT on loopback or unix:PATH; empty: nowhere", into: func(c *serveConfig) any { return &c.admin },
	},
	{
		key: "listen.admin_token", flag: "admin-token", env: "MUSTER_ADMIN_TOKEN", secret: true,
		usage: "token that the admin listener wants; needed, with TLS, where other machines can reach it", into: func(c *serveConfig) any { return &c.adminToken },
	},
	{
		key: "tls.mode", def: "off", choice: []string{"off", "files", "acme"},
		usage: "off (plain, or behind a proxy), files (certificate files), acme (certificates of an authority)", into: func(c *serveConfig) any { return &c.tlsMode },
	},
	{key: "tls.cert_file", usage: "certificate chain, PEM; read again when it changes", into: func(c *serveConfig) any { return &c.tlsCert }},
	{key: "tls.key_file", usage: "its key, PEM", into: func(c *serveConfig) any { return &c.tlsKey }},
	{key: "tls.hosts", usage: "names to get certificates for", into: func(c *serveConfig) any { return &c.tlsHosts }},
	{key: "tls.email", usage: "contact for the authority", into: func(c *serveConfig) any { return &c.tlsEmail }},
	{key: "tls.acme_url", usage: "the authority's directory (default: Let's Encrypt)", into: func(c *serveConfig) any { return &c.tlsACME }},
	{
		key: "tls.acme_http", usage: "where challenges are answered over plain HTTP as well, such as :80, for authorities that cannot use port 443; empty: nowhere",
		into: func(c *serveConfig) any { return &c.acmeHTTP },
	},
	{key: "tls.acme_account", usage: "the account's key identifier, where the authority wants an external account binding", into: func(c *serveConfig) any { return &c.acmeAccount }},
	{key: "tls.acme_key", secret: true, usage: "the account's key for that, in base64url", into: func(c *serveConfig) any { return &c.acmeKey }},
	{key: "tls.acme_ca_file", usage: "certificates to trust for acme_url, PEM: for an authority of one's own", into: func(c *serveConfig) any { return &c.tlsCA }},
	{
		key: "tls.trusted_proxies", flag: "trust-proxy", env: "MUSTER_TRUST_PROXY",
		reload: true, usage: "believe X-Forwarded-For of proxies in these prefixes, such as 10.0.0.0/8", into: func(c *serveConfig) any { return &c.trustedProxies },
	},
	{
		key: "access.namespaces", reload: true, usage: "the only names that may be registered and listed; * at the end stands for any rest (default: all)",
		into: func(c *serveConfig) any { return &c.names },
	},
	{
		key: "access.register_by_token", def: "false", reload: true, usage: "only peers that a token of scope rendezvous names may register",
		into: func(c *serveConfig) any { return &c.registerToken },
	},
	{key: "access.banned", reload: true, usage: "peer IDs that may nothing", into: func(c *serveConfig) any { return &c.banned }},
	{
		key: "access.hook_url", secret: true, reload: true, usage: "URL of a service that is asked who may use the point; refuses if it does not answer within 1s",
		into: func(c *serveConfig) any { return &c.hook },
	},
	{key: "rendezvous.enabled", flag: "rendezvous", env: "MUSTER_RENDEZVOUS", def: "true", usage: "serve /rendezvous/1.0.0", into: func(c *serveConfig) any { return &c.rendezvous }},
	{key: "rendezvous.waku", flag: "waku", env: "MUSTER_WAKU", def: "false", usage: "serve " + string(rendezvous.WakuProtocolID) + " as well", into: func(c *serveConfig) any { return &c.waku }},
	{key: "rendezvous.legacy", def: "false", usage: "let peers of before 2020 register unsigned", into: func(c *serveConfig) any { return &c.legacy }},
	{key: "rendezvous.discover_all", def: "false", usage: "let peers list all names", into: func(c *serveConfig) any { return &c.discoverAll }},
	{key: "rendezvous.min_ttl", def: short(rendezvous.DefaultMinTTL), usage: "least lifetime that is granted", into: func(c *serveConfig) any { return &c.minTTL }},
	{key: "rendezvous.max_ttl", def: short(rendezvous.MaxTTL), usage: "longest lifetime that is granted", into: func(c *serveConfig) any { return &c.maxTTL }},
	{key: "rendezvous.max_per_peer", def: itoa(rendezvous.DefaultPerPeer), reload: true, usage: "registrations of one peer", into: func(c *serveConfig) any { return &c.maxPerPeer }},
	{key: "rendezvous.max_total", def: itoa(rendezvous.DefaultTotal), reload: true, usage: "registrations in all, of some 600 bytes each", into: func(c *serveConfig) any { return &c.maxTotal }},
	{
		key: "store.url", flag: "store", env: "MUSTER_STORE", secret: true,
		usage: "memory, pebble:DIR or postgres://… (default: pebble in the data directory)", into: func(c *serveConfig) any { return &c.store },
	},
	{key: "store.durability", def: "group", choice: []string{"group", "sync", "none"}, usage: "what an OK promises with pebble: group, sync or none", into: func(c *serveConfig) any { return &c.durability }},
	{key: "discv5.enabled", flag: "discv5", env: "MUSTER_DISCV5", def: "true", usage: "take part in Node Discovery v5", into: func(c *serveConfig) any { return &c.discv5 }},
	{key: "discv5.listen", def: "0.0.0.0:9000", usage: "UDP addresses, at most one of each family", into: func(c *serveConfig) any { return &c.discv5Listen }},
	{key: "discv5.announce", usage: "endpoints for the node record (default: what peers see)", into: func(c *serveConfig) any { return &c.discv5Announce }},
	{key: "discv5.bootnodes", flag: "bootnode", env: "MUSTER_BOOTNODE", usage: "node records to begin with, enr:…", into: func(c *serveConfig) any { return &c.bootnodes }},
	{
		key: "relay.access", def: "token", choice: []string{"closed", "token", "namespace", "open"}, reload: true,
		usage: "who is introduced and relayed for: closed (nobody), token, namespace (peers registered under relay.namespaces, and tokens), open", into: func(c *serveConfig) any { return &c.relayAccess },
	},
	{
		key: "relay.i_know_this_is_an_open_relay", flag: "i-know-this-is-an-open-relay", env: "MUSTER_I_KNOW_THIS_IS_AN_OPEN_RELAY", def: "false", reload: true,
		usage: "has to be said for access = open: strangers will send anything through this machine", into: func(c *serveConfig) any { return &c.openRelay },
	},
	{key: "relay.namespaces", reload: true, usage: "names whose peers are relayed for, with access = namespace", into: func(c *serveConfig) any { return &c.relayNames }},
	{key: "relay.lobby_timeout", def: short(serveLobbyTimeout), reload: true, usage: "how long a peer may wait for the other", into: func(c *serveConfig) any { return &c.lobbyTimeout }},
	{key: "relay.idle_timeout", def: short(serveIdleTimeout), reload: true, usage: "end a relayed pair after this silence; 0s never", into: func(c *serveConfig) any { return &c.idleTimeout }},
	{key: "relay.max_waiting", def: itoa(rdv.DefaultMaxWaiting), reload: true, usage: "peers that may wait", into: func(c *serveConfig) any { return &c.maxWaiting }},
	{key: "relay.max_waiting_per_source", def: itoa(rdv.DefaultMaxWaitingPerSource), reload: true, usage: "of these from one IPv4 address or IPv6 /64", into: func(c *serveConfig) any { return &c.maxWaitingPerSource }},
	{key: "relay.max_pairs", def: "0", reload: true, usage: "pairs at a time; 0 any number", into: func(c *serveConfig) any { return &c.maxPairs }},
	{key: "relay.pair_rate", def: "0", reload: true, usage: "bytes per second of a relayed pair, such as 10M; 0 no limit", into: func(c *serveConfig) any { return &c.pairRate }},
	{key: "relay.source_rate", def: "0", reload: true, usage: "of all relayed pairs of one source", into: func(c *serveConfig) any { return &c.sourceRate }},
	{key: "relay.total_rate", def: "0", reload: true, usage: "of all relayed pairs", into: func(c *serveConfig) any { return &c.totalRate }},
	{key: "relay.session_bytes", def: "0", reload: true, usage: "bytes of one meeting that no token pays for; 0 no limit", into: func(c *serveConfig) any { return &c.sessionBytes }},
	{key: "relay.reach", flag: "reach", env: "MUSTER_REACH", def: "true", usage: "pass on invitations to peers that keep a stream to this point", into: func(c *serveConfig) any { return &c.reach }},
	{
		key: "relay.hand_over", usage: "with a PostgreSQL store: URL by which the other points reach this one's rdv server, and it alone (default: its first address)",
		into: func(c *serveConfig) any { return &c.handOver },
	},
	{key: "pubsub.enabled", flag: "pubsub", env: "MUSTER_PUBSUB", def: "true", usage: "run a gossipsub router", into: func(c *serveConfig) any { return &c.pubsub }},
	{key: "pubsub.topics", flag: "topic", env: "MUSTER_TOPIC", usage: "topics to relay", into: func(c *serveConfig) any { return &c.topics }},
	{key: "pubsub.max_message", def: bytesText(pubsub.DefaultMaxMessageSize), usage: "the longest RPC, both ways", into: func(c *serveConfig) any { return &c.maxMessage }},
	{key: "limits.connections", flag: "max-conns", env: "MUSTER_MAX_CONNS", def: "4500", usage: "libp2p connections; idle ones are trimmed below", into: func(c *serveConfig) any { return &c.maxConns }},
	{key: "limits.memory", flag: "memory", env: "MUSTER_MEMORY", def: "0", reload: true, usage: "what the process tries to stay below, such as 256M; 0: 85 % of what its control group allows", into: func(c *serveConfig) any { return &c.memory }},
	{key: "limits.drain", flag: "drain", env: "MUSTER_DRAIN", def: short(serveDrain), reload: true, usage: "how long pairs may go on when the daemon is stopped", into: func(c *serveConfig) any { return &c.drain }},
	{key: "log.level", def: "info", choice: []string{"debug", "info", "warn", "error"}, reload: true, usage: "debug, info, warn or error", into: func(c *serveConfig) any { return &c.logLevel }},
	{key: "log.format", def: "auto", choice: []string{"auto", "text", "json"}, usage: "text, json, or auto: coloured text on a terminal and plain text elsewhere", into: func(c *serveConfig) any { return &c.logFormat }},
}

// names of a setting beside its key.
func (s *setting) flagName() string {
	if s.flag != "" {
		return s.flag
	}
	return strings.NewReplacer(".", "-", "_", "-").Replace(s.key)
}

func (s *setting) envName() string {
	if s.env != "" {
		return s.env
	}
	return "MUSTER_" + strings.ToUpper(strings.ReplaceAll(s.flagName(), "-", "_"))
}

func (s *setting) section() string {
	section, _, _ := strings.Cut(s.key, ".")
	return section
}

func (s *setting) name() string {
	_, name, _ := strings.Cut(s.key, ".")
	return name
}

// kind says what a value looks like.
func (s *setting) kind() string {
	switch s.into(&serveConfig{}).(type) {
	case *[]string:
		return "list"
	case *bool:
		return "true or false"
	case *int:
		return "number"
	case *int64:
		return "bytes"
	case *time.Duration:
		return "duration"
	default:
		return "text"
	}
}

// settingOf returns the setting with a key, nil if there is none.
func settingOf(key string) *setting {
	i := slices.IndexFunc(settings, func(s setting) bool { return s.key == key })
	if i < 0 {
		return nil
	}
	return &settings[i]
}
