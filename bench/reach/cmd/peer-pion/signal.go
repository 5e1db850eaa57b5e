package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// send posts messages in their order, those that wait together in one request.
func send(ctx context.Context, to string, messages <-chan message) error {
	for {
		var batch []message
		select {
		case m := <-messages:
			batch = append(batch, m)
		case <-ctx.Done():
			return nil
		}
		for len(messages) > 0 {
			batch = append(batch, <-messages)
		}
		body, err := json.Marshal(batch)
		if err != nil {
			return err
		}
		if _, err := roundTrip(ctx, http.MethodPost, to, body); err != nil {
			return err
		}
	}
}

// receive polls for messages.
func receive(ctx context.Context, from string, heard func(message) error) error {
	for n := 0; ; {
		ms, err := roundTrip(ctx, http.MethodGet, from+"?from="+strconv.Itoa(n), nil)
		if err != nil {
			return err
		}
		n += len(ms)
		for _, m := range ms {
			if err := heard(m); err != nil {
				return err
			}
		}
	}
}

// signalling goes through a proxy by CONNECT, as HTTPS would.
var signalling = &http.Client{Transport: &http.Transport{
	DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
		return proxyDialer{}.Dial(network, addr)
	},
}}

// roundTrip gives the messages that the answer to a GET holds.
func roundTrip(ctx context.Context, method, at string, body []byte) ([]message, error) {
	r, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := signalling.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s", method, at, resp.Status)
	}
	if method == http.MethodPost {
		return nil, nil
	}
	var ms []message
	err = json.NewDecoder(resp.Body).Decode(&ms)
	return ms, err
}

// proxyDialer takes signalling, and TURN over TCP, through the HTTP proxy of the
// environment, if it names one.
type proxyDialer struct{}

func (proxyDialer) Dial(network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "http", Host: addr}})
	if err != nil || proxy == nil {
		return d.Dial(network, addr)
	}
	conn, err := d.Dial("tcp", proxy.Host)
	if err != nil {
		return nil, err
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if err := req.Write(conn); err != nil {
		conn.Close()
		return nil, err
	}
	// Either server speaks second, so nothing behind the answer is lost.
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		conn.Close()
		return nil, fmt.Errorf("proxy: %s", resp.Status)
	}
	return conn, nil
}
