//go:build unix

package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestClassify(t *testing.T) {
	home := []netip.Addr{netip.MustParseAddr("192.168.1.5")}
	at := func(local uint16, target, seen string) observation {
		return observation{local, netip.MustParseAddrPort(target), netip.MustParseAddrPort(seen)}
	}
	for name, c := range map[string]struct {
		obs  []observation
		want natKind
	}{
		"nothing":       {nil, natUnknown},
		"own address":   {[]observation{at(1, "203.0.113.1:1", "192.168.1.5:1")}, natNone},
		"loopback":      {[]observation{at(1, "127.0.0.1:1", "127.0.0.1:1")}, natNone},
		"one place":     {[]observation{at(1, "203.0.113.1:1", "198.51.100.1:7")}, natUnknown},
		"same port":     {[]observation{at(1, "203.0.113.1:1", "198.51.100.1:7"), at(1, "203.0.113.2:1", "198.51.100.1:7")}, natIndependent},
		"other port":    {[]observation{at(1, "203.0.113.1:1", "198.51.100.1:7"), at(1, "203.0.113.2:1", "198.51.100.1:8")}, natDependent},
		"two ports":     {[]observation{at(1, "203.0.113.1:1", "198.51.100.1:7"), at(1, "203.0.113.1:2", "198.51.100.1:8")}, natDependent},
		"other address": {[]observation{at(1, "203.0.113.1:1", "198.51.100.1:7"), at(1, "203.0.113.2:1", "198.51.100.2:7")}, natDependent},
		"other sockets": {[]observation{at(1, "203.0.113.1:1", "198.51.100.1:7"), at(2, "203.0.113.2:1", "198.51.100.1:8")}, natUnknown},
		"IPv6":          {[]observation{at(1, "[2001:db8::1]:1", "[2001:db8::2]:1"), at(1, "[2001:db8::3]:1", "[2001:db8::2]:1")}, natUnknown},
	} {
		if got := classify(home, c.obs); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestDiagnose: what is wrong is a failure with advice, and what works is not.
func TestDiagnose(t *testing.T) {
	speaks := []string{"/rendezvous/1.0.0", "/muster/reach/1.0.0"}
	for name, c := range map[string]struct {
		r     netReport
		token string
		want  string // check=state of the first that is about it
		hint  string
	}{
		"all well":       {netReport{Points: []pointReport{{Protocols: speaks, Reach: "ok"}}, NAT: natNone}, "", "reach=ok", ""},
		"point down":     {netReport{Points: []pointReport{{Error: "connection refused"}}}, "", "point=fail", "nothing listens"},
		"other peer":     {netReport{Points: []pointReport{{Error: "peer id mismatch: expected …"}}}, "", "point=fail", "another peer answers"},
		"filtered":       {netReport{Points: []pointReport{{Error: "i/o timeout"}}}, "", "point=fail", "ports 80 and 443"},
		"needs token":    {netReport{Points: []pointReport{{Protocols: speaks, Reach: "unauthorized"}}}, "", "reach=fail", "--token-file"},
		"token no good":  {netReport{Points: []pointReport{{Protocols: speaks, Reach: "unauthorized"}}}, "mt1", "reach=fail", "run out"},
		"no reach":       {netReport{Points: []pointReport{{Protocols: speaks[:1], Reach: "protocols not supported"}}}, "", "reach=fail", "--server"},
		"relay closed":   {netReport{Servers: []serverReport{{Relay: "refused with 401 Unauthorized"}}}, "", "relay=fail", "scope relay"},
		"relay full":     {netReport{Servers: []serverReport{{Relay: "refused with 503 Service Unavailable"}}}, "", "relay=fail", "later"},
		"proxy in way":   {netReport{Servers: []serverReport{{Relay: "unexpected EOF"}}}, "", "relay=fail", "https"},
		"clock far off":  {netReport{Servers: []serverReport{{Skew: -86400, Relay: "ok"}}}, "", "clock=fail", "NTP"},
		"clock off":      {netReport{Servers: []serverReport{{Skew: 40, Relay: "ok"}}}, "", "clock=note", "NTP"},
		"clock right":    {netReport{Servers: []serverReport{{Skew: 1, Relay: "ok"}}}, "", "clock=ok", ""},
		"certificate":    {netReport{Servers: []serverReport{{Error: "x509: certificate signed by unknown authority"}}}, "", "server=fail", "--ca-file"},
		"hard NAT":       {netReport{NAT: natDependent}, "", "nat=note", "router"},
		"easy NAT":       {netReport{NAT: natIndependent}, "", "nat=ok", ""},
		"one place":      {netReport{NAT: natUnknown}, "", "nat=note", "second"},
		"IPv6 works":     {netReport{IPv6: true}, "", "ipv6=ok", ""},
		"IPv6 not tried": {netReport{Local: []netip.Addr{netip.MustParseAddr("2001:db8::1")}}, "", "ipv6=note", "point"},
	} {
		findings := diagnose(&c.r, pointOptions{Token: c.token}, machineReport{})
		check, _, _ := strings.Cut(c.want, "=")
		i := slices.IndexFunc(findings, func(f finding) bool { return f.Check == check })
		if i < 0 {
			t.Errorf("%s: no finding about %s in %v", name, check, findings)
			continue
		}
		if f := findings[i]; f.Check+"="+f.State != c.want || !strings.Contains(f.Advice, c.hint) || (f.State == stateFail) && f.Advice == "" {
			t.Errorf("%s: %+v, want %s and %q", name, f, c.want, c.hint)
		}
	}
	for _, f := range diagnose(&netReport{}, pointOptions{}, machineReport{files: 100, proxy: "HTTPS_PROXY"}) {
		if strings.Contains(f.Advice, "\n") {
			t.Errorf("more than a line: %q", f.Advice)
		}
	}
}

// TestNetcheckAndDoctor look at a point on this machine: with a token all is
// well, without one the doctor says what to do, and a point that is away is
// named.
func TestNetcheckAndDoctor(t *testing.T) {
	d := startDaemon(t)
	code, token, errs := musterRun(t.Context(), "token", "issue", "--data-dir", d.dir)
	if code != 0 {
		t.Fatal(errs)
	}
	t.Setenv("MUSTER_TOKEN", strings.TrimSpace(token))
	code, out, errs := musterRun(t.Context(), "netcheck", "--point", d.addr, "--json")
	var r netReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
		t.Fatalf("%d %s %s: %v", code, out, errs, err)
	}
	if r.NAT != natNone || !r.IPv4 || !r.Relay || len(r.Points) != 1 || r.Points[0].Reach != "ok" || r.Points[0].Observed == "" ||
		len(r.Servers) != 1 || r.Servers[0].Relay != "ok" || r.Servers[0].Observed == "" {
		t.Errorf("report %s", out)
	}
	if code, out, errs := musterRun(t.Context(), "doctor", "--point", d.addr); code != 0 || !strings.Contains(out, "ok    relay") {
		t.Errorf("doctor: %d %s %s", code, out, errs)
	}
	if code, out, errs := musterRun(t.Context(), "netcheck", "--server", d.ready.RDV[0]); code != 0 || !strings.Contains(out, "relay    yes") {
		t.Errorf("netcheck by server: %d %s %s", code, out, errs)
	}
	file := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(file, []byte("mt1.aaaaaaaa.b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := musterRun(t.Context(), "doctor", "--point", d.addr, "--token-file", file); code != exitOther || !strings.Contains(out, "fail  reach") ||
		!strings.Contains(out, "->") {
		t.Errorf("doctor with a wrong token: %d %s", code, out)
	}
	if code, out, _ := musterRun(t.Context(), "netcheck", "--server", "http://127.0.0.1:1"); code != exitUnreachable || !strings.Contains(out, "refused") {
		t.Errorf("netcheck of nobody: %d %s", code, out)
	}
	if code, _, errs := musterRun(t.Context(), "netcheck"); code != exitUsage || !strings.Contains(errs, "--point") {
		t.Errorf("netcheck without a point: %d %s", code, errs)
	}
}
