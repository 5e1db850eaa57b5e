package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// commands runs the one-shot verbs of the muster command against a
// go-ethereum node, as a person or a script would.
func commands(ctx context.Context, b *builder, r *report) {
	geth := gethKind(b)
	if _, err := geth.program(); err != nil {
		r.skip(geth.title, err)
		return
	}
	muster, err := b.muster()
	if err != nil {
		r.check("build muster", err)
		return
	}
	p, err := geth.start(ctx)
	defer p.stop()
	if err != nil {
		r.check("start "+geth.title, err)
		return
	}
	for _, c := range []struct {
		args []string
		want string // somewhere in its output
	}{
		{[]string{"ping", p.record}, ""},
		{[]string{"findnode", p.record, "0"}, p.record},
		{[]string{"talk", p.record, "echo", "hello"}, "hello"},
		{[]string{"resolve", p.record}, p.record},
		{[]string{"lookup", p.record}, p.record},
	} {
		out, err := exec.CommandContext(ctx, muster, append([]string{"discv5"}, c.args...)...).CombinedOutput()
		if err == nil && !strings.Contains(string(out), c.want) {
			err = fmt.Errorf("%q does not contain %q", out, c.want)
		} else if err != nil {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		r.check("muster discv5 "+c.args[0], err)
	}
}
