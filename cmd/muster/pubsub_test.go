package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
)

// start runs a verb until its context ends. It returns the first line of
// stderr and a reader of stdout.
func start(t *testing.T, args ...string) (first string, stdout *bufio.Reader) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	outR, outW := io.Pipe()
	errR, errW := io.Pipe()
	done := make(chan int, 1)
	go func() {
		code := run(ctx, args, strings.NewReader(""), outW, errW)
		_ = outW.Close()
		_ = errW.Close()
		done <- code
	}()
	t.Cleanup(func() {
		cancel()
		go func() { _, _ = io.Copy(io.Discard, outR) }()
		if code := <-done; code != exitOK {
			t.Errorf("muster %s: exit %d", strings.Join(args, " "), code)
		}
	})
	er := bufio.NewReader(errR)
	first, err := er.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, er) }()
	return strings.TrimSpace(first), bufio.NewReader(outR)
}

func muster1(t *testing.T, stdin string, args ...string) (stdout string) {
	t.Helper()
	var out, errOut strings.Builder
	if code := run(t.Context(), args, strings.NewReader(stdin), &out, &errOut); code != exitOK {
		t.Fatalf("muster %s: exit %d, %s", strings.Join(args, " "), code, errOut.String())
	}
	return out.String()
}

func TestPubSub(t *testing.T) {
	t.Parallel()
	for _, sign := range []string{"strict", "none"} {
		for _, extra := range [][]string{nil, {"--floodsub"}} {
			t.Run(strings.Join(append([]string{sign}, extra...), " "), func(t *testing.T) {
				flags := append([]string{"--sign", sign}, extra...)
				addr, out := start(t, append([]string{"sub", "news", "--json"}, flags...)...)
				muster1(t, "one\ntwo\n", append([]string{"pub", "news", "--peer", addr}, flags...)...)
				muster1(t, "", append([]string{"pub", "news", "three", "--peer", addr}, flags...)...)
				for _, want := range []string{"one", "two", "three"} {
					line, err := out.ReadString('\n')
					if err != nil {
						t.Fatal(err)
					}
					var m received
					if err := json.Unmarshal([]byte(line), &m); err != nil {
						t.Fatalf("%s: %v", line, err)
					}
					if m.Topic != "news" || m.Data == nil || *m.Data != want {
						t.Errorf("got %s, want data %q", line, want)
					}
					if (m.From == "") != (sign == "none") {
						t.Errorf("--sign %s: author %q", sign, m.From)
					}
				}
			})
		}
	}
}

// A publisher waits until all that it was told to wait for would get it.
func TestPubMinPeers(t *testing.T) {
	one, out1 := start(t, "sub", "news", "-n", "1")
	var errOut strings.Builder
	args := []string{"pub", "news", "to both", "--peer", one, "--min-peers", "2"}
	if code := run(t.Context(), append(args, "--wait", "50ms"), nil, io.Discard, &errOut); code != exitTimeout || !strings.Contains(errOut.String(), "of 2 peers") && !strings.Contains(errOut.String(), "nobody") {
		t.Errorf("exit %d, %s", code, errOut.String())
	}
	two, out2 := start(t, "sub", "news", "-n", "1", "--peer", one)
	muster1(t, "", append(args, "--peer", two)...)
	for _, out := range []*bufio.Reader{out1, out2} {
		if line, err := out.ReadString('\n'); err != nil || line != "to both\n" {
			t.Errorf("got %q, %v", line, err)
		}
	}
}

// Peers that know nothing of each other meet at a point.
func TestPubSubFindsPeersAtAPoint(t *testing.T) {
	t.Parallel()
	point := startPoint(t)
	for _, extra := range [][]string{nil, {"--ns", "lab"}} {
		flags := append([]string{"--point", point}, extra...)
		_, out := start(t, append([]string{"sub", "news", "-n", "1"}, flags...)...)
		muster1(t, "", append([]string{"pub", "news", "found you"}, flags...)...)
		if line, err := out.ReadString('\n'); err != nil || line != "found you\n" {
			t.Errorf("got %q, %v", line, err)
		}
	}
}

func TestPubSubRaw(t *testing.T) {
	t.Parallel()
	addr, out := start(t, "sub", "files", "--raw")
	const payload = "no newline \x00\xff at the end"
	muster1(t, payload, "pub", "files", "--raw", "--peer", addr)
	got := make([]byte, len(payload))
	if _, err := io.ReadFull(out, got); err != nil || string(got) != payload {
		t.Errorf("got %q, %v, want %q", got, err, payload)
	}
}

// A line too long for a message is an error, and not the end of stdin.
func TestPubLineTooLong(t *testing.T) {
	addr, out := start(t, "sub", "news")
	var errs strings.Builder
	args := []string{"pub", "news", "--max-size", "1000", "--peer", addr}
	if code := run(t.Context(), args, strings.NewReader("one\n"+strings.Repeat("x", 1001)+"\nthree\n"), io.Discard, &errs); code != exitUsage {
		t.Errorf("exit %d, %s", code, errs.String())
	}
	if !strings.Contains(errs.String(), "line 2") {
		t.Errorf("said %q", errs.String())
	}
	if line, err := out.ReadString('\n'); err != nil || line != "one\n" {
		t.Errorf("got %q, %v", line, err)
	}
}
