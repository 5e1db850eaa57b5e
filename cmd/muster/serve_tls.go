package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
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

// certificates are what the HTTP side is secured with.
type certificates interface {
	get(*tls.ClientHelloInfo) (*tls.Certificate, error)
	reload() error // reads again what there is to read
	health() error // is nil, or why there is none that is good
}

// secure opens the certificates of the plan, if there are any.
func (d *daemon) secure() (err error) {
	protos := []string{"http/1.1"}
	switch d.plan.tlsMode {
	case "files":
		files, err := newCertFiles(d.plan.tlsCert, d.plan.tlsKey)
		if err != nil {
			return usageError(err, "check tls.cert_file and tls.key_file")
		}
		d.certs = files
	case "acme":
		if d.acme, err = newACME(d.plan, d.log); err != nil {
			return err
		}
		// The authority's challenge comes to the TLS port itself (RFC 8737), so
		// that no other has to be open.
		d.certs, protos = d.acme, append(protos, acme.ALPNProto)
	default:
		return nil
	}
	d.tls = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protos, GetCertificate: d.certs.get}
	return nil
}
