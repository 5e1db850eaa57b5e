package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// certLook is how often certificate files are looked at: who renews them does
// so days before the old ones end.
const certLook = 30 * time.Second

// A certFiles serves the certificate in two files, and what takes its place.
type certFiles struct {
	certFile, keyFile string
	now               func() time.Time

	mu     sync.Mutex
	looked time.Time
	stamp  [2]time.Time
	cert   *tls.Certificate
	err    error // of the last reading
}

// newCertFiles reads the files for the first time.
func newCertFiles(certFile, keyFile string) (*certFiles, error) {
	c := &certFiles{certFile: certFile, keyFile: keyFile, now: time.Now}
	if err := c.reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// reload reads the files now. If they are no good, the old certificate stays.
func (c *certFiles) reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reloadLocked()
}

func (c *certFiles) reloadLocked() error {
	stamp := c.stamps()
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	c.looked, c.stamp, c.err = c.now(), stamp, err
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	c.cert = &cert
	return nil
}

func (c *certFiles) stamps() (stamp [2]time.Time) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			stamp[i] = info.ModTime()
		}
	}
	return stamp
}

// get is for tls.Config.GetCertificate.
func (c *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.looked) >= certLook {
		c.looked = now
		if c.stamps() != c.stamp || c.err != nil {
			_ = c.reloadLocked() // health tells
		}
	}
	return c.cert, nil
}

// health is nil, or why the certificate may be old.
func (c *certFiles) health() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if leaf := c.cert.Leaf; leaf != nil && !c.now().Before(leaf.NotAfter) {
		return errors.New("the certificate has run out")
	}
	return nil
}

// serveTLS returns how the HTTP side is secured, nil if it is not, and the
// files that are read again.
func serveTLS(p *servePlan) (*tls.Config, *certFiles, error) {
	switch p.tlsMode {
	case "files":
		files, err := newCertFiles(p.tlsCert, p.tlsKey)
		if err != nil {
			return nil, nil, usageError(err, "check tls.cert_file and tls.key_file")
		}
		return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: files.get}, files, nil
	case "acme":
		cfg, err := acmeConfig(p)
		return cfg, nil, err
	default:
		return nil, nil, nil
	}
}

// acmeConfig gets certificates over the TLS port itself (RFC 8737), so that no
// other has to be open.
func acmeConfig(p *servePlan) (*tls.Config, error) {
	client := &acme.Client{DirectoryURL: p.tlsACME, UserAgent: "muster/" + buildVersion()}
	if p.tlsACME == "" {
		client.DirectoryURL = autocert.DefaultACMEDirectory
	}
	if p.tlsCA != "" {
		pem, err := os.ReadFile(p.tlsCA)
		if err != nil {
			return nil, usageError(fmt.Errorf("tls.acme_ca_file: %w", err), "")
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, usageError(fmt.Errorf("tls.acme_ca_file %s holds no certificate", p.tlsCA), "")
		}
		client.HTTPClient = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	}
	m := &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(filepath.Join(p.dataDir, acmeDir)),
		HostPolicy: autocert.HostWhitelist(p.tlsHosts...), Email: p.tlsEmail, Client: client,
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: m.GetCertificate, NextProtos: []string{"http/1.1", acme.ALPNProto},
	}, nil
}
