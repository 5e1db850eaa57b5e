package admin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// maxAnswer bounds what a client reads: MaxPeers rows fit.
const maxAnswer = 16 << 20

var (
	// ErrNoDaemon means that nothing listens at a [Client]'s address.
	ErrNoDaemon = errors.New("admin: no daemon")

	// ErrRefused means that the daemon wants another token, or another address.
	ErrRefused = errors.New("admin: refused")
)

// A Client asks a daemon's admin listener. Its zero value asks the one at
// [DefaultListen]. Its methods may be called at once, and give up after their
// context or ten seconds.
type Client struct {
	// Addr is HOST:PORT, unix:PATH or https://HOST:PORT. If empty, DefaultListen.
	Addr string

	// Token is sent if it is not empty, over TLS and to this machine only.
	Token string

	// TLS is used for https addresses. If nil, Go's defaults.
	TLS *tls.Config
}

// Status returns the daemon's state.
func (c *Client) Status(ctx context.Context) (s Snapshot, err error) {
	err = c.get(ctx, "/api/status", &s)
	return s, err
}

// Peers returns up to limit of the daemon's peers, at most [MaxPeers]; all of
// those if limit is zero.
func (c *Client) Peers(ctx context.Context, limit int) (p []Peer, err error) {
	path := "/api/peers"
	if limit > 0 {
		path += "?limit=" + strconv.Itoa(limit)
	}
	err = c.get(ctx, path, &p)
	return p, err
}

// Ready returns which parts of the daemon are not ready.
func (c *Client) Ready(ctx context.Context) (r Readiness, err error) {
	err = c.get(ctx, "/readyz?format=json", &r)
	return r, err
}

// get asks for path and reads JSON of any status into v.
func (c *Client) get(ctx context.Context, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	tr, base, err := c.transport()
	if err != nil {
		return err
	}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	resp, err := (&http.Client{Transport: tr, CheckRedirect: noRedirect}).Do(req)
	if err != nil {
		return c.dialError(ctx, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	return decode(resp, v)
}

// noRedirect keeps the token from another place.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func decode(resp *http.Response, v any) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("admin: read answer: %w", err)
	}
	switch resp.StatusCode {
	case http.StatusOK, unavailable:
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return fmt.Errorf("%w: %s", ErrRefused, strings.TrimSpace(string(b[:min(len(b), 200)])))
	default:
		return fmt.Errorf("admin: HTTP status %d: is this a muster daemon?", resp.StatusCode)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("admin: HTTP status %d, and no JSON: is this a muster daemon?", resp.StatusCode)
	}
	return nil
}

// transport returns how to get to the daemon, and the beginning of its URLs.
func (c *Client) transport() (*http.Transport, string, error) {
	var d net.Dialer
	tr := &http.Transport{TLSClientConfig: c.TLS}
	if rest, ok := strings.CutPrefix(c.Addr, "https://"); ok {
		return tr, "https://" + strings.TrimSuffix(rest, "/"), nil
	}
	e, err := parseEndpoint(strings.TrimSuffix(strings.TrimPrefix(c.Addr, "http://"), "/"))
	if err != nil {
		return nil, "", err
	}
	if c.Token != "" && !e.private() {
		return nil, "", fmt.Errorf("admin: the token would go to %s in clear: write https://%s", e.addr, e.addr)
	}
	tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, e.network, e.addr)
	}
	if e.network == "unix" {
		return tr, "http://localhost", nil
	}
	return tr, "http://" + e.addr, nil
}

// dialError tells a daemon that is not there from one that does not answer.
func (c *Client) dialError(ctx context.Context, err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", ErrNoDaemon, op)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("admin: no answer: %w", ctx.Err())
	}
	return fmt.Errorf("admin: %w", err)
}
