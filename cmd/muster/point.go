package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/spf13/cobra"
)

// Environment of the verbs that use a point. A flag wins over it.
const (
	envPoint     = "MUSTER_POINT"      // multiaddrs, comma separated
	envServer    = "MUSTER_SERVER"     // URLs of rdv servers, comma separated
	envKeyFile   = "MUSTER_KEY_FILE"   // --key
	envToken     = "MUSTER_TOKEN"      // the access token itself
	envTokenFile = "MUSTER_TOKEN_FILE" // --token-file
)

// maxServers bounds the rdv servers of one link.
const maxServers = 4

// A pathChoice says which paths a link may take.
type pathChoice uint8

const (
	pathAuto   pathChoice = iota // the relay at once, a direct path when it is there
	pathDirect                   // never the relay
	pathRelay                    // never a direct path
)

// pointFlags are what the verbs that meet other peers have in common: up, find,
// listen, call, forward, ping, send, recv.
type pointFlags struct {
	points    []string
	servers   []string
	tokenFile string
	key       string
	caFile    string
	direct    bool
	relay     bool
	json      bool
}

// add adds the flags of a verb that makes links.
func (f *pointFlags) add(cmd *cobra.Command) {
	f.addPoint(cmd)
	fl := cmd.Flags()
	fl.StringArrayVar(&f.servers, "server", nil, "`URL` of an rdv server to meet at, in place of a point's (default $"+envServer+")")
	fl.StringVar(&f.caFile, "ca-file", "", "trust the certificates in this PEM `FILE` for https URLs")
	fl.BoolVar(&f.direct, "direct", false, "direct paths only: fail rather than use the relay")
	fl.BoolVar(&f.relay, "relay", false, "the relay only: tell the peer no address")
}

// addPoint adds the flags of a verb that only asks points.
func (f *pointFlags) addPoint(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.points, "point", nil, "the point's `MULTIADDR`, with /p2p/ID at its end; may be repeated (default $"+envPoint+")")
	fl.StringVar(&f.tokenFile, "token-file", "", "read the point's access token from the first line of `FILE` (default $"+envToken+", or the file $"+envTokenFile+")")
	fl.StringVar(&f.key, "key", "", "identity `FILE`, made if missing (default $"+envKeyFile+", else an identity for this run)")
	fl.BoolVar(&f.json, "json", false, "print JSON objects, one per line")
}

// pointOptions are what pointFlags and the environment come to.
type pointOptions struct {
	Points  []peer.AddrInfo // may be empty: see needPoint, needMeeting
	Servers []string        // rdv URLs, at most maxServers; may be empty
	Token   string          // access token, empty if there is none
	Key     crypto.PrivKey
	TLS     *tls.Config // nil: the system's roots
	Path    pathChoice
}

// options reads flags and environment; what is wrong there is a usage error
// that names the flag or the variable.
func (f *pointFlags) options() (o pointOptions, err error) {
	if f.direct && f.relay {
		return o, usageError(errors.New("--direct and --relay exclude each other"), "leave both out to have the relay at once and a direct path later")
	}
	switch {
	case f.direct:
		o.Path = pathDirect
	case f.relay:
		o.Path = pathRelay
	}
	if o.Points, err = parsePointAddrs(orEnvList(f.points, "--point", envPoint)); err != nil {
		return o, err
	}
	if o.Servers, err = parseServerURLs(orEnvList(f.servers, "--server", envServer)); err != nil {
		return o, err
	}
	if o.Token, err = accessToken(f.tokenFile); err != nil {
		return o, err
	}
	if f.caFile != "" {
		if o.TLS, err = trustFile(f.caFile); err != nil {
			return o, err
		}
	}
	key := f.key
	if key == "" {
		key = os.Getenv(envKeyFile)
	}
	o.Key, err = hostKey(key)
	return o, err
}

// needPoint returns a usage error if no point is given.
func (o *pointOptions) needPoint() error {
	if len(o.Points) > 0 {
		return nil
	}
	return usageError(errors.New("no point is given"), "give its address, as 'muster serve' prints it, with --point or "+envPoint)
}

// needMeeting returns a usage error if there is neither a point nor a server.
func (o *pointOptions) needMeeting() error {
	if len(o.Points)+len(o.Servers) > 0 {
		return nil
	}
	return usageError(errors.New("neither a point nor a server is given"),
		"give a point with --point or "+envPoint+", or any rdv server with --server URL")
}

// A listOption is a repeated option and where its values come from.
type listOption struct {
	name   string
	values []string
}

// orEnvList returns a flag's values, or those of its variable.
func orEnvList(values []string, flag, variable string) listOption {
	if len(values) > 0 {
		return listOption{flag, values}
	}
	o := listOption{name: variable}
	for _, v := range strings.Split(os.Getenv(variable), ",") {
		if v = strings.TrimSpace(v); v != "" {
			o.values = append(o.values, v)
		}
	}
	return o
}

// parsePointAddrs returns the peers that an option names.
func parsePointAddrs(o listOption) ([]peer.AddrInfo, error) {
	addrs := make([]ma.Multiaddr, 0, len(o.values))
	for _, s := range o.values {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, usageError(fmt.Errorf("%s %s: %w", o.name, s, err), "a point's address looks like /dns4/point.example.org/tcp/4001/p2p/12D3Koo…")
		}
		addrs = append(addrs, a)
	}
	infos, err := peer.AddrInfosFromP2pAddrs(addrs...)
	if err != nil {
		return nil, usageError(fmt.Errorf("%s: %w", o.name, err), "end the address with /p2p/ and the point's peer ID")
	}
	return infos, nil
}

// parseServerURLs checks the URLs of rdv servers.
func parseServerURLs(o listOption) ([]string, error) {
	if len(o.values) > maxServers {
		return nil, usageError(fmt.Errorf("%s: %d servers are given, %d at most are used", o.name, len(o.values), maxServers), "")
	}
	for _, s := range o.values {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, usageError(fmt.Errorf("%s %q is not an http or https URL", o.name, s), "such as http://203.0.113.7:8080, as 'muster rdv serve' prints it")
		}
	}
	return o.values, nil
}

// accessToken returns the token for closed points: from file, from the
// environment, or none.
func accessToken(file string) (string, error) {
	if file != "" {
		return secretLine(file)
	}
	if file := os.Getenv(envTokenFile); file != "" {
		return secretLine(file)
	}
	return os.Getenv(envToken), nil
}
