package rendezvous_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/muster-p2p/muster/interop/internal/lines"
	"github.com/muster-p2p/muster/interop/rendezvous/internal/peerproc"
)

// opTimeout bounds one run of our command.
const opTimeout = 60 * time.Second

// A record is a registration as a client reports it.
type record struct {
	peer  string
	addrs []string
	ttl   int64
}

// An endpoint is one peer of any implementation: a point, a client, or both.
type endpoint interface {
	addr() string // of the point
	id() string   // of the client
	register(point, ns string, ttl int) (int64, error)
	discover(point, ns string, limit int, cookie string) (recs []record, next string, err error)
	unregister(point, ns string) error
}

// foreign is a process of peerproc's lines.
type foreign struct{ *lines.Peer[peerproc.Answer] }

func (f foreign) addr() string { return f.Addr }
func (f foreign) id() string   { return f.ID }

func (f foreign) register(point, ns string, ttl int) (int64, error) {
	ev, err := f.Do("register", point, ns, ttl)
	return ev.TTL, err
}

func (f foreign) discover(point, ns string, limit int, cookie string) ([]record, string, error) {
	if cookie == "" {
		cookie = "-"
	}
	ev, err := f.Do("discover", point, ns, limit, cookie)
	var recs []record
	for _, p := range ev.Peers {
		recs = append(recs, record{peer: p.Peer, addrs: p.Addrs, ttl: p.TTL})
	}
	return recs, ev.Cookie, err
}

func (f foreign) unregister(point, ns string) error {
	_, err := f.Do("unregister", point, ns)
	return err
}

// startForeign starts the named program of the peers' folder, or skips the
// test with the reason why there is none.
func startForeign(t *testing.T, name string, args ...string) foreign {
	t.Helper()
	p, err := lines.Start[peerproc.Answer](context.Background(), lines.Log(t), append([]string{lines.Program(t, name, "interop-rendezvous")}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return foreign{p}
}

// muster is our command: as a point a process, as a client a run for each
// operation under one identity.
type muster struct {
	bin     string
	dialect []string // flags of every client verb
	point   string
	key, me string
}

func musterProgram(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("MUSTER_BIN")
	if bin == "" {
		t.Skip("MUSTER_BIN is not set: it names the muster binary to test")
	}
	if out, err := exec.Command(bin, "rendezvous", "--help").CombinedOutput(); err != nil {
		t.Skipf("%s has no rendezvous verb yet: %s", bin, bytes.TrimSpace(out))
	}
	return bin
}

func newMusterClient(t *testing.T, family string) *muster {
	t.Helper()
	m := &muster{bin: musterProgram(t), key: filepath.Join(t.TempDir(), "key")}
	switch family {
	case waku:
		m.dialect = []string{"--waku"}
	case peerInfo:
		m.dialect = []string{"--legacy"}
	}
	out, err := exec.Command(m.bin, "key", "new", m.key).Output()
	if err != nil {
		t.Fatalf("muster key new: %v", err)
	}
	m.me = strings.TrimSpace(string(out))
	return m
}

// startMusterPoint runs `muster rendezvous serve` in memory with the shortest
// TTL allowed, so that tests see registrations expire.
func startMusterPoint(t *testing.T, args ...string) *muster {
	t.Helper()
	bin := musterProgram(t)
	args = append([]string{
		"rendezvous", "serve", "--listen", "/ip4/127.0.0.1/tcp/0", "--store", "memory", "--min-ttl", "1s", "--waku",
	}, args...)
	cmd := exec.Command(bin, args...)
	cmd.Stderr = lines.Log(t)
	cmd.WaitDelay = 2 * time.Second
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		kill := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("muster rendezvous serve printed no address: %v", err)
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	return &muster{bin: bin, point: strings.TrimSpace(line)}
}

func (m *muster) addr() string { return m.point }
func (m *muster) id() string   { return m.me }

func (m *muster) run(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	args = append([]string{"rendezvous"}, args...)
	args = append(args, m.dialect...)
	cmd := exec.CommandContext(ctx, m.bin, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("muster %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, err
}

// musterAddr is what our clients say they listen on: nobody dials it.
const musterAddr = "/ip4/127.0.0.1/tcp/4001"

func (m *muster) register(point, ns string, ttl int) (int64, error) {
	args := []string{"register", ns, "--point", point, "--key", m.key, "--addr", musterAddr}
	if ttl > 0 {
		args = append(args, "--ttl", strconv.Itoa(ttl)+"s")
	}
	out, err := m.run(args...)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
}

func (m *muster) discover(point, ns string, limit int, cookie string) ([]record, string, error) {
	args := []string{"discover", ns, "--point", point, "--json"}
	if limit > 0 {
		args = append(args, "--limit", strconv.Itoa(limit))
	}
	if cookie != "" {
		args = append(args, "--cookie", cookie)
	}
	out, err := m.run(args...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		err = nil // nothing found is an answer here
	}
	if err != nil {
		return nil, "", err
	}
	return parseDiscover(out)
}

func parseDiscover(out []byte) (recs []record, cookie string, err error) {
	for _, line := range bytes.Split(bytes.TrimSpace(out), []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		var obj struct {
			Peer   string   `json:"peer"`
			Addrs  []string `json:"addresses"`
			Addrs2 []string `json:"addrs"`
			TTL    int64    `json:"ttl"`
			Cookie string   `json:"cookie"`
		}
		if err := json.Unmarshal(line, &obj); err != nil {
			return nil, "", fmt.Errorf("%q: %w", line, err)
		}
		if obj.Peer == "" {
			cookie = obj.Cookie
			continue
		}
		recs = append(recs, record{peer: obj.Peer, addrs: append(obj.Addrs, obj.Addrs2...), ttl: obj.TTL})
	}
	return recs, cookie, nil
}

func (m *muster) unregister(point, ns string) error {
	_, err := m.run("unregister", ns, "--point", point, "--key", m.key)
	return err
}
