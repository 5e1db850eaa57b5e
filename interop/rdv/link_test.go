package interop

import (
	"context"
	"os/exec"
	"regexp"
	"testing"
	"time"
)

var ticketField = regexp.MustCompile(`"ticket":"([^"]+)"`)

// TestLinkOverTheirServer: 'muster listen' and 'muster call' need no more of a
// server than rdv v0.0.6 has, for the relay and for the direct path.
func TestLinkOverTheirServer(t *testing.T) {
	for name, flag := range map[string]string{"both": "", "relay": "--relay", "direct": "--direct"} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), attempt)
			defer cancel()
			url := startServer(ctx, t, theirs)
			a := startVerb(ctx, t, "listen", flag, "--server", url)
			var ticket string
			for ticket == "" && ctx.Err() == nil {
				if m := ticketField.FindStringSubmatch(a.stderr.String()); m != nil {
					ticket = m[1]
				}
				time.Sleep(time.Millisecond) // until the other process has written it
			}
			d := startVerb(ctx, t, "call", flag, ticket)
			toD, toA := randomBytes(t, payload), randomBytes(t, payload)
			exchange(ctx, t, d, a, toD, toA)
			_, _ = d.stdin.Close(), a.stdin.Close()
			d.finish(t)
			a.finish(t)
			if want := flag[min(2, len(flag)):]; want != "" && d.path() != want {
				t.Errorf("the path was %q, want %q\n%s", d.path(), want, &d.stderr)
			}
		})
	}
}

func startVerb(ctx context.Context, t *testing.T, verb, flag string, args ...string) *peer {
	t.Helper()
	args = append([]string{verb, "--json"}, args...)
	if flag != "" {
		args = append(args, flag)
	}
	p := &peer{whose: ours, verb: verb, cmd: exec.CommandContext(ctx, programs[ours], args...)}
	p.cmd.Stderr = &p.stderr
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if p.stdout, err = p.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	start(t, p.cmd)
	return p
}
