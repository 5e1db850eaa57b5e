package rdv

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// reachServer is dialServer within the client's time.
func (s *session) reachServer(ctx context.Context) (net.Conn, error) {
	if s.client.ReachTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.client.ReachTimeout)
		defer cancel()
	}
	return s.dialServer(ctx)
}

// dialServer returns a connection to the server, over TLS and through a proxy
// as the URL and the client's configuration ask for.
func (s *session) dialServer(ctx context.Context) (net.Conn, error) {
	proxy, err := s.proxy()
	if err != nil {
		return nil, err
	}
	first := s.url
	if proxy != nil {
		first = proxy
	}
	start := time.Now()
	conn, err := s.sock.dialServer(ctx, s.client.LobbyKeepAlive, first.Hostname(), portOf(first))
	if err != nil {
		return nil, err
	}
	s.first, _ = conn.(*net.TCPConn)
	s.rtt = time.Since(start)
	secured, err := s.overlay(ctx, conn, proxy)
	if err != nil {
		conn.Close() //nolint:errcheck // the overlay's error says more
		return nil, err
	}
	return secured, nil
}

func (s *session) proxy() (*url.URL, error) {
	if s.client.Proxy == nil {
		return nil, nil
	}
	proxy, err := s.client.Proxy(&http.Request{Method: s.method, URL: s.url, Host: s.url.Host, Header: http.Header{}})
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	if proxy != nil && proxy.Scheme != "http" && proxy.Scheme != "https" {
		return nil, fmt.Errorf("proxy: %q is not an http or https URL", proxy.Redacted())
	}
	return proxy, nil
}

// overlay puts onto a TCP connection what lies between it and the server.
func (s *session) overlay(ctx context.Context, conn net.Conn, proxy *url.URL) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() {
		conn.SetDeadline(time.Unix(1, 0)) //nolint:errcheck // a closed connection fails as well
	})
	defer stop()
	var err error
	if proxy != nil {
		if proxy.Scheme == "https" {
			if conn, err = s.tls(ctx, conn, proxy.Hostname()); err != nil {
				return nil, fmt.Errorf("proxy: %w", err)
			}
		}
		if err := connectThrough(conn, proxy, net.JoinHostPort(s.url.Hostname(), portOf(s.url))); err != nil {
			return nil, err
		}
	}
	if s.url.Scheme == "https" {
		return s.tls(ctx, conn, s.url.Hostname())
	}
	return conn, nil
}

func (s *session) tls(ctx context.Context, conn net.Conn, name string) (net.Conn, error) {
	cfg := &tls.Config{}
	if s.client.TlsConfig != nil {
		cfg = s.client.TlsConfig.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = name
	}
	cfg.NextProtos = []string{"http/1.1"} // an upgrade is one of HTTP/1.1
	tc := tls.Client(conn, cfg)
	return tc, tc.HandshakeContext(ctx)
}

// connectThrough asks an HTTP proxy for a tunnel (RFC 9110, section 9.3.6).
// Nothing is read ahead: the client speaks first in the tunnel.
func connectThrough(conn net.Conn, proxy *url.URL, target string) error {
	req := &http.Request{
		Method: http.MethodConnect,
		URL:    &url.URL{Opaque: target},
		Host:   target,
		Header: http.Header{},
	}
	if proxy.User != nil {
		req.Header.Set("Proxy-Authorization", basicAuth(proxy.User))
	}
	if err := req.Write(conn); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(&headLimit{r: conn, left: maxHead}), req)
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("proxy %s refused a tunnel to %s: %s", proxy.Redacted(), target, resp.Status)
	}
	return nil
}

func basicAuth(user *url.Userinfo) string {
	password, _ := user.Password()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password))
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

func sortedKeys(h http.Header) []string { return slices.Sorted(maps.Keys(h)) }
