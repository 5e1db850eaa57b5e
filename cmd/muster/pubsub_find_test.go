package main

import (
	"strings"
	"testing"
)

// hear checks that a message of 'pub' comes to a 'sub', both with the same
// flags to find each other by.
func hear(t *testing.T, flags ...string) {
	t.Helper()
	_, out := start(t, append([]string{"sub", "news"}, flags...)...)
	muster1(t, "", append([]string{"pub", "news", "hello", "--wait", "30s"}, flags...)...)
	if line, err := out.ReadString('\n'); line != "hello\n" {
		t.Errorf("heard %q, %v", line, err)
	}
}

func TestPubSubFindByName(t *testing.T) {
	hear(t, "--ns", "readers", "--point", startPoint(t))
}

func TestPubSubFindByRecord(t *testing.T) {
	lines, _ := startVerb(t, "discv5", "listen", "--addr", "127.0.0.1:0")
	hear(t, "--bootnode", nextLine(t, lines), "--discv5-addr", "127.0.0.1:0")
}

func TestPubSubFindFlags(t *testing.T) {
	for _, args := range [][]string{
		{"sub", "news", "--ns", "readers"},
		{"sub", "news", "--point", "/ip4/127.0.0.1/tcp/1"},
		{"sub", "news", "--bootnode", "enr:nonsense"},
		{"sub", "news", "--ns", "readers", "--point", "nowhere"},
	} {
		if code, _, stderr := musterRun(t.Context(), args...); code != exitUsage {
			t.Errorf("%s: exit %d: %s", strings.Join(args, " "), code, stderr)
		}
	}
	gone := "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDL7kjmj3srpVdZkg7YrTxa9qwn5aJX6QXgrq8uSByoaQ"
	if code, _, stderr := musterRun(t.Context(), "pub", "news", "hello", "--ns", "readers", "--point", gone, "--wait", "50ms"); code != exitTimeout && code != exitUnreachable {
		t.Errorf("no point: exit %d: %s", code, stderr)
	}
}
