package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

const somePoint = "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf"

// parseFlags returns what the shared flags come to for some arguments.
func parseFlags(t *testing.T, args ...string) (pointOptions, error) {
	t.Helper()
	var f pointFlags
	var o pointOptions
	cmd := &cobra.Command{Use: "x", SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) (err error) {
		o, err = f.options()
		return err
	}}
	f.add(cmd)
	cmd.SetArgs(args)
	return o, cmd.Execute()
}

func TestPointFlags(t *testing.T) {
	o, err := parseFlags(t)
	if err != nil || len(o.Points)+len(o.Servers) != 0 || o.Token != "" || o.Key == nil || o.Path != pathAuto {
		t.Errorf("nothing given: %+v, %v", o, err)
	}
	if o.needPoint() == nil || o.needMeeting() == nil {
		t.Error("nothing given is enough")
	}
	t.Setenv(envPoint, somePoint+", "+strings.Replace(somePoint, "4001", "4002", 1))
	t.Setenv(envServer, "http://192.0.2.1:8080")
	t.Setenv(envToken, "sesame")
	if o, err = parseFlags(t); err != nil || len(o.Points) != 1 || len(o.Points[0].Addrs) != 2 || len(o.Servers) != 1 || o.Token != "sesame" {
		t.Errorf("from the environment: %+v, %v", o, err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err = parseFlags(t, "--server", "https://a.example", "--server", "http://b.example", "--token-file", file, "--relay")
	if err != nil || len(o.Servers) != 2 || o.Token != "other" || o.Path != pathRelay {
		t.Errorf("flags win: %+v, %v", o, err)
	}
	key := filepath.Join(t.TempDir(), "key")
	first, err := parseFlags(t, "--key", key)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(envKeyFile, key)
	if again, err := parseFlags(t); err != nil || !again.Key.Equals(first.Key) {
		t.Errorf("another identity: %v", err)
	}
}

func TestPointFlagErrors(t *testing.T) {
	for name, args := range map[string][]string{
		"--point":            {"--point", "192.0.2.1:4001"},
		"invalid p2p":        {"--point", "/ip4/192.0.2.1/tcp/4001"},
		"--server":           {"--server", "192.0.2.1:8080"},
		"exclude each other": {"--direct", "--relay"},
		"4 at most":          {"--server", "http://a", "--server", "http://b", "--server", "http://c", "--server", "http://d", "--server", "http://e"},
		"/no.token":          {"--token-file", filepath.Join(t.TempDir(), "no.token")},
		"/none.pem":          {"--ca-file", filepath.Join(t.TempDir(), "none.pem")},
		"write key":          {"--key", filepath.Join(t.TempDir(), "parent", "key")},
	} {
		if _, err := parseFlags(t, args...); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Setenv(envPoint, "nonsense")
	if _, err := parseFlags(t); err == nil || !strings.Contains(err.Error(), envPoint) {
		t.Errorf("the variable is not named: %v", err)
	}
}
