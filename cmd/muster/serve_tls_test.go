//go:build unix

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-p2p/muster/rdv"
)

// writeCert writes a certificate for 127.0.0.1 that signs itself.
func writeCert(t *testing.T, dir string, serial int64) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "point"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(cert)
	return certFile, keyFile, roots
}

// TestServeTLS: the rdv server behind a certificate, which is taken anew at
// SIGHUP; a broken one leaves the old.
func TestServeTLS(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, roots := writeCert(t, dir, 1)
	d := startDaemon(t, "--tls-mode", "files", "--tls-cert-file", certFile, "--tls-key-file", keyFile)
	url := d.ready.RDV[0]
	if !strings.HasPrefix(url, "https://127.0.0.1:") {
		t.Fatalf("URL %s", url)
	}
	c := &rdv.Client{TlsConfig: &tls.Config{RootCAs: roots}}
	if _, resp, err := c.Dial(t.Context(), url, "room", nil); err == nil || resp == nil || resp.StatusCode != 401 {
		t.Errorf("%v, %v", resp, err)
	}
	serial := func() int64 {
		t.Helper()
		conn, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // looks at the certificate only
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	hup := func(said string) {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		d.waitFor(said)
	}
	writeCert(t, dir, 2)
	hup(`"event":"reloaded"`)
	if got := serial(); got != 2 {
		t.Errorf("certificate %d after the reload", got)
	}
	if err := os.WriteFile(certFile, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	hup("certificate not reloaded")
	if got := serial(); got != 2 {
		t.Errorf("certificate %d after a damaged one", got)
	}
	if code, body := d.get("/readyz"); code != 503 || !strings.Contains(body, "certificate") {
		t.Errorf("ready: %d %s", code, body)
	}
}

// TestCertFilesAreLookedAt: a renewed certificate is taken without a signal.
func TestCertFilesAreLookedAt(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, _ := writeCert(t, dir, 1)
	c, err := newCertFiles(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c.now = func() time.Time { return now }
	serial := func() int64 {
		cert, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return cert.Leaf.SerialNumber.Int64()
	}
	writeCert(t, dir, 2)
	old := time.Now().Add(-time.Hour) // another time than before, however coarse the clock of the disk is
	if err := os.Chtimes(certFile, old, old); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 1 {
		t.Errorf("certificate %d at once", got)
	}
	now = now.Add(certLook)
	if got := serial(); got != 2 {
		t.Errorf("certificate %d after a while", got)
	}
	now = now.Add(2 * time.Hour)
	if c.health() == nil {
		t.Error("well with a certificate that has run out")
	}
}

func TestServeTLSRefused(t *testing.T) {
	certFile, keyFile, _ := writeCert(t, t.TempDir(), 1)
	for name, args := range map[string][]string{
		"no file":    {"--tls-mode", "files", "--tls-cert-file", "missing", "--tls-key-file", keyFile},
		"mixed up":   {"--tls-mode", "files", "--tls-cert-file", keyFile, "--tls-key-file", certFile},
		"no CA":      {"--tls-mode", "acme", "--tls-hosts", "point.example", "--tls-acme-ca-file", keyFile},
		"admin open": {"--admin", "0.0.0.0:0"},
	} {
		args = append([]string{
			"serve", "--data-dir", t.TempDir(), "--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0", "--admin", "",
			"--discv5=false", "--store", "memory",
		}, args...)
		if code, out, errs := musterRun(t.Context(), args...); code != exitUsage || out != "" {
			t.Errorf("%s: exit %d, %q, %s", name, code, out, errs)
		}
	}
}
