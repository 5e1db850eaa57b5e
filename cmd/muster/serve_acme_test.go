//go:build unix

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What an authority does is tested with a real one, by 'make interop-acme';
// here there is none.
const noAuthority = "https://127.0.0.1:1/directory"

// cachedCertificate leaves a certificate as a daemon of before has.
func cachedCertificate(t *testing.T, dataDir, host string, ends time.Time) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), DNSNames: []string{host}, NotBefore: ends.Add(-90 * 24 * time.Hour), NotAfter: ends,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	b := append(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	dir := filepath.Join(dataDir, acmeDir)
	if err := os.MkdirAll(dir, dataMode); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, host), b, keyMode); err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return roots
}

// shake makes a TLS handshake with the daemon's rdv server as a client of name.
func shake(ctx context.Context, t *testing.T, d *testDaemon, name string, roots *x509.CertPool) error {
	t.Helper()
	u, err := url.Parse(d.ready.RDV[0])
	if err != nil {
		t.Fatal(err)
	}
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(ctx, "tcp", "127.0.0.1:"+u.Port())
	if err != nil {
		return err
	}
	return conn.Close()
}

// everSaid returns the first line with text in it, of those before it was ready
// too.
func (d *testDaemon) everSaid(text string) string {
	d.t.Helper()
	for line := range strings.Lines(d.said()) {
		if strings.Contains(line, text) {
			return line
		}
	}
	return d.waitFor(text)
}

// TestServeCachedCertificate: with the authority away, a certificate of before
// the restart is served, to those who ask for its name.
func TestServeCachedCertificate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	roots := cachedCertificate(t, dir, "point.example", time.Now().Add(60*24*time.Hour))
	if err := os.Chmod(dir, dataMode); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, "--data-dir", dir, "--tls-mode", "acme", "--tls-hosts", "Point.example", "--tls-acme-url", noAuthority)
	if got := d.ready.RDV[0]; !strings.HasPrefix(got, "https://Point.example:") {
		t.Errorf("URL %s", got)
	}
	if err := shake(t.Context(), t, d, "point.example", roots); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"other.example", "point.example.other", "localhost"} {
		if err := shake(t.Context(), t, d, name, roots); err == nil {
			t.Errorf("a handshake for %s", name)
		}
	}
	d.everSaid("certificate is there")
	if code, body := d.get("/readyz"); code != 200 {
		t.Errorf("ready: %d %s", code, body)
	}
}

// TestServeAuthorityAway: without certificate and authority the rest works, and
// the operator is told what does not.
func TestServeAuthorityAway(t *testing.T) {
	d := startDaemon(t, "--tls-mode", "acme", "--tls-hosts", "point.example", "--tls-acme-url", noAuthority)
	said := d.everSaid("no certificate")
	for _, want := range []string{`"host":"point.example"`, "127.0.0.1:1", `"retry":"1m1s"`} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in %s", want, said)
		}
	}
	begun := time.Now()
	if err := shake(t.Context(), t, d, "point.example", nil); err == nil {
		t.Error("a handshake without a certificate")
	}
	if took := time.Since(begun); took > acmeWait {
		t.Errorf("it took %v to say no", took)
	}
	if code, body := d.get("/readyz"); code != 503 || !strings.Contains(body, "certificate") {
		t.Errorf("ready: %d %s", code, body)
	}
	if code, out, errs := musterRun(t.Context(), "rendezvous", "register", "lab", "--point", d.addr, "--addr", "/ip4/192.0.2.7/tcp/1"); code != 0 {
		t.Errorf("register: %d %s %s", code, out, errs)
	}
}

// TestProblems: what an authority complains of is found in its answers.
func TestProblems(t *testing.T) {
	for answer, want := range map[string]string{
		`{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"}`:                                               "too many",
		`{"type":"urn:ietf:params:acme:error:badNonce","detail":"JWS has an invalid anti-replay nonce"}`:                      "",
		`{"status":"invalid","challenges":[{"type":"tls-alpn-01","error":{"type":"x","detail":"connection refused\u001b"}}]}`: "connection refused",
		`{"status":"valid","challenges":[{"type":"tls-alpn-01"}]}`:                                                            "",
		`{"newNonce":"https://ca.example/nonce"}`:                                                                             "",
		`not JSON`: "",
		`[]`:       "",
		`{"detail":"` + strings.Repeat("x", 1000) + `"}`: strings.Repeat("x", 300),
	} {
		if got := problemIn([]byte(answer)); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%.40s: %q, want %q", answer, got, want)
		}
	}
}
