package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/rdv"
)

func newRdvCmd(e *env) *cobra.Command {
	return group("rdv", "Connect two peers by TCP, as rdv v0.0.6 does",
		newRdvClientCmd(e, rdv.DIAL),
		newRdvClientCmd(e, rdv.ACCEPT),
		newRdvServeCmd(e),
	)
}

// rdvOptions are the flags of dial and accept.
type rdvOptions struct {
	spaces     string
	wait       time.Duration
	timeout    time.Duration
	verbose    bool
	json       bool
	tokenFile  string
	bearerFile string
	caFile     string
}

const rdvClientLong = `%s the peer that asks the server at URL for the same TOKEN, and be a pipe to it:
stdin goes to the peer, what the peer sends goes to stdout. The end of stdin ends
that direction only; the command is done when both directions are.

The connection is plain TCP, as in rdv: put no secrets through it unless they are
encrypted already. Stderr says which path was taken, direct or relay.

The server is reached through the proxy that HTTP_PROXY or HTTPS_PROXY names, unless
NO_PROXY excepts it. A server that asks for authorization gets the bearer token in
--bearer-file, or in $MUSTER_TOKEN, or in the file that $MUSTER_TOKEN_FILE names.

Exit codes: 0 done, 1 the connection broke, 2 wrong usage, 4 timed out, 6 refused,
7 the server cannot be reached, 10 the server does not speak rdv/1.`

func newRdvClientCmd(e *env, method string) *cobra.Command {
	var o rdvOptions
	verb := strings.ToLower(method)
	title := map[string]string{rdv.DIAL: "Dial", rdv.ACCEPT: "Accept"}[method]
	cmd := &cobra.Command{
		Use:   verb + " URL TOKEN",
		Short: title + " a peer: stdin to it, stdout from it",
		Long:  fmt.Sprintf(rdvClientLong, title),
		Example: fmt.Sprintf("  muster rdv %s http://example.com:8080 MY_TOKEN\n"+
			"  muster rdv %s --spaces none --json http://example.com:8080 --token-file token", verb, verb),
		Args: func(cmd *cobra.Command, args []string) error {
			if o.tokenFile != "" {
				return exactArgs("URL")(cmd, args)
			}
			return exactArgs("URL", "TOKEN")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			token, err := o.token(args)
			if err != nil {
				return err
			}
			client, header, err := o.client(e)
			if err != nil {
				return err
			}
			return runRdvClient(cmd.Context(), e, &o, client, method, args[0], token, header)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.spaces, "spaces", "s", "default", "address spaces to connect in: default, all, public, or none (relay only)")
	f.DurationVarP(&o.wait, "wait", "w", 0, "wait this long for all direct connections, for debugging (5s if no duration is given)")
	f.Lookup("wait").NoOptDefVal = "5s"
	f.DurationVar(&o.timeout, "timeout", 0, "give up if there is no connection after this long (default: wait for the peer for ever)")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say what is tried")
	f.BoolVar(&o.json, "json", false, "events on stderr are JSON objects, one a line")
	f.StringVar(&o.tokenFile, "token-file", "", "read TOKEN from the first line of this file")
	f.StringVar(&o.bearerFile, "bearer-file", "", "read the server's bearer token from the first line of this file")
	f.StringVar(&o.caFile, "ca-file", "", "trust the certificates in this PEM file for https URLs")
	return cmd
}

func (o *rdvOptions) token(args []string) (string, error) {
	if o.tokenFile == "" {
		return args[1], nil
	}
	return secretLine(o.tokenFile)
}

// client builds the client and the header of its request.
func (o *rdvOptions) client(e *env) (*rdv.Client, http.Header, error) {
	c := &rdv.Client{Timeout: o.timeout, Proxy: http.ProxyFromEnvironment}
	switch o.spaces {
	case "default":
		c.AddrSpaces = rdv.DefaultSpaces
	case "all":
		c.AddrSpaces = rdv.AllSpaces
	case "public":
		c.AddrSpaces = rdv.PublicSpaces
	case "none":
		c.AddrSpaces = rdv.NoSpaces
	default:
		return nil, nil, usageError(fmt.Errorf("--spaces is default, all, public or none, not %q", o.spaces), "")
	}
	if o.wait < 0 || o.timeout < 0 {
		return nil, nil, usageError(errors.New("--wait and --timeout cannot be negative"), "")
	}
	if o.wait > 0 {
		c.Picker = rdv.WaitConstant(o.wait)
	}
	if o.verbose {
		c.Logger = verboseLogger(e, o.json)
	}
	if o.caFile != "" {
		cfg, err := trustFile(o.caFile)
		if err != nil {
			return nil, nil, err
		}
		c.TlsConfig = cfg
	}
	bearer, err := o.bearer()
	if err != nil || bearer == "" {
		return c, nil, err
	}
	return c, http.Header{"Authorization": {"Bearer " + bearer}}, nil
}

func (o *rdvOptions) bearer() (string, error) {
	if o.bearerFile != "" {
		return secretLine(o.bearerFile)
	}
	if file := os.Getenv("MUSTER_TOKEN_FILE"); file != "" {
		return secretLine(file)
	}
	return os.Getenv("MUSTER_TOKEN"), nil
}

// secretLine returns the first line of file.
func secretLine(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", usageError(err, "")
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return "", usageError(err, "")
	}
	line, _, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", usageError(fmt.Errorf("%s: the first line is empty", file), "")
	}
	return line, nil
}

// verboseLogger writes debug messages to stderr.
func verboseLogger(e *env, asJSON bool) *slog.Logger {
	opts := &slog.HandlerOptions{Level: slog.LevelDebug}
	if asJSON {
		return slog.New(slog.NewJSONHandler(e.stderr, opts))
	}
	return slog.New(slog.NewTextHandler(e.stderr, opts))
}

// rdvFailure gives an error of the client its exit code and a hint.
func rdvFailure(err error, resp *http.Response) error {
	switch {
	case timedOut(err):
		return fail(exitTimeout, err, "the other side must use the same URL and TOKEN, and the other of dial and accept")
	case errors.Is(err, rdv.ErrBadHandshake) && resp != nil:
		return rdvRefusal(err, resp.StatusCode)
	case errors.Is(err, rdv.ErrBadHandshake):
		return fail(exitVersion, err, "is an rdv server at that URL?")
	case errors.Is(err, rdv.ErrProtocol):
		return fail(exitOther, err, "")
	case isNetworkError(err):
		return fail(exitUnreachable, err, "check the URL, and that the server runs: 'muster rdv serve'")
	default:
		return usageError(err, "")
	}
}

func rdvRefusal(err error, status int) error {
	switch status {
	case http.StatusRequestTimeout:
		return fail(exitTimeout, err, "the server saw no peer with that TOKEN in time")
	case http.StatusUpgradeRequired, http.StatusNotFound, http.StatusMethodNotAllowed:
		return fail(exitVersion, err, "is an rdv server at that URL?")
	case http.StatusUnauthorized, http.StatusForbidden:
		return fail(exitRefused, err, "give the server's bearer token with --bearer-file or MUSTER_TOKEN")
	case http.StatusConflict:
		return fail(exitRefused, err, "another client waits with that TOKEN; choose another one")
	case http.StatusServiceUnavailable:
		return fail(exitUnreachable, err, "the server is full or shutting down; try again later")
	default:
		return fail(exitRefused, err, "")
	}
}
