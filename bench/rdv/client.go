package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

var tokens atomic.Int64

func newToken() string { return fmt.Sprintf("load-%d-%d", os.Getpid(), tokens.Add(1)) }

// A client speaks just enough rdv/1 to be one, and reads its responses
// without a buffer of its own.
type client struct{ net.Conn }

// patience bounds every exchange.
const patience = 20 * time.Second

func (s *server) connect() (*client, error) {
	c, err := net.DialTimeout("tcp", s.addr, patience)
	if err != nil {
		return nil, err
	}
	return &client{c}, nil
}

func (s *server) ask(method, token string) (*client, error) {
	c, err := s.connect()
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(c, "%s /%s HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: rdv/1\r\nRdv-Self-Addrs: 192.0.2.1:4000\r\n\r\n", method, token)
	return c, err
}

// until reads up to the end of what ends with want.
func (c *client) until(want string) error {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	var got []byte
	var b [512]byte
	for !bytes.HasSuffix(got, []byte(want)) {
		n, err := c.Read(b[:])
		got = append(got, b[:n]...)
		if err != nil {
			return fmt.Errorf("read %q: %w", got, err)
		}
	}
	if !strings.HasPrefix(string(got), "HTTP/1.1 101 ") && !strings.HasPrefix(string(got), "CONTINUE") {
		return fmt.Errorf("got %q", got)
	}
	return nil
}

// reset closes the connection without leaving a state behind.
func (c *client) reset() {
	_ = c.Conn.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// A pair is two clients of the relay.
type pair struct{ d, a *client }

func (p pair) reset() {
	for _, c := range []*client{p.d, p.a} {
		if c != nil {
			c.reset()
		}
	}
}

// match introduces two clients to each other.
func (s *server) match() (p pair, err error) {
	token := newToken()
	if p.a, err = s.ask("ACCEPT", token); err != nil {
		return p, err
	}
	if p.d, err = s.ask("DIAL", token); err != nil {
		return p, err
	}
	if err = p.d.until("\r\n\r\n"); err != nil {
		return p, err
	}
	return p, p.a.until("\r\n\r\n")
}

// relayed is match, and the relay as the choice.
func (s *server) relayed() (pair, error) {
	p, err := s.match()
	if err != nil {
		return p, err
	}
	if _, err := p.d.Write([]byte("CONTINUE\n")); err != nil {
		return p, err
	}
	return p, p.a.until("CONTINUE\n")
}

func (s *server) relayedPairs(n int) ([]pair, error) {
	pairs := make([]pair, 0, n)
	for range n {
		p, err := s.relayed()
		if err != nil {
			return pairs, err
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}
