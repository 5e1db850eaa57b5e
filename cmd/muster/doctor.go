package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/reach"
	"github.com/muster-p2p/muster/rendezvous"
)

// A finding is a line of the doctor's.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // ok, note, fail
	Text   string `json:"text"`
	Advice string `json:"advice,omitempty"` // one line, where there is something to do
}

const (
	stateOK   = "ok"
	stateNote = "note" // works, and could work better
	stateFail = "fail"
)

func newDoctorCmd(e *env) *cobra.Command {
	var f netFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out why it does not work, with a line of advice for each failure",
		Long: `Look at this machine and its network, as 'muster netcheck' does, and say what is
wrong and what to do about it. Exit 1 if anything is.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, o, err := f.look(cmd.Context())
			if err != nil {
				return err
			}
			findings := diagnose(r, o, machine())
			failed := 0
			for _, d := range findings {
				if d.State == stateFail {
					failed++
				}
				if err := f.tell(e, d); err != nil {
					return err
				}
			}
			if failed > 0 {
				return fail(exitOther, fmt.Errorf("%d of %d checks failed", failed, len(findings)), "")
			}
			return nil
		},
	}
	f.addNet(cmd)
	return cmd
}

func (f *netFlags) tell(e *env, d finding) error {
	if f.json {
		return json.NewEncoder(e.stdout).Encode(d)
	}
	_, err := fmt.Fprintf(e.stdout, "%-4s  %-9s %s\n", d.State, d.Check, printable(d.Text))
	if err == nil && d.Advice != "" {
		_, err = fmt.Fprintf(e.stdout, "      %-9s -> %s\n", "", d.Advice)
	}
	return err
}

// A machineReport is what of this machine can be in the way.
type machineReport struct {
	files int    // descriptors, 0 any number
	proxy string // name of the variable that names one
}

func machine() (m machineReport) {
	m.files = maxFiles()
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"} {
		if os.Getenv(name) != "" {
			m.proxy = name
			break
		}
	}
	return m
}

// diagnose turns facts into findings. It looks at nothing else.
func diagnose(r *netReport, o pointOptions, m machineReport) (out []finding) {
	for _, p := range r.Points {
		out = append(out, diagnosePoint(p, o.Token != "")...)
	}
	for _, s := range r.Servers {
		out = append(out, diagnoseServer(s)...)
	}
	out = append(out, diagnoseNAT(r), diagnoseIPv6(r))
	const fewFiles = 256
	if m.files > 0 && m.files < fewFiles {
		out = append(out, finding{"machine", stateNote, fmt.Sprintf("only %d descriptors may be open", m.files), "raise the limit with 'ulimit -n 4096'"})
	}
	if m.proxy != "" {
		out = append(out, finding{
			"proxy", stateNote, "rdv servers are asked through the proxy of $" + m.proxy,
			"they see the proxy's address: direct paths need " + m.proxy + " unset",
		})
	}
	return out
}

func diagnosePoint(p pointReport, token bool) []finding {
	if p.Error != "" {
		return []finding{{"point", stateFail, p.Peer + " cannot be reached: " + p.Error, pointAdvice(p.Error)}}
	}
	out := []finding{{"point", stateOK, fmt.Sprintf("%s at %s, %.0f ms", p.Peer, p.Addr, p.Millis), ""}}
	if !slices.Contains(p.Protocols, string(rendezvous.ProtocolID)) {
		out = append(out, finding{"names", stateNote, "the point does not serve rendezvous", "names cannot be found there: use a ticket or a peer ID"})
	}
	switch {
	case p.Reach == "ok":
		out = append(out, finding{"reach", stateOK, "the point brings callers to this machine", ""})
	case !slices.Contains(p.Protocols, string(reach.ProtocolID)):
		out = append(out, finding{"reach", stateFail, "the point brings nobody together", "use another point, or an rdv server with --server"})
	case token:
		out = append(out, finding{"reach", stateFail, p.Reach, "the token does not do: ask the point's operator whether it has run out, is used up, or is another peer's"})
	default:
		out = append(out, finding{"reach", stateFail, p.Reach, "ask the point's operator for a token ('muster token issue') and give it with --token-file"})
	}
	return out
}

// pointAdvice says what the words of a failed dial mean.
func pointAdvice(err string) string {
	switch {
	case strings.Contains(err, "peer id mismatch"):
		return "another peer answers there: the address is old, or somebody is in between; ask the operator for the address"
	case strings.Contains(err, "refused"):
		return "nothing listens there: is the point running, is the port right?"
	case strings.Contains(err, "no such host"):
		return "the name is not known: check its spelling, and this machine's DNS"
	case strings.Contains(err, "unreachable"), strings.Contains(err, "no route"):
		return "this machine has no way there: is it connected, and has it an address of that family?"
	default:
		return "no answer: a firewall may drop it; some networks let only ports 80 and 443 out"
	}
}

func diagnoseServer(s serverReport) []finding {
	if s.Error != "" {
		return []finding{{"server", stateFail, s.URL + ": " + s.Error, serverAdvice(s.Error)}}
	}
	out := []finding{{"server", stateOK, fmt.Sprintf("%s, %.0f ms", s.URL, s.Millis), ""}}
	const noteSkew, failSkew = 30, 300 // seconds; tokens and certificates bear 5 minutes
	switch skew := math.Abs(s.Skew); {
	case skew >= failSkew:
		out = append(out, finding{"clock", stateFail, fmt.Sprintf("the server's clock is %+.0f s from ours", s.Skew), "set this machine's clock, by NTP as a rule; or tell the operator"})
	case skew >= noteSkew:
		out = append(out, finding{"clock", stateNote, fmt.Sprintf("the server's clock is %+.0f s from ours", s.Skew), "let NTP set this machine's clock"})
	default:
		out = append(out, finding{"clock", stateOK, "within seconds of the server's", ""})
	}
	switch {
	case s.Relay == "ok":
		out = append(out, finding{"relay", stateOK, fmt.Sprintf("bytes go through, %.1f ms there and back", s.RelayRTT), ""})
	case strings.Contains(s.Relay, "401"), strings.Contains(s.Relay, "403"):
		out = append(out, finding{"relay", stateFail, s.Relay, "ask the operator for a token with scope relay, and give it with --token-file"})
	case strings.Contains(s.Relay, "429"), strings.Contains(s.Relay, "503"):
		out = append(out, finding{"relay", stateFail, s.Relay, "the server has enough to do: try again later"})
	default:
		out = append(out, finding{"relay", stateFail, s.Relay, "something between does not let HTTP upgrades through: try an https URL"})
	}
	return out
}

func serverAdvice(err string) string {
	if strings.Contains(err, "certificate") || strings.Contains(err, "x509") {
		return "its certificate is not trusted here: check the name in the URL and this machine's clock, or give --ca-file"
	}
	return pointAdvice(err)
}

func diagnoseNAT(r *netReport) finding {
	switch r.NAT {
	case natNone:
		return finding{"nat", stateOK, "none: the address seen is this machine's", ""}
	case natIndependent:
		return finding{"nat", stateOK, "endpoint-independent mapping: direct paths work with most peers", ""}
	case natDependent:
		return finding{
			"nat", stateNote, "endpoint-dependent mapping: direct paths to peers behind such a NAT fail, and the relay is used",
			"a forwarded port, IPv6, or another setting of the router (full cone) would help",
		}
	default:
		return finding{"nat", stateNote, "its kind is not known: seen from one place only", "give a second --point or --server"}
	}
}

func diagnoseIPv6(r *netReport) finding {
	has := slices.ContainsFunc(r.Local, isPublic6)
	switch {
	case r.IPv6:
		return finding{"ipv6", stateOK, "works", ""}
	case has:
		return finding{"ipv6", stateNote, "this machine has an address, and nobody was reached by it", "give a point that has IPv6, to see whether it works"}
	default:
		return finding{"ipv6", stateNote, "none", "nothing needs it, but direct paths are easier with it"}
	}
}

// isPublic6 reports whether an address is of the public IPv6 network.
func isPublic6(a netip.Addr) bool { return a.Is6() && !a.IsPrivate() }
