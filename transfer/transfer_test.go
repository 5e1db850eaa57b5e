package transfer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/transfer"
	"github.com/muster-p2p/muster/transfer/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A tree is the content of a directory: paths with a slash behind are
// directories, the others files with the given content.
type tree map[string]string

// make writes the tree to a new directory and returns it.
func (tr tree) make(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	tr.in(t, dir)
	return dir
}

func (tr tree) in(t testing.TB, dir string) {
	t.Helper()
	for name, content := range tr {
		file := filepath.Join(dir, filepath.FromSlash(name))
		var err error
		if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(file, 0o755)
		} else {
			err = errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// readTree is the inverse of make. Large content is shown by its hash.
func readTree(t testing.TB, dir string) tree {
	t.Helper()
	got := tree{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case d.IsDir():
			got[rel+"/"] = ""
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(name)
			got[rel] = "-> " + to
			return err
		default:
			b, err := os.ReadFile(name)
			got[rel] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// short makes a tree fit for a diff.
func short(tr tree) tree {
	out := tree{}
	for k, v := range tr {
		if len(v) > 100 {
			v = fmt.Sprintf("%d bytes, SHA-256 %x", len(v), sha256.Sum256([]byte(v)))
		}
		out[k] = v
	}
	return out
}

// An outcome is what both ends of a transfer say.
type outcome struct {
	sent, received       transfer.Result
	sendErr, receiveErr  error
	lastSend, lastReceve transfer.Progress
}

// A job is one transfer over a pipe.
type job struct {
	paths []string
	to    string
	send  transfer.SendConfig
	recv  transfer.ReceiveConfig
	wrap  func(sender, receiver net.Conn) (net.Conn, net.Conn)
}

func (j job) run(t testing.TB) outcome {
	t.Helper()
	src, err := transfer.Scan(t.Context(), j.paths, transfer.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close() //nolint:errcheck // only read
	a, b := net.Pipe()
	sc, rc := a, b
	if j.wrap != nil {
		sc, rc = j.wrap(a, b)
	}
	var out outcome
	j.send.Progress = func(p transfer.Progress) { out.lastSend = p }
	done := make(chan struct{})
	go func() {
		defer close(done)
		out.sent, out.sendErr = transfer.Send(t.Context(), sc, src, j.send)
		_ = sc.Close()
	}()
	j.recv.Progress = func(p transfer.Progress) { out.lastReceve = p }
	out.received, out.receiveErr = transfer.Receive(t.Context(), rc, j.to, j.recv)
	_ = rc.Close()
	<-done
	return out
}

// good is run for a transfer that must succeed.
func (j job) good(t testing.TB) outcome {
	t.Helper()
	out := j.run(t)
	if out.sendErr != nil || out.receiveErr != nil {
		t.Fatalf("send: %v; receive: %v", out.sendErr, out.receiveErr)
	}
	return out
}

func noise(n int, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

func TestFilesAndFolders(t *testing.T) {
	want := tree{
		"empty": "", "one": "x", "big": noise(3<<20+17, 1), "chunk": noise(256<<10, 2), "zeroes": strings.Repeat("\x00", 1<<20),
		"dir/": "", "dir/empty/": "", "dir/.hidden": "h", "dir/sub/": "", "dir/sub/übermäßig ☃ 名前": "unicode",
		"dir/" + strings.Repeat("n", 255): "long name", "dir/a'b\"c $x": "quotes",
	}
	from := want.make(t)
	to := filepath.Join(t.TempDir(), "made")
	out := job{paths: []string{from + "/empty", from + "/one", from + "/big", from + "/chunk", from + "/zeroes", from + "/dir"}, to: to}.good(t)
	if diff := cmp.Diff(short(want), short(readTree(t, to))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(out.sent, out.received); diff != "" {
		t.Errorf("results differ (-sent +received)\n%s", diff)
	}
	o := out.received.Offer
	if o.Files != 9 || o.Dirs != 3 || out.received.Moved != o.Bytes {
		t.Errorf("got %+v", out.received)
	}
	for _, p := range []transfer.Progress{out.lastSend, out.lastReceve} {
		if p.Done != o.Bytes || p.Total != o.Bytes || p.Files != o.Files {
			t.Errorf("last progress %+v", p)
		}
	}
}

func TestManySmallFiles(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 300
	}
	want := tree{"d/": ""}
	for i := range n {
		want[fmt.Sprintf("d/%d", i)] = fmt.Sprint(i)
	}
	to := t.TempDir()
	job{paths: []string{want.make(t) + "/d"}, to: to}.good(t)
	if diff := cmp.Diff(want, readTree(t, to)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestModes: the executable bit and privacy are kept, everything above the nine
// bits is not, and the owner can always read and write.
func TestModes(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	modified := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	for name, mode := range map[string]fs.FileMode{
		"plain": 0o644, "exec": 0o755, "private": 0o600, "readonly": 0o444, "setuid": 0o755 | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky,
	} {
		f := filepath.Join(from, name)
		if err := errors.Join(os.WriteFile(f, nil, 0o600), os.Chmod(f, mode), os.Chtimes(f, modified, modified)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(from, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	umask := func() fs.FileMode {
		f := filepath.Join(t.TempDir(), "f")
		_ = os.Mkdir(f, 0o777)
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		return 0o777 &^ info.Mode().Perm()
	}()
	job{paths: []string{from}, to: to}.good(t)
	for name, want := range map[string]fs.FileMode{
		"plain": 0o644 &^ umask, "exec": 0o755 &^ umask, "private": 0o600, "readonly": 0o644 &^ umask, "setuid": 0o755 &^ umask,
		"dir": fs.ModeDir | 0o700,
	} {
		info, err := os.Stat(filepath.Join(to, filepath.Base(from), name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s: mode %v, want %v", name, info.Mode(), want)
		}
		if !info.IsDir() && !info.ModTime().Equal(modified) {
			t.Errorf("%s: modified %v", name, info.ModTime())
		}
	}
}

// TestNeverOverwrites: what is there with other content stops all of it,
// before a byte is written.
func TestNeverOverwrites(t *testing.T) {
	from := tree{"d/a": "new a", "d/b": "new b, longer", "d/same": "same", "d/new": "new"}.make(t)
	there := tree{"d/": "", "d/a": "old a", "d/b": "old b", "d/same": "same"}
	to := there.make(t)
	out := job{paths: []string{from + "/d"}, to: to}.run(t)
	var exists *transfer.ExistsError
	if !errors.As(out.receiveErr, &exists) {
		t.Fatalf("receive: %v", out.receiveErr)
	}
	if diff := cmp.Diff([]string{"d/b", "d/a"}, exists.Paths); diff != "" {
		t.Errorf("named (-want +got)\n%s", diff)
	}
	var remote *transfer.RemoteError
	if !errors.As(out.sendErr, &remote) || !strings.Contains(remote.Text, `"d/a"`) {
		t.Errorf("send: %v", out.sendErr)
	}
	if diff := cmp.Diff(there, readTree(t, to)); diff != "" {
		t.Errorf("changed (-want +got)\n%s", diff)
	}

	out = job{paths: []string{from + "/d"}, to: to, recv: transfer.ReceiveConfig{Overwrite: true}}.good(t)
	if diff := cmp.Diff(readTree(t, from), readTree(t, to)); diff != "" {
		t.Errorf("overwritten (-want +got)\n%s", diff)
	}
	if out.received.SameFiles != 1 || out.received.Same != 4 {
		t.Errorf("got %+v", out.received)
	}
}

// TestBlocked: no flag replaces a directory by a file or a file by a directory.
func TestBlocked(t *testing.T) {
	for name, c := range map[string]struct{ from, there tree }{
		"directory for a file": {tree{"x": "file"}, tree{"x/": "", "x/y": "y"}},
		"file for a directory": {tree{"x/y": "y"}, tree{"x": "file"}},
	} {
		t.Run(name, func(t *testing.T) {
			to := c.there.make(t)
			out := job{paths: []string{c.from.make(t) + "/x"}, to: to, recv: transfer.ReceiveConfig{Overwrite: true}}.run(t)
			var exists *transfer.ExistsError
			if !errors.As(out.receiveErr, &exists) {
				t.Errorf("receive: %v", out.receiveErr)
			}
			if diff := cmp.Diff(c.there, readTree(t, to)); diff != "" {
				t.Errorf("changed (-want +got)\n%s", diff)
			}
		})
	}
}

// TestLinks: they are neither sent, nor followed, nor written through.
func TestLinks(t *testing.T) {
	outside := tree{"secret": "secret"}.make(t)
	from := tree{"d/real": "real", "d/f": "file", "d/sub/x": "x"}.make(t)
	link := func(to, at string) {
		t.Helper()
		if err := os.Symlink(to, at); err != nil {
			t.Skip(err)
		}
	}
	link(outside+"/secret", from+"/d/link")
	link(outside, from+"/d/dirlink")
	src, err := transfer.Scan(t.Context(), []string{from + "/d"}, transfer.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"d/dirlink", "d/link"}, src.Skipped); diff != "" {
		t.Errorf("skipped (-want +got)\n%s", diff)
	}
	_ = src.Close()

	t.Run("file is a link", func(t *testing.T) {
		to := tree{"d/": ""}.make(t)
		link(outside+"/secret", to+"/d/f")
		out := job{paths: []string{from + "/d"}, to: to}.run(t)
		var exists *transfer.ExistsError
		if !errors.As(out.receiveErr, &exists) {
			t.Errorf("receive: %v", out.receiveErr)
		}
		job{paths: []string{from + "/d"}, to: to, recv: transfer.ReceiveConfig{Overwrite: true}}.good(t)
		if got := readTree(t, to)["d/f"]; got != "file" {
			t.Errorf("got %q, want the link replaced", got)
		}
	})
	t.Run("directory is a link", func(t *testing.T) {
		to := tree{"d/": ""}.make(t)
		link(outside, to+"/d/sub")
		out := job{paths: []string{from + "/d"}, to: to, recv: transfer.ReceiveConfig{Overwrite: true}}.run(t)
		if out.receiveErr == nil {
			t.Error("a directory that is a link was taken")
		}
	})
	t.Run("partial is a link", func(t *testing.T) {
		to := tree{"d/": ""}.make(t)
		link(outside+"/secret", to+"/d/.f.muster-part")
		job{paths: []string{from + "/d"}, to: to}.good(t)
	})
	if diff := cmp.Diff(tree{"secret": "secret"}, readTree(t, outside)); diff != "" {
		t.Errorf("outside changed (-want +got)\n%s", diff)
	}
	t.Run("argument is a link", func(t *testing.T) {
		link(outside, from+"/named")
		to := t.TempDir()
		job{paths: []string{from + "/named"}, to: to}.good(t)
		if diff := cmp.Diff(tree{"named/": "", "named/secret": "secret"}, readTree(t, to)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

// A cutter closes the connection after so many bytes were written to it.
type cutter struct {
	net.Conn
	left int
}

func (c *cutter) Write(b []byte) (int, error) {
	if len(b) <= c.left {
		c.left -= len(b)
		return c.Conn.Write(b)
	}
	n, _ := c.Conn.Write(b[:c.left])
	c.left = 0
	_ = c.Close()
	return n, net.ErrClosed
}

// TestResume cuts the link at many places. Each next attempt goes on, and at
// the end all is there.
func TestResume(t *testing.T) {
	want := tree{"d/": "", "d/a": noise(700_000, 1), "d/b": noise(900_000, 2), "d/c": "small", "d/z": ""}
	from, to := want.make(t), t.TempDir()
	var moved int64
	attempts := 0
	for cut := 300_000; ; cut += 1000 {
		attempts++
		out := job{paths: []string{from + "/d"}, to: to, wrap: func(s, r net.Conn) (net.Conn, net.Conn) {
			return &cutter{Conn: s, left: cut}, r
		}}.run(t)
		moved += out.received.Moved
		if out.receiveErr == nil {
			break
		}
		if !errors.Is(out.receiveErr, transfer.ErrBroken) || !errors.Is(out.sendErr, transfer.ErrBroken) {
			t.Fatalf("send: %v; receive: %v", out.sendErr, out.receiveErr)
		}
		if attempts > 20 {
			t.Fatal("no progress")
		}
	}
	if diff := cmp.Diff(short(want), short(readTree(t, to))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if attempts < 5 || moved > 1_600_005 {
		t.Errorf("%d attempts moved %d bytes of 1600005", attempts, moved)
	}
}

// TestStalePartial: what a broken transfer left is used only if it is the
// beginning of what is sent now.
func TestStalePartial(t *testing.T) {
	content := noise(500_000, 1)
	for name, c := range map[string]struct {
		partial string
		kept    int64
	}{
		"right":           {content[:300_000], 300_000},
		"complete":        {content, 500_000},
		"one bit is off":  {content[:299_999] + string(content[299_999]^1), 0},
		"of another file": {noise(300_000, 9), 0},
		"longer, right":   {content + "and more", 500_000},
		"longer, wrong":   {noise(600_000, 9), 0},
		"empty":           {"", 0},
	} {
		t.Run(name, func(t *testing.T) {
			to := tree{".f.muster-part": c.partial}.make(t)
			out := job{paths: []string{tree{"f": content}.make(t) + "/f"}, to: to}.good(t)
			if out.received.Kept != c.kept || out.sent.Kept != c.kept {
				t.Errorf("kept %d, the sender says %d, want %d", out.received.Kept, out.sent.Kept, c.kept)
			}
			if diff := cmp.Diff(short(tree{"f": content}), short(readTree(t, to))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	to := filepath.Join(t.TempDir(), "not made")
	out := job{paths: []string{tree{"f": "x"}.make(t) + "/f"}, to: to, recv: transfer.ReceiveConfig{
		Accept: func(o transfer.Offer) error {
			if diff := cmp.Diff(transfer.Offer{Files: 1, Bytes: 1, Top: []string{"f"}}, o); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			return errors.New("no, because of a secret")
		},
	}}.run(t)
	if !errors.Is(out.sendErr, transfer.ErrRefused) || !errors.Is(out.receiveErr, transfer.ErrRefused) {
		t.Errorf("send: %v; receive: %v", out.sendErr, out.receiveErr)
	}
	if strings.Contains(out.sendErr.Error(), "secret") {
		t.Errorf("the sender is told %v", out.sendErr)
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("the directory was made all the same")
	}
}

// TestChanged: a file that is written while it is sent ends the transfer, and
// gets no name at the receiver.
func TestChanged(t *testing.T) {
	for name, change := range map[string]func(f string) error{
		"grew":     func(f string) error { return os.WriteFile(f, []byte(noise(1<<20+1, 1)), 0o600) },
		"shrank":   func(f string) error { return os.Truncate(f, 10) },
		"gone":     os.Remove,
		"replaced": func(f string) error { return errors.Join(os.Remove(f), os.Symlink("/etc/passwd", f)) },
	} {
		t.Run(name, func(t *testing.T) {
			from, to := tree{"f": noise(1<<20, 1)}.make(t), t.TempDir()
			out := job{paths: []string{from + "/f"}, to: to, recv: transfer.ReceiveConfig{
				Accept: func(transfer.Offer) error { return change(from + "/f") },
			}}.run(t)
			if out.sendErr == nil || out.receiveErr == nil {
				t.Fatalf("send: %v; receive: %v", out.sendErr, out.receiveErr)
			}
			if name != "gone" && (!errors.Is(out.sendErr, transfer.ErrChanged) || !errors.Is(out.receiveErr, transfer.ErrChanged)) {
				t.Errorf("send: %v; receive: %v", out.sendErr, out.receiveErr)
			}
			if _, there := readTree(t, to)["f"]; there {
				t.Error("the file got its name")
			}
		})
	}
}

func TestCancel(t *testing.T) {
	from, to := tree{"f": noise(4<<20, 1)}.make(t), t.TempDir()
	src, err := transfer.Scan(t.Context(), []string{from + "/f"}, transfer.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close() //nolint:errcheck // only read
	a, b := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	sent := make(chan error, 1)
	go func() {
		_, err := transfer.Send(t.Context(), a, src, transfer.SendConfig{})
		_ = a.Close()
		sent <- err
	}()
	_, err = transfer.Receive(ctx, b, to, transfer.ReceiveConfig{Progress: func(transfer.Progress) { cancel() }})
	_ = b.Close()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("receive: %v", err)
	}
	if err := <-sent; err == nil {
		t.Error("send: no error")
	}
	got := readTree(t, to)
	if _, there := got["f"]; there || got[".f.muster-part"] == "" {
		t.Errorf("left %v", short(got))
	}
}

// TestCancelWhileHashing: a terabyte that is there already takes an hour to
// hash; nobody waits for that when the transfer is over.
func TestCancelWhileHashing(t *testing.T) {
	const size = 1 << 40
	sparse := func(name string) string {
		dir := t.TempDir()
		f, err := os.Create(filepath.Join(dir, name))
		if err == nil {
			err = errors.Join(f.Truncate(size), f.Close())
		}
		if err != nil {
			t.Skip("no sparse files here: ", err)
		}
		return dir
	}
	from, to := sparse("f"), sparse(transfer.PartialName("f"))

	ctx, cancel := context.WithCancel(t.Context())
	offer := sender().offer(wire.Entry{Perm: 0o644, Size: size, Path: "f"})
	_, err := transfer.Receive(ctx, scripted{&offer.Buffer}, to, transfer.ReceiveConfig{Accept: func(transfer.Offer) error {
		cancel()
		return nil
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("receive: %v", err)
	}

	src, err := transfer.Scan(t.Context(), []string{from + "/f"}, transfer.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close() //nolint:errcheck // only read
	asksAndGoes := receiver().span(wire.Ask, 0, size)
	if _, err := transfer.Send(t.Context(), scripted{&asksAndGoes.Buffer}, src, transfer.SendConfig{}); !errors.Is(err, transfer.ErrBroken) {
		t.Errorf("send: %v", err)
	}
}

func TestScanErrors(t *testing.T) {
	dir := tree{"a/x": "1", "b/x": "2", "bad\\name": "3", "d/con\x01trol": "4"}.make(t)
	for name, c := range map[string]struct {
		paths  []string
		limits transfer.Limits
		want   string
	}{
		"nothing":        {nil, transfer.Limits{}, "nothing to send"},
		"missing":        {[]string{dir + "/none"}, transfer.Limits{}, "none"},
		"root":           {[]string{"/"}, transfer.Limits{}, "no name"},
		"same name":      {[]string{dir + "/a/x", dir + "/b/x"}, transfer.Limits{}, `"x" is there twice`},
		"backslash":      {[]string{dir + "/bad\\name"}, transfer.Limits{}, "backslash"},
		"control":        {[]string{dir + "/d"}, transfer.Limits{}, "control character"},
		"device":         {[]string{os.DevNull}, transfer.Limits{}, "neither a file nor a directory"},
		"too many":       {[]string{dir + "/a"}, transfer.Limits{MaxEntries: 1}, "more than 1 files"},
		"too many bytes": {[]string{dir + "/a/x", dir + "/a"}, transfer.Limits{MaxBytes: 1}, "more than 1 bytes"},
		"too many names": {[]string{dir + "/a"}, transfer.Limits{MaxNames: 3}, "more than 3 bytes of names"},
	} {
		t.Run(name, func(t *testing.T) {
			src, err := transfer.Scan(t.Context(), c.paths, c.limits)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v", src, err)
			}
		})
	}
}

func TestSameRole(t *testing.T) {
	a, b := net.Pipe()
	errs := make(chan error, 2)
	for _, c := range []net.Conn{a, b} {
		go func() {
			_, err := transfer.Receive(t.Context(), c, t.TempDir(), transfer.ReceiveConfig{})
			_ = c.Close()
			errs <- err
		}()
	}
	for range 2 {
		if err := <-errs; !errors.Is(err, transfer.ErrSameRole) {
			t.Error(err)
		}
	}
}

// TestLock: two transfers do not write one file at once.
func TestLock(t *testing.T) {
	from, to := tree{"f": noise(1<<20, 1)}.make(t), t.TempDir()
	var inner outcome
	begun := false
	wrap := func(s, r net.Conn) (net.Conn, net.Conn) {
		return &hook{Conn: s, after: 600_000, do: func() {
			begun = true
			inner = job{paths: []string{from + "/f"}, to: to}.run(t)
		}}, r
	}
	job{paths: []string{from + "/f"}, to: to, wrap: wrap}.good(t)
	if !begun || inner.receiveErr == nil || !strings.Contains(inner.receiveErr.Error(), "another transfer") {
		t.Errorf("second transfer: %v", inner.receiveErr)
	}
	if got := readTree(t, to); !bytes.Equal([]byte(got["f"]), []byte(noise(1<<20, 1))) || len(got) != 1 {
		t.Errorf("got %v", short(got))
	}
}

// A hook does something once so many bytes are written.
type hook struct {
	net.Conn
	after int
	do    func()
}

func (h *hook) Write(b []byte) (int, error) {
	if h.after -= len(b); h.after <= 0 && h.do != nil {
		do := h.do
		h.do = nil
		do()
	}
	return h.Conn.Write(b)
}
