package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/muster-p2p/muster/rdv"
)

const (
	// acmeRetry is when an authority is asked again after it gave no
	// certificate; it doubles up to acmeRetryMax. Autocert forgets a failure
	// after a minute, and public authorities stand few failures an hour.
	acmeRetry    = 61 * time.Second
	acmeRetryMax = time.Hour

	// acmeWait is how long a handshake waits for a certificate that is being
	// asked for: as long as the server waits for a request.
	acmeWait = rdv.HeaderTimeout

	// acmeLook bounds how often it is looked whether a certificate was renewed.
	acmeLookMin, acmeLookMax = time.Second, time.Hour

	// maxProblem bounds what is read of an authority's answer to find out what
	// is wrong: certificates and orders are some kilobytes.
	maxProblem = 256 << 10

	// acmeConns bounds connections of the listener for challenges: it is for
	// the authority, which makes a handful.
	acmeConns = 32
)

// errNoCertificate is what a handshake gets while there is no certificate.
var errNoCertificate = errors.New("there is no certificate for this name yet")

// acmeCerts gets certificates from an authority (RFC 8555) and keeps them
// fresh. Only its own loop asks for the first one of a name: strangers'
// handshakes cannot spend the failures that an authority forgives.
type acmeCerts struct {
	manager   *autocert.Manager
	log       *slog.Logger
	challenge string // where http-01 is answered, empty if nowhere
	wake      chan struct{}

	mu      sync.Mutex // guards the following
	names   map[string]*acmeName
	problem string // what the authority said last
}

// An acmeName is a name that there is to be a certificate for.
type acmeName struct {
	leaf  *x509.Certificate // nil until there is one
	err   error             // why there is none
	tried chan struct{}     // closed after an attempt; nil between attempts
	late  bool              // it was told that the renewal is overdue; of the loop
}

// newACME returns what gets the certificates of a plan. Nothing is asked for
// before start.
func newACME(p *servePlan, logger *slog.Logger) (*acmeCerts, error) {
	a := &acmeCerts{log: logger, challenge: p.acmeHTTP, wake: make(chan struct{}, 1), names: map[string]*acmeName{}}
	for _, h := range p.tlsHosts {
		a.names[strings.ToLower(h)] = &acmeName{err: errNoCertificate, tried: make(chan struct{})}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if p.tlsCA != "" {
		pem, err := os.ReadFile(p.tlsCA)
		if err != nil {
			return nil, usageError(fmt.Errorf("tls.acme_ca_file: %w", err), "")
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, usageError(fmt.Errorf("tls.acme_ca_file %s holds no certificate", p.tlsCA), "")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	client := &acme.Client{
		DirectoryURL: autocert.DefaultACMEDirectory, UserAgent: "muster/" + buildVersion(),
		HTTPClient: &http.Client{Transport: &authority{transport, a}},
	}
	if p.tlsACME != "" {
		client.DirectoryURL = p.tlsACME
	}
	a.manager = &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(filepath.Join(p.dataDir, acmeDir)),
		HostPolicy: autocert.HostWhitelist(p.tlsHosts...), Email: p.tlsEmail, Client: client,
	}
	if p.acmeAccount != "" {
		key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(p.acmeKey, "="))
		if err != nil {
			return nil, usageError(errors.New("tls.acme_key is not base64url"), "")
		}
		a.manager.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: p.acmeAccount, Key: key}
	}
	return a, nil
}

// start gets certificates until ctx ends, and answers challenges on a port of
// their own if there is one.
func (a *acmeCerts) start(ctx context.Context, wg *sync.WaitGroup) error {
	if a.challenge != "" {
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, "tcp", a.challenge)
		if err != nil {
			return fail(exitLocal, err, "choose another with --tls-acme-http")
		}
		a.answerHTTP(ctx, wg, &fewConns{ln, make(chan struct{}, acmeConns)})
	}
	wg.Go(func() { a.keep(ctx) })
	return nil
}

// answerHTTP answers http-01 challenges (RFC 8555, section 8.3), and 404 to all
// else.
func (a *acmeCerts) answerHTTP(ctx context.Context, wg *sync.WaitGroup, ln net.Listener) {
	answer := a.manager.HTTPHandler(http.NotFoundHandler())
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if host, _, err := net.SplitHostPort(r.Host); err == nil {
				r.Host = host // an authority may ask another port than 80
			}
			answer.ServeHTTP(w, r)
		}),
		ReadTimeout: rdv.HeaderTimeout, WriteTimeout: rdv.HeaderTimeout, IdleTimeout: time.Second,
		MaxHeaderBytes: rdv.MaxHeader, ErrorLog: log.New(io.Discard, "", 0), // strangers' mistakes
	}
	wg.Go(func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("challenges are not answered any more", "err", err)
		}
	})
	wg.Go(func() {
		<-ctx.Done()
		_ = srv.Close()
	})
}

// fewConns has no more connections at a time than its channel has seats; others
// wait in the kernel.
type fewConns struct {
	net.Listener
	seats chan struct{}
}

// Accept implements net.Listener. When the listener is closed who waits for a
// seat gets one by the end of the connections that there are.
func (l *fewConns) Accept() (net.Conn, error) {
	l.seats <- struct{}{}
	leave := sync.OnceFunc(func() { <-l.seats })
	c, err := l.Listener.Accept()
	if err != nil {
		leave()
		return nil, err
	}
	return seatedConn{c, leave}, nil
}

type seatedConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c seatedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// keep gets the certificates, one name after the other, and then watches how
// they are renewed.
func (a *acmeCerts) keep(ctx context.Context) {
	type plan struct {
		next, tried time.Time
		retry       time.Duration // after the next failure
		failed      bool
	}
	plans := map[string]*plan{}
	for name := range a.names {
		plans[name] = &plan{retry: acmeRetry}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-a.wake:
			for _, p := range plans {
				if p.failed {
					p.next, p.retry = p.tried.Add(acmeRetry), acmeRetry
				}
			}
		}
		wait := acmeLookMax
		for name, p := range plans {
			if left := time.Until(p.next); left > 0 {
				wait = min(wait, left)
				continue
			}
			look, err := a.look(ctx, name)
			if ctx.Err() != nil {
				return
			}
			p.tried, p.failed = time.Now(), err != nil
			if p.failed {
				a.log.Error("no certificate", "host", name, "err", err, "retry", p.retry.String())
				look, p.retry = p.retry, min(2*p.retry, acmeRetryMax)
			} else {
				p.retry = acmeRetry
			}
			p.next = p.tried.Add(look)
			wait = min(wait, look)
		}
		timer.Reset(wait)
	}
}

// look gets the certificate that there is now, the first one from the
// authority, and returns when to look again.
func (a *acmeCerts) look(ctx context.Context, name string) (time.Duration, error) {
	a.mu.Lock()
	n := a.names[name]
	if n.leaf == nil {
		a.problem = ""
		if n.tried == nil {
			n.tried = make(chan struct{})
		}
	}
	a.mu.Unlock()
	leaf, err := a.fetch(ctx, name)
	a.mu.Lock()
	before, problem := n.leaf, a.problem
	if err == nil {
		n.leaf = leaf
	} else if !strings.Contains(err.Error(), problem) {
		err = fmt.Errorf("%w (the authority: %s)", err, problem)
	}
	n.err = err
	if n.tried != nil {
		close(n.tried)
		n.tried = nil
	}
	a.mu.Unlock()
	if err != nil {
		return 0, err
	}
	a.tell(name, n, before, leaf, problem)
	return min(max(leaf.NotAfter.Sub(leaf.NotBefore)/20, acmeLookMin), acmeLookMax), nil
}

// tell logs what has become of a certificate. Only the loop calls it.
func (a *acmeCerts) tell(name string, n *acmeName, before, now *x509.Certificate, problem string) {
	until := now.NotAfter.UTC().Format(time.RFC3339)
	switch {
	case before == nil:
		a.log.Info("certificate is there", "host", name, "until", until)
	case !before.Equal(now):
		n.late = false
		a.log.Info("certificate was renewed", "host", name, "until", until)
	case time.Until(now.NotAfter) < now.NotAfter.Sub(now.NotBefore)/4 && !n.late: // it should have been at a third
		n.late = true
		a.log.Warn("certificate is not renewed yet", "host", name, "until", until, "authority", problem)
	}
}

// fetch has autocert find the certificate, which may take minutes. It does not
// take a context, so that it is left alone when ctx ends.
func (a *acmeCerts) fetch(ctx context.Context, name string) (*x509.Certificate, error) {
	type result struct {
		cert *tls.Certificate
		err  error
	}
	done := make(chan result, 1)
	go func() {
		cert, err := a.manager.GetCertificate(helloFor(name))
		done <- result{cert, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, r.err
		}
		return r.cert.Leaf, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// helloFor is a handshake for a name by a client of this century: there is one
// certificate for a name, with an elliptic key.
func helloFor(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName: name, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves: []tls.CurveID{tls.CurveP256}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
	}
}

// get is for tls.Config.GetCertificate.
func (a *acmeCerts) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	a.mu.Lock()
	n := a.names[name]
	if n == nil {
		a.mu.Unlock()
		return nil, fmt.Errorf("no certificate is for the name %q", hello.ServerName)
	}
	have, tried, err := n.leaf != nil, n.tried, n.err
	a.mu.Unlock()
	switch {
	case len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acme.ALPNProto:
		return a.manager.GetCertificate(hello) // the authority's challenge (RFC 8737)
	case have:
		return a.manager.GetCertificate(helloFor(name))
	case tried == nil:
		return nil, err
	}
	late := time.NewTimer(acmeWait)
	defer late.Stop()
	select {
	case <-tried:
	case <-late.C:
		return nil, errNoCertificate
	}
	a.mu.Lock()
	have, err = n.leaf != nil, n.err
	a.mu.Unlock()
	if !have {
		return nil, err
	}
	return a.manager.GetCertificate(helloFor(name))
}

// reload implements certificates: what failed is tried again as soon as that
// makes sense.
func (a *acmeCerts) reload() error {
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return nil
}

// health is nil, or which name has no certificate that is good.
func (a *acmeCerts) health() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	now := time.Now()
	for name, n := range a.names {
		switch {
		case n.leaf == nil:
			errs = append(errs, fmt.Errorf("%s: %w", name, n.err))
		case !now.Before(n.leaf.NotAfter):
			errs = append(errs, fmt.Errorf("%s: the certificate has run out, and was not renewed", name))
		}
	}
	return errors.Join(errs...)
}

// An authority is the way to it, which remembers what it complains of: autocert
// tells that a challenge failed, and not why.
type authority struct {
	http.RoundTripper
	certs *acmeCerts
}

// RoundTrip implements http.RoundTripper.
func (t *authority) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	if err != nil {
		t.certs.note("not reached: " + err.Error())
		return nil, err
	}
	if !strings.Contains(resp.Header.Get("Content-Type"), "json") {
		return resp, nil
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err != nil {
		return nil, errors.Join(err, resp.Body.Close())
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
	if text := problemIn(head); text != "" {
		t.certs.note(text)
	}
	return resp, nil
}

func (a *acmeCerts) note(problem string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.problem = problem
}

// problemIn returns what an answer complains of: itself a problem document (RFC
// 7807), or an authorization with a challenge that failed (RFC 8555, section
// 8). A nonce that is too old is no complaint: it is asked for another.
func problemIn(answer []byte) string {
	type problem struct{ Type, Detail string }
	var a struct {
		problem
		Challenges []struct{ Error *problem }
	}
	if json.Unmarshal(answer, &a) != nil || strings.HasSuffix(a.Type, ":badNonce") {
		return ""
	}
	for _, c := range a.Challenges {
		if c.Error != nil {
			a.problem = *c.Error
		}
	}
	if a.Detail == "" {
		return ""
	}
	const long = 300
	return printable(a.Detail[:min(len(a.Detail), long)])
}
