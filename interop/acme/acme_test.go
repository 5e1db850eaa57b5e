package acme

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

const host = "point.example"

// TestFirstIssue: a point that is started before its authority gets its
// certificate when that is there; then it is restarted without one.
func TestFirstIssue(t *testing.T) {
	t.Parallel()
	ca, gate := newAuthority(t), newGate(t)
	ca.tlsPort = gate.port
	dir := t.TempDir()
	p := startPoint(t, dir, gate, ca)
	said := p.waitFor("no certificate")
	for _, want := range []string{host, "connection refused", "retry"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in %s", want, said)
		}
	}
	p.wantReady(http.StatusServiceUnavailable, "certificate")
	if _, err := gate.shake(host, nil); err == nil {
		t.Error("a handshake without a certificate")
	}

	ca.start()
	p.signal(syscall.SIGHUP) // or it takes until the next try
	p.waitFor("certificate is there")
	roots := ca.roots()
	cert, err := gate.shake(host, roots)
	if err != nil {
		t.Fatal(err)
	}
	p.wantReady(http.StatusOK, "")
	if status := gate.upgrade(t, roots); status != http.StatusUnauthorized {
		t.Errorf("the rdv server answers %d to one without a token", status)
	}
	for _, wrong := range []string{"other.example", "sub." + host, ""} {
		if _, err := gate.shake(wrong, roots); err == nil {
			t.Errorf("a handshake for %q", wrong)
		}
	}
	if strings.Contains(ca.said(), "other.example") {
		t.Error("a stranger had the authority asked")
	}

	p.stop()
	ca.stop()
	p = startPoint(t, dir, gate, ca)
	again, err := gate.shake(host, roots)
	if err != nil {
		t.Fatal(err)
	}
	if again.SerialNumber.Cmp(cert.SerialNumber) != 0 {
		t.Error("another certificate after a restart")
	}
	p.wantReady(http.StatusOK, "")
}

// TestRenewal: a certificate is renewed when a third of its life is left, and
// who connects notices nothing; without the authority it runs out, and the
// point says so.
func TestRenewal(t *testing.T) {
	t.Parallel()
	ca, gate := newAuthority(t), newGate(t)
	ca.tlsPort, ca.life = gate.port, 30*time.Second
	ca.start()
	p := startPoint(t, t.TempDir(), gate, ca)
	p.waitFor("certificate is there")
	roots := ca.roots()
	first, err := gate.shake(host, roots)
	if err != nil {
		t.Fatal(err)
	}
	for {
		now, err := gate.shake(host, roots)
		if err != nil {
			t.Fatalf("while it was renewed: %v", err)
		}
		if now.SerialNumber.Cmp(first.SerialNumber) != 0 {
			break
		}
		p.pause(200 * time.Millisecond)
	}
	p.waitFor("certificate was renewed")
	ca.stop()
	said := p.waitFor("certificate is not renewed yet")
	if !strings.Contains(said, "connection refused") {
		t.Errorf("it does not say why: %s", said)
	}
	for p.ready() == http.StatusOK {
		p.pause(200 * time.Millisecond)
	}
	p.wantReady(http.StatusServiceUnavailable, "run out")
}

// TestHTTP01: where the authority cannot come to the TLS port, it can come to
// another.
func TestHTTP01(t *testing.T) {
	t.Parallel()
	ca, gate := newAuthority(t), newGate(t)
	ca.tlsPort, ca.httpPort = closedPort(t), closedPort(t)
	ca.start()
	p := startPoint(t, t.TempDir(), gate, ca, "--tls-acme-http", fmt.Sprintf("127.0.0.1:%d", ca.httpPort))
	p.waitFor("certificate is there")
	if _, err := gate.shake(host, ca.roots()); err != nil {
		t.Error(err)
	}
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", ca.httpPort))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("the port for challenges answers %d", resp.StatusCode)
	}
}

// TestUnreachable: the operator is told what the authority saw.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	ca, gate := newAuthority(t), newGate(t)
	ca.tlsPort = closedPort(t)
	ca.start()
	p := startPoint(t, t.TempDir(), gate, ca)
	said := p.waitFor("no certificate")
	if !strings.Contains(said, "Failed to connect to 127.0.0.1") {
		t.Errorf("it does not say why: %s", said)
	}
}

// TestAccountBinding: authorities that want to know whom they serve.
func TestAccountBinding(t *testing.T) {
	t.Parallel()
	ca, gate := newAuthority(t), newGate(t)
	ca.tlsPort, ca.account, ca.key = gate.port, "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	ca.start()
	refused := startPoint(t, t.TempDir(), gate, ca)
	if said := refused.waitFor("no certificate"); !strings.Contains(said, "externalAccountBinding") {
		t.Errorf("it does not say why: %s", said)
	}
	refused.stop()
	p := startPoint(t, t.TempDir(), gate, ca, "--tls-acme-account", ca.account, "--tls-acme-key", ca.key)
	p.waitFor("certificate is there")
}

// A gate is where authority and clients find the point: a port that stays the
// same while the point is restarted.
type gate struct {
	net.Listener
	port int
	to   chan string // where the point is now
}

func newGate(t *testing.T) *gate {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{ln, ln.Addr().(*net.TCPAddr).Port, make(chan string, 1)}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go g.pass(c)
		}
	}()
	return g
}

func (g *gate) pass(c net.Conn) {
	defer func() { _ = c.Close() }()
	to := <-g.to
	g.to <- to
	p, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = p.Close() }()
	go func() { _, _ = io.Copy(p, c); _ = p.(*net.TCPConn).CloseWrite() }()
	_, _ = io.Copy(c, p)
}

// lead has the gate lead to another place.
func (g *gate) lead(to string) {
	select {
	case <-g.to:
	default:
	}
	g.to <- to
}

func (g *gate) dial(name string, roots *x509.CertPool) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cfg := &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12}
	if name == "" {
		cfg.InsecureSkipVerify = true // it is to fail before that
	}
	c, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", g.Addr().String())
	if err != nil {
		return nil, err
	}
	return c.(*tls.Conn), nil
}

// shake returns the certificate that a client is shown.
func (g *gate) shake(name string, roots *x509.CertPool) (*x509.Certificate, error) {
	c, err := g.dial(name, roots)
	if err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], c.Close()
}

// upgrade asks the rdv server as a client does, and returns its status.
func (g *gate) upgrade(t *testing.T, roots *x509.CertPool) int {
	t.Helper()
	c, err := g.dial(host, roots)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	fmt.Fprintf(c, "DIAL /room HTTP/1.1\r\nHost: %s\r\nConnection: upgrade\r\nUpgrade: rdv/1\r\nRdv-Self-Addrs: 192.0.2.1:1\r\n\r\n", host)
	b := make([]byte, 12)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	var status int
	if _, err := fmt.Fscanf(bytes.NewReader(b), "HTTP/1.1 %d", &status); err != nil {
		t.Fatal(errors.New(string(b)))
	}
	return status
}
