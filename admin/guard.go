package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/time/rate"
)

// Wrong tokens are answered at this rate and then refused without being looked
// at as 429, which makes no difference to whoever has the right one.
const (
	wrongTokensPerSecond = 5
	wrongTokensBurst     = 20
)

// policy is the page's Content-Security-Policy: its own script and style
// sheet, its own connections, and nothing inline, framed or foreign.
// https://www.w3.org/TR/CSP3/
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// headers are of every answer. There is no Access-Control-Allow-Origin.
var headers = map[string]string{
	"Content-Security-Policy":      policy,
	"Cache-Control":                "no-store",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
}

// A guard decides which requests get through.
type guard struct {
	hosts   map[string]bool
	any     bool // the listener has a certificate and a token: see newGuard
	unix    bool
	token   *[sha256.Size]byte // nil for none
	wrong   *rate.Limiter
	metrics *metrics
}

func newGuard(cfg Config, e endpoint, m *metrics) *guard {
	g := &guard{
		hosts:   map[string]bool{"localhost": true},
		unix:    e.network == "unix",
		wrong:   rate.NewLimiter(wrongTokensPerSecond, wrongTokensBurst),
		metrics: m,
	}
	// Where other machines can reach it, its name is not known here; a rebound
	// name fails by the certificate, and has no token.
	g.any = !e.private() && len(cfg.Hosts) == 0
	for _, h := range append([]string{e.host()}, cfg.Hosts...) {
		if h != "" {
			g.hosts[hostName(h)] = true
		}
	}
	if cfg.Token != "" {
		sum := sha256.Sum256([]byte(cfg.Token))
		g.token = &sum
	}
	return g
}

// hostName is a Host header's host: without port, brackets and final dot, in
// lower case.
func hostName(s string) string {
	if h, _, err := net.SplitHostPort(s); err == nil {
		s = h
	}
	s = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	return strings.ToLower(strings.TrimSuffix(s, "."))
}

func (g *guard) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for k, v := range headers {
			w.Header().Set(k, v)
		}
		switch {
		case !g.knownHost(r.Host):
			g.refuse(w, refusedHost, http.StatusForbidden, "unknown Host: use the address that the daemon printed\n")
		case !sameSite(r):
			g.refuse(w, refusedOrigin, http.StatusForbidden, "not for pages of other sites\n")
		case g.authorized(r):
			next.ServeHTTP(w, r)
		case openPath(r.URL.Path):
			w.Header().Set("Connection", "close")
			next.ServeHTTP(w, r)
		case !g.wrong.Allow():
			w.Header().Set("Retry-After", retrySeconds)
			g.refuse(w, refusedToken, http.StatusTooManyRequests, "too many wrong tokens\n")
		default:
			w.Header().Set("WWW-Authenticate", `Basic realm="muster: any name, the admin token as password"`)
			g.refuse(w, refusedToken, http.StatusUnauthorized, "the admin token is wanted\n")
		}
	})
}

// refuse also ends the connection: places are few, and for those with the token.
func (g *guard) refuse(w http.ResponseWriter, why refusal, code int, text string) {
	w.Header().Set("Connection", "close")
	g.metrics.refused[why].Add(1)
	writeText(w, code, text)
}

// openPath has what a load balancer may ask without the token.
func openPath(p string) bool { return p == "/livez" || p == "/readyz" }

// knownHost is what stops DNS rebinding: a page of evil.example whose name
// comes to point here still sends its own name. An address in numbers cannot
// be rebound.
func (g *guard) knownHost(host string) bool {
	name := hostName(host)
	if g.any || g.hosts[name] {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && (g.unix || ip.Unmap().IsLoopback())
}

// sameSite refuses what another site's page made a browser send. Programs send
// neither header. A person who follows a link here gets the page.
// https://www.w3.org/TR/fetch-metadata/
func sameSite(r *http.Request) bool {
	if o := r.Header.Get("Origin"); o != "" {
		u, err := url.Parse(o)
		if err != nil || !strings.EqualFold(u.Host, r.Host) {
			return false
		}
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return true
	default:
		return r.Method == http.MethodGet && r.URL.Path == "/" && r.Header.Get("Sec-Fetch-Mode") == "navigate"
	}
}

func (g *guard) authorized(r *http.Request) bool {
	if g.token == nil {
		return true
	}
	got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		_, got, ok = r.BasicAuth()
	}
	sum := sha256.Sum256([]byte(got)) // of one length, so that it takes one time
	return subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1 && ok
}
