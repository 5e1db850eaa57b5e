package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/admin"
)

const testAdminToken = "0123456789abcdefghijkl"

// startAdmin serves a daemon that tells s.
func startAdmin(t *testing.T, s admin.Snapshot, peers []admin.Peer, check func(context.Context) error) string {
	t.Helper()
	srv, err := admin.New(admin.Config{
		Listen: "127.0.0.1:0", Token: testAdminToken, Version: "v1.2.3",
		Snapshot: func() admin.Snapshot { return s },
		Peers:    func(int) []admin.Peer { return peers },
		Checks:   map[string]func(context.Context) error{"store": check},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(testAdminToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(envAdmin, srv.Addr().String())
	t.Setenv(envAdminTokenFile, file)
	return srv.Addr().String()
}

func TestStatus(t *testing.T) {
	snap := admin.Snapshot{
		Node:       admin.Node{Peer: "12D3KooWtest", Addrs: []string{"/ip4/192.0.2.1/tcp/4001"}, Started: time.Now().Add(-time.Hour), Closed: []string{"relay"}},
		Rendezvous: &admin.Rendezvous{Registrations: 5, WakuRegistrations: 2, Namespaces: 3, Requests: map[string]uint64{"register": 9, "discover": 40}},
		Relay:      &admin.Relay{PairsDirect: 7, PairsRelayed: 1, RelayedBytes: 12_345_678},
		Pubsub:     &admin.Pubsub{Topics: []admin.Topic{{Name: "a"}}},
		Links:      []admin.Link{{Peer: "12D3KooWother", Service: "ssh\x1b[31m", Path: "direct", Sent: 1500}},
		Limits:     []admin.Limit{{Part: "rdv", Limit: "lobby", Count: 4}},
	}
	var well atomic.Bool
	startAdmin(t, snap, nil, func(context.Context) error {
		if well.Load() {
			return nil
		}
		return errors.New("disk full")
	})

	code, out, errs := musterRun(t.Context(), "status")
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, errs)
	}
	for _, want := range []string{
		"12D3KooWtest", "v1.2.3, up 1h0m0s", "no: store: disk full", "/ip4/192.0.2.1/tcp/4001", "7 registrations in 3 namespaces; 40 discover, 9 register",
		"7 pairs direct, 1 relayed, 12.3 MB relayed", "1 topics", "rdv lobby: 4 so far", "1.5 kB sent",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") || strings.Contains(out, "discv5") {
		t.Errorf("%q", out)
	}

	code, out, errs = musterRun(t.Context(), "status", "--json")
	var got admin.Snapshot
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitOK || strings.Count(out, "\n") != 1 || got.Rendezvous.Registrations != 5 {
		t.Errorf("exit %d, %v, %s%s", code, err, out, errs)
	}

	if code, _, errs := musterRun(t.Context(), "healthcheck"); code != exitOther || !strings.Contains(errs, "disk full") {
		t.Errorf("healthcheck: exit %d, %s", code, errs)
	}
	well.Store(true)
	if code, out, _ := musterRun(t.Context(), "healthcheck"); code != exitOK || out != "ready\n" {
		t.Errorf("healthcheck: exit %d, %q", code, out)
	}
	t.Setenv(envAdminTokenFile, "")
	if code, _, errs := musterRun(t.Context(), "status"); code != exitRefused || !strings.Contains(errs, "admin-token-file") {
		t.Errorf("without the token: exit %d, %s", code, errs)
	}
}

func TestPeersVerb(t *testing.T) {
	since := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	startAdmin(t, admin.Snapshot{}, []admin.Peer{
		{Peer: "12D3KooWa", Addr: "/ip4/192.0.2.1/tcp/1", Inbound: true, Agent: "evil\tagent\x1b[2J", Since: since},
		{Peer: "12D3KooWb", Since: since},
	}, func(context.Context) error { return nil })
	want := "12D3KooWa\t/ip4/192.0.2.1/tcp/1\tin\t2026-11-20T12:00:00Z\tevil\ufffdagent\ufffd[2J\n12D3KooWb\t-\tout\t2026-11-20T12:00:00Z\t-\n"
	if code, out, errs := musterRun(t.Context(), "peers"); code != exitOK || out != want {
		t.Errorf("exit %d, %q, %s", code, out, errs)
	}
	if code, out, _ := musterRun(t.Context(), "peers", "--json", "--limit", "1"); code != exitOK || strings.Count(out, "\n") != 1 {
		t.Errorf("exit %d, %q", code, out)
	}
	if code, _, _ := musterRun(t.Context(), "peers", "--limit", "-1"); code != exitUsage {
		t.Errorf("a negative limit: exit %d", code)
	}
}

func TestPeersNone(t *testing.T) {
	startAdmin(t, admin.Snapshot{}, nil, func(context.Context) error { return nil })
	if code, _, _ := musterRun(t.Context(), "peers"); code != exitNotFound {
		t.Errorf("exit %d", code)
	}
}

// Every verb and every flag is in a man page, and the pages are clean.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	if code, _, errs := musterRun(t.Context(), "man", dir); code != exitOK {
		t.Fatal(errs)
	}
	root := newRoot(&env{})
	err := eachCommand(root, func(c *cobra.Command) error {
		page, err := os.ReadFile(filepath.Join(dir, manName(c)+".1"))
		if err != nil {
			return err
		}
		if c.Short == "" {
			t.Errorf("%s says nothing of itself", c.CommandPath())
		}
		for _, i := range flagItems(c) {
			if !strings.Contains(string(page), roff(i.term)) {
				t.Errorf("%s: no %s", manName(c), i.term)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := exec.LookPath("man"); err != nil {
		t.Log("the pages are not rendered: no man")
		return
	}
	cmd := exec.CommandContext(t.Context(), "man", "--warnings=mac,syntax", "-E", "UTF-8", "-l", "-Tutf8", "-Z", filepath.Join(dir, "muster-rdv-serve.1"))
	cmd.Env = append(os.Environ(), "LC_ALL=C") // man warns of a locale that is not there
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Run(); err == nil && errs.String() != "" {
		t.Error(errs.String())
	}
}
