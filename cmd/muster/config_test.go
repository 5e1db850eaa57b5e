package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update-docs", false, "write docs/config.md")

// TestWrongConfigs: every mistake in a file is exit 2, and names key and line.
func TestWrongConfigs(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	for _, c := range []struct{ text, key, line string }{
		{"[relay]\nacess = \"open\"", "relay.acess", "2"},
		{"[relay]\naccess = \"opne\"", "relay.access", "2"},
		{"[relay]\naccess = \"open\"", "relay.access", "2"},
		{"[relay]\naccess = true", "relay.access", "2"},
		{"[relay]\n\n\naccess = \"namespace\"", "relay.access", "4"},
		{"[relay]\naccess = \"namespace\"\nnamespaces = [\"lab*\"]", "relay.namespaces", "3"},
		{"[relai]\naccess = \"token\"", "relai", "1"},
		{"access = \"token\"", "access", "1"},
		{"relay = \"token\"", "relay", "1"},
		{"relay.access = 3", "relay.access", "1"},
		{"relay = { access = \"token\", pair_rtae = 7 }", "relay.pair_rtae", "1"},
		{"[relay]\naccess = \"token\"\naccess = \"open\"", "access", "3"},
		{"[relay]\n[relay]", "relay", "2"},
		{"[relay]\nmax_pairs = -1", "relay.max_pairs", "2"},
		{"[relay]\nmax_waiting = 0", "relay.max_waiting", "2"},
		{"[relay]\nmax_pairs = \"many\"", "relay.max_pairs", "2"},
		{"[relay]\nmax_pairs = 1.5", "relay.max_pairs", "2"},
		{"[relay]\nlobby_timeout = 60", "relay.lobby_timeout", "2"},
		{"[relay]\nlobby_timeout = \"60\"", "relay.lobby_timeout", "2"},
		{"[relay]\npair_rate = \"10 MB/s\"", "relay.pair_rate", "2"},
		{"[relay]\nhand_over = \"point:8080\"", "relay.hand_over", "2"},
		{"[relay]\naccess = \"token", "access", "2"},
		{"[relay\naccess = \"token\"", "relay", "1"},
		{"[listen]\nlibp2p = \"/ip4/0.0.0.0/tcp/1\"", "listen.libp2p", "2"},
		{"[listen]\nlibp2p = [\"0.0.0.0:4001\"]", "listen.libp2p", "2"},
		{"[listen]\nlibp2p = []", "listen.libp2p", "2"},
		{"[listen]\nlibp2p = [4001]", "listen.libp2p", "2"},
		{"[listen]\nhttp = \"8080\"", "listen.http", "2"},
		{"[listen]\nurls = [\"point.example.org\"]", "listen.urls", "2"},
		{"[tls]\nmode = \"files\"", "tls.mode", "2"},
		{"[tls]\nmode = \"acme\"", "tls.mode", "2"},
		{"[tls]\nmode = \"acme\"\nhosts = [\"192.0.2.1\"]", "tls.hosts", "3"},
		{"[tls]\nmode = \"acme\"\nhosts = [\"*.example.org\"]", "tls.hosts", "3"},
		{"[tls]\nmode = \"acme\"\nhosts = [\"point\"]", "tls.hosts", "3"},
		{"[tls]\nmode = \"acme\"\nhosts = [\"point.example:443\"]", "tls.hosts", "3"},
		{"[tls]\nmode = \"acme\"\nhosts = [\"point.example\"]\nacme_url = \"http://ca.example/\"", "tls.acme_url", "4"},
		{"[tls]\nmode = \"acme\"\nhosts = [\"point.example\"]\nacme_http = \"80\"", "tls.acme_http", "4"},
		{"[tls]\nmode = \"acme\"\nhosts = [\"point.example\"]\nacme_account = \"me\"", "tls.mode", "2"},
		{"[tls]\ntrusted_proxies = [\"10.0.0.0/33\"]", "tls.trusted_proxies", "2"},
		{"[access]\nbanned = [\"me\"]", "access.banned", "2"},
		{"[access]\nhook_url = \"ftp://x/\"", "access.hook_url", "2"},
		{"[rendezvous]\nmin_ttl = \"100h\"", "rendezvous.min_ttl", "2"},
		{"[rendezvous]\nmin_ttl = \"3h\"\nmax_ttl = \"2h\"", "rendezvous.max_ttl", "3"},
		{"[rendezvous]\nmax_total = 0", "rendezvous.max_total", "2"},
		{"[rendezvous]\nenabled = \"yes\"", "rendezvous.enabled", "2"},
		{"[store]\nurl = \"sqlite://x\"", "store.url", "2"},
		{"[store]\ndurability = \"maybe\"", "store.durability", "2"},
		{"[discv5]\nbootnodes = [\"enr:x\"]", "discv5.bootnodes", "2"},
		{"[discv5]\nlisten = [\"nowhere\"]", "discv5.listen", "2"},
		{"[pubsub]\nmax_message = \"1\"", "pubsub.max_message", "2"},
		{"[limits]\nmemory = \"1M\"", "limits.memory", "2"},
		{"[log]\nlevel = \"loud\"", "log.level", "2"},
		{"[log]\nlevel = 2026-11-20", "log.level", "2"},
	} {
		file := filepath.Join(t.TempDir(), "muster.toml")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, verb := range [][]string{{"config", "check"}, {"serve"}} {
			code, _, errs := musterRun(t.Context(), append(verb, "--config", file)...)
			if want := c.key + " (muster.toml:" + c.line + ")"; code != exitUsage || !strings.Contains(errs, want) {
				t.Errorf("%q: exit %d, want %q in %s", c.text, code, want, errs)
			}
		}
	}
}

// TestAllThatIsWrong: one run tells all mistakes.
func TestAllThatIsWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "muster.toml")
	if err := os.WriteFile(file, []byte("[relay]\nacess = \"x\"\n[log]\nleevel = \"info\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, errs := musterRun(t.Context(), "config", "check", "--config", file, "--relay-max-pairs", "-3")
	for _, want := range []string{
		"relay.acess (muster.toml:2): there is no such setting: did you mean relay.access?", "log.leevel (muster.toml:4)", "relay.max_pairs (--relay-max-pairs)",
	} {
		if !strings.Contains(errs, want) {
			t.Errorf("want %q in %s", want, errs)
		}
	}
}

// TestTemplate: what 'config init' writes is good, also with every line that
// it has in comments.
func TestTemplate(t *testing.T) {
	text := configTemplate()
	file := filepath.Join(t.TempDir(), "muster.toml")
	set := regexp.MustCompile(`(?m)^# ([a-z0-9_]+ = )`).ReplaceAllString(text, "$1")
	if err := os.WriteFile(file, []byte(set), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := musterRun(t.Context(), "config", "check", "--config", file); code != exitOK {
		t.Errorf("exit %d: %s", code, errs)
	}
	for i := range settings {
		if !strings.Contains(text, "\n# "+settings[i].name()+" = ") {
			t.Errorf("%s is not in the template", settings[i].key)
		}
	}
}

// TestSettings: names are unlike, each has a section, and defaults are values.
func TestSettings(t *testing.T) {
	seen := map[string]string{}
	for i := range settings {
		s := &settings[i]
		for _, name := range []string{s.key, "--" + s.flagName(), "$" + s.envName()} {
			if other, ok := seen[name]; ok {
				t.Errorf("%s is the name of %s and %s", name, other, s.key)
			}
			seen[name] = s.key
		}
		if !knownSection(s.section()) {
			t.Errorf("%s has no section", s.key)
		}
		if strings.HasSuffix(s.usage, ".") || s.usage == "" {
			t.Errorf("%s: usage %q", s.key, s.usage)
		}
		if err := s.parse(&serveConfig{}, s.split(s.def)); err != nil {
			t.Errorf("%s: default: %v", s.key, err)
		}
	}
}

// TestConfigDocs: docs/config.md says what the table says. 'go test -run
// ConfigDocs ./cmd/muster -update-docs' writes it.
func TestConfigDocs(t *testing.T) {
	const file = "../../docs/config.md"
	want := configDocs()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/config.md is not what the settings are: run this test with -update-docs")
	}
}

// configDocs writes the table for people.
func configDocs() string {
	var b strings.Builder
	b.WriteString(`# Configuration of the daemon

` + "`muster serve`" + ` needs none. What can be set is below; each line is a flag, a variable and a key of the file at once. A flag wins over the
environment, which wins over the file, which wins over the default. ` + "`muster config init`" + ` writes a file with every setting, ` + "`muster config check`" + ` says
what is wrong with one (key and line, exit 2; an unknown key is wrong), ` + "`muster config show`" + ` says where each value comes from.

The file is TOML: ` + "`--config`" + `, or ` + "`$MUSTER_CONFIG`" + `, or ` + "`muster/muster.toml`" + ` in the user's configuration directory or in ` + "`/etc`" + `. Lists are separated by commas
in flags and variables; flags may be repeated. Durations are written like ` + "`90s`" + ` or ` + "`2h`" + `, bytes like ` + "`500K`, `10M`, `1G`" + `.

- **Reload** marks what ` + "`SIGHUP`" + ` (` + "`systemctl reload muster`" + `) applies. Tokens and certificates are read again as well, and by themselves when they change.
  Rates hold for pairs that begin after the reload, and nobody who is there is sent away for a limit that was lowered. Connections, addresses, keys and the store want a
  restart: the daemon says which of the settings that changed do.
- **Secret** marks what is never shown. Its variable with ` + "`_FILE`" + ` at the end names a file to read it from, such as ` + "`MUSTER_STORE_FILE`" + `.

`)
	for _, sec := range sections {
		b.WriteString("## `[" + sec[0] + "]`\n" + sec[1] + ".\n\n| key | flag | variable | default | is |\n|---|---|---|---|---|\n")
		for i := range settings {
			s := &settings[i]
			if s.section() != sec[0] {
				continue
			}
			is := strings.ReplaceAll(s.usage, "|", "\\|")
			if s.reload {
				is += ". **Reload**"
			}
			if s.secret {
				is += ". **Secret**"
			}
			def := ""
			if s.def != "" {
				def = "`" + s.def + "`"
			}
			b.WriteString("| `" + s.name() + "` | `--" + s.flagName() + "` | `" + s.envName() + "` | " + def + " | " + is + " |\n")
		}
		b.WriteString("\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// FuzzParseConfig: a file that is no good is an error, whatever it holds.
func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(configTemplate()))
	f.Add([]byte("relay = { access = \"token\" }\n[relay]\naccess = 1\n[[log]]\n\"a.b\".c = [1, {x = 2}]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		src, err := parseConfig("muster.toml", b)
		for key := range src {
			if settingOf(key) == nil {
				t.Errorf("%s came through, %v", key, err)
			}
		}
	})
}

// TestEmptySecretFile: a secret that is not there yet must not turn off what it
// is for, such as the access hook.
func TestEmptySecretFile(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	file := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(file, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MUSTER_ACCESS_HOOK_URL_FILE", file)
	code, _, stderr := musterRun(t.Context(), "config", "check")
	if code != exitUsage || !strings.Contains(stderr, "is empty") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
