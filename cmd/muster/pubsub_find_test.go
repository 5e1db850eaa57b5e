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

func TestPubSubFindByRecord(t *testing.T) {
	t.Parallel()
	lines, _ := startVerb(t, "discv5", "listen", "--addr", "127.0.0.1:0")
	hear(t, "--bootnode", nextLine(t, lines), "--discv5-addr", "127.0.0.1:0")
}

func TestPubSubFindFlags(t *testing.T) {
	for _, args := range [][]string{
		{"sub", "news", "--bootnode", "enr:nonsense"},
		{"sub", "news", "--bootnode", "enr:nonsense", "--discv5-addr", "nowhere"},
	} {
		if code, _, stderr := musterRun(t.Context(), args...); code != exitUsage {
			t.Errorf("%s: exit %d: %s", strings.Join(args, " "), code, stderr)
		}
	}
}
