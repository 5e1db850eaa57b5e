package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFailures: what goes wrong has its exit code, says what, and where that
// helps what to do; with --json in an object, the last on stderr.
func TestFailures(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, nil, keyMode); err != nil {
		t.Fatal(err)
	}
	const gone = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGyW2VLdDKXHNKzJkmA4QLioB7uwr8BehA3oATRzvd5Sx"
	for _, tt := range []struct {
		code int
		says string
		args string
	}{
		{exitUsage, `unknown command "nosuch"`, "nosuch"},
		{exitUsage, "did you mean 'muster serve'?", "sreve"},
		{exitUsage, `unknown command "nosuch"`, "rdv nosuch"},
		{exitUsage, "unknown flag: --nosuch", "serve --nosuch"},
		{exitUsage, "takes NS, got 0", "find"},
		{exitUsage, "HOST:PORT", "rdv serve --listen nohost"},
		{exitUsage, "invalid port", "rdv serve --listen 127.0.0.1:99999"},
		{exitUsage, "must begin with /", "find lab --point 127.0.0.1:1"},
		{exitLocal, "is there already", "key new " + key},
		{exitLocal, "is there already", "config init " + key},
		{exitUnreachable, "check --point", "find lab --point " + gone},
		{exitUnreachable, "check the server's URL", "listen --server http://127.0.0.1:1"},
		{exitUnreachable, "check the URL", "rdv dial http://127.0.0.1:1 token"},
		{exitUnreachable, "is it running", "pub topic hello --peer " + gone},
		{exitUnreachable, "start one with 'muster serve'", "status"},
		{exitUnreachable, "start one with 'muster serve'", "peers"},
		{exitUnreachable, "could be reached", "netcheck --server http://127.0.0.1:1"},
		{exitUsage, "nothing has been sent", "send " + filepath.Join(dir, "missing") + " --server http://127.0.0.1:1"},
	} {
		args := strings.Fields(tt.args)
		code, _, errs := musterRun(t.Context(), args...)
		if code != tt.code || !strings.Contains(errs, tt.says) || !strings.Contains(errs, "muster: ") {
			t.Errorf("%s: exit %d, want %d and %q: %s", tt.args, code, tt.code, tt.says, errs)
		}
		code, out, errs := musterRun(t.Context(), append(args, "--json")...)
		if code == exitUsage && strings.Contains(errs, "unknown flag: --json") {
			continue
		}
		if code != tt.code {
			t.Errorf("%s --json: exit %d", tt.args, code)
		}
		var last struct {
			Event, Error string
			Exit         int
		}
		for line := range strings.Lines(out + errs) {
			last.Event = ""
			if err := json.Unmarshal([]byte(line), &last); err != nil {
				t.Errorf("%s --json: %q is no object: %v", tt.args, line, err)
			}
		}
		if last.Event != "error" || last.Error == "" || last.Exit != tt.code {
			t.Errorf("%s --json: %+v of %s", tt.args, last, errs)
		}
	}
}

// TestFullDisk: output that cannot be written is a local failure.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("skip: %v", err)
	}
	defer func() { _ = full.Close() }()
	for _, args := range []string{"version", "config show", "config show --json", "config init", "completion bash"} {
		var errs strings.Builder
		if code := run(t.Context(), strings.Fields(args), strings.NewReader(""), full, &errs); code != exitLocal {
			t.Errorf("%s: exit %d: %s", args, code, errs.String())
		}
	}
}
