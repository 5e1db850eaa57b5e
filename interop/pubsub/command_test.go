package pubsub_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-p2p/muster/interop/internal/lines"
	"github.com/muster-p2p/muster/interop/pubsub/internal/peerproc"
)

// musterCommand is the binary under test, or skips.
func musterCommand(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("MUSTER_BIN")
	if bin == "" {
		t.Skip("MUSTER_BIN is not set: it names the muster binary to test")
	}
	if out, err := exec.Command(bin, "sub", "--help").CombinedOutput(); err != nil {
		t.Skipf("%s has no sub verb yet: %s", bin, bytes.TrimSpace(out))
	}
	return bin
}

// subscriber is a running `muster sub --json`.
type subscriber struct {
	addr string // with /p2p/ID

	mu     sync.Mutex
	copies map[string]int // by head of message
	bad    []string
}

func startSub(t *testing.T, args ...string) *subscriber {
	t.Helper()
	args = append([]string{"sub", topic, "--listen", "/ip4/127.0.0.1/tcp/0", "--json", "--max-size", "2000000"}, args...)
	cmd := exec.Command(musterCommand(t), args...)
	cmd.WaitDelay = 2 * time.Second
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &subscriber{copies: map[string]int{}}
	errs := bufio.NewReader(stderr)
	first, err := errs.ReadString('\n')
	if err != nil {
		t.Fatalf("muster sub printed no address: %v", err)
	}
	s.addr = strings.TrimSpace(first)
	var wg sync.WaitGroup
	log := lines.Log(t)
	wg.Go(func() { _, _ = errs.WriteTo(log) })
	wg.Go(func() {
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			s.line(lines.Bytes())
		}
	})
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		kill := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		wg.Wait()
		_ = cmd.Wait()
	})
	return s
}

func (s *subscriber) line(line []byte) {
	var obj struct {
		Topic string `json:"topic"`
		Data  string `json:"data"`
	}
	err := json.Unmarshal(line, &obj)
	head, rest, found := strings.Cut(obj.Data, " ")
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || obj.Topic != topic || !found || strings.Trim(rest, "x") != "" {
		s.bad = append(s.bad, string(line[:min(len(line), 200)]))
		return
	}
	s.copies[head]++
}

// receives waits for messages 0 to count-1 of tag, each once.
func (s *subscriber) receives(t *testing.T, tag string, count int) {
	t.Helper()
	have, twice := 0, 0
	poll(sendTime, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		have, twice = 0, 0
		for i := range count {
			if n := s.copies[fmt.Sprintf("%s-%d", tag, i)]; n > 0 {
				have++
				twice += n - 1
			}
		}
		return have == count
	})
	if have != count || twice > 0 || len(s.bad) > 0 {
		t.Errorf("muster sub printed %d of %d messages %q, %d twice; bad lines: %q", have, count, tag, twice, s.bad)
	}
}

// TestSubCommand lets each foreign peer publish to `muster sub`.
func TestSubCommand(t *testing.T) {
	for _, other := range foreigners {
		for _, args := range variants(other) {
			t.Run(other.name+" "+strings.Join(args, " "), func(t *testing.T) {
				t.Parallel()
				sub := startSub(t, musterArgs(args)...)
				them := start(t, other, args...)
				them.do("subscribe", topic)
				them.do("connect", sub.addr)
				id := sub.addr[strings.LastIndexByte(sub.addr, '/')+1:]
				if !poll(meshTime, func() bool {
					st := them.state()
					return strings.Contains(strings.Join(st.Mesh, " "), id) ||
						(st.Mesh == nil && strings.Contains(strings.Join(st.Subscribers, " "), id))
				}) {
					t.Logf("%s does not show us in the topic", other.name)
				}
				them.publish("theirs", messages, size)
				sub.receives(t, "theirs", messages)
				if !strings.Contains(strings.Join(args, " "), "floodsub") {
					them.publish("large", 1, large)
					sub.receives(t, "large", 1)
				}
			})
		}
	}
}

// TestPubCommand lets `muster pub` publish a line for each message to each
// foreign peer.
func TestPubCommand(t *testing.T) {
	for _, other := range foreigners {
		for _, args := range variants(other) {
			t.Run(other.name+" "+strings.Join(args, " "), func(t *testing.T) {
				t.Parallel()
				bin := musterCommand(t)
				them := start(t, other, args...)
				them.do("subscribe", topic)
				var lines bytes.Buffer
				for i := range messages {
					lines.Write(peerproc.Payload("ours", i, size))
					lines.WriteByte('\n')
				}
				ctx, cancel := context.WithTimeout(context.Background(), sendTime)
				defer cancel()
				cmd := exec.CommandContext(ctx, bin, append([]string{"pub", topic, "-", "--peer", them.Addr}, musterArgs(args)...)...)
				cmd.Stdin = &lines
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, bytes.TrimSpace(out))
				}
				them.receives("ours", messages, sendTime)
			})
		}
	}
}

// variants are the flags under which a foreign peer can be had by our command.
func variants(other implementation) [][]string {
	v := [][]string{{"--sign", "strict"}}
	if other.noAnon == "" {
		v = append(v, []string{"--sign", "none"})
	}
	if other.floodSign == "" {
		v = append(v, []string{"--sign", "strict", "--router", "floodsub"})
	}
	return v
}

// musterArgs are a foreign peer's flags as our command spells them.
func musterArgs(args []string) []string {
	if len(args) > 2 {
		return append(append([]string(nil), args[:2]...), "--floodsub")
	}
	return args
}
