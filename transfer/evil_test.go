package transfer_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-p2p/muster/transfer"
	"github.com/muster-p2p/muster/transfer/wire"
)

// A script is what an evil end says, frame after frame.
type script struct{ bytes.Buffer }

func sender() *script {
	s := &script{}
	s.WriteString(string(wire.RoleSend))
	return s
}

func receiver() *script {
	s := &script{}
	s.WriteString(string(wire.RoleRecv))
	return s
}

func (s *script) frame(t wire.Type, payload []byte) *script {
	s.Write(wire.AppendFrame(nil, t, payload))
	return s
}

// offer says OFFER and ENTRIES that belong together.
func (s *script) offer(entries ...wire.Entry) *script {
	var total wire.Total
	var list []byte
	for _, e := range entries {
		if e.Dir {
			total.Dirs++
		} else {
			total.Files++
		}
		total.Bytes += e.Size
		list = wire.AppendEntry(list, e)
	}
	return s.frame(wire.Offer, wire.AppendTotal(nil, total)).frame(wire.Entries, list)
}

func (s *script) span(t wire.Type, index uint32, offset uint64) *script {
	return s.frame(t, wire.AppendSpan(nil, wire.Span{Index: index, Offset: offset}))
}

// whole sends a file of that index, with its true hash.
func (s *script) whole(index uint32, content string) *script {
	s.span(wire.File, index, 0)
	if content != "" {
		s.frame(wire.Data, []byte(content))
	}
	sum := sha256.Sum256([]byte(content))
	return s.frame(wire.End, sum[:])
}

// A scripted connection reads a script, and ends; writes go nowhere.
type scripted struct{ io.Reader }

func (scripted) Write(b []byte) (int, error)      { return len(b), nil }
func (scripted) Close() error                     { return nil }
func (scripted) LocalAddr() net.Addr              { return nil }
func (scripted) RemoteAddr() net.Addr             { return nil }
func (scripted) SetDeadline(time.Time) error      { return nil }
func (scripted) SetReadDeadline(time.Time) error  { return nil }
func (scripted) SetWriteDeadline(time.Time) error { return nil }

// receive has Receive read the script into a directory that is alone in its
// parent, and fails if anything but it is in there afterwards.
func (s *script) receive(t testing.TB, there tree, cfg transfer.ReceiveConfig) (tree, error) {
	t.Helper()
	parent := t.TempDir()
	to := filepath.Join(parent, "to")
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	there.in(t, to)
	_, err := transfer.Receive(t.Context(), scripted{bytes.NewReader(s.Bytes())}, to, cfg)
	got := readTree(t, parent)
	inside := tree{}
	for name, content := range got {
		if rest, ok := strings.CutPrefix(name, "to/"); ok {
			if rest != "" {
				inside[rest] = content
			}
		} else {
			t.Errorf("%q is outside", name)
		}
	}
	return inside, err
}

// file is a file of the content "x".
func file(path string) wire.Entry { return wire.Entry{Perm: 0o644, Size: 1, Path: path} }

func TestEvilNames(t *testing.T) {
	for _, name := range []string{
		"", ".", "..", "../x", "a/../../x", "a/..", "/x", "//x", "/etc/passwd", "a//b", "a/", "./a", "a/.",
		"C:x", "c:/x", "Z:", "\\x", "..\\x", "\\\\server\\share", "a\\..\\..\\x",
		"nul\x00", "\x00", "bell\x07", "new\nline", "esc\x1b[2J", "del\x7f", "c1\u0085",
		"exe\u202etxt.", "a\u2066b", "line\u2028", "bad\xff", "over\xc0\xafx", "surrogate\xed\xa0\x80",
		"x.muster-part", ".x.MUSTER-PART", strings.Repeat("n", 256), strings.Repeat("d/", 200) + "x", "not-listed/x",
	} {
		t.Run(fmt.Sprintf("%.40q", name), func(t *testing.T) {
			got, err := sender().offer(file(name)).whole(0, "x").frame(wire.Fin, nil).receive(t, nil, transfer.ReceiveConfig{Overwrite: true})
			var bad *transfer.NameError
			if !errors.As(err, &bad) || len(got) > 0 {
				t.Errorf("left %v, error %v", got, err)
			}
			for _, c := range []byte(fmt.Sprint(err)) {
				if c < ' ' {
					t.Errorf("the error has a control character: %q", err)
				}
			}
		})
	}
}

// TestWindowsNames: names that are something else on Windows are refused
// there, and are names elsewhere.
func TestWindowsNames(t *testing.T) {
	for _, name := range []string{
		"CON", "con", "nul.txt", "NUL .tar.gz", "aux.c", "COM1", "lpt9.log", "COM¹", "CONIN$", "PRN.",
		"file:stream", "what?", "star*", "a|b", "<a>", "\"a\"", "dot.", "space ",
	} {
		script := func() *script { return sender().offer(file(name)).whole(0, "x").frame(wire.Fin, nil) }
		got, err := script().receive(t, nil, transfer.WithWindows(transfer.ReceiveConfig{}))
		var bad *transfer.NameError
		if !errors.As(err, &bad) || len(got) > 0 {
			t.Errorf("%q: left %v, error %v", name, got, err)
		}
		if err := transfer.CheckPath(name, false); err != nil {
			t.Errorf("%q is refused here: %v", name, err)
		}
	}
	for _, name := range []string{"console", "com10", "lpt", "nullify.txt", ".con", "a.con", "übermäßig"} {
		if err := transfer.CheckPath(name, true); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestCollisions: where A and a are one file, both are not taken; composed and
// decomposed letters likewise.
func TestCollisions(t *testing.T) {
	for _, names := range [][2]string{{"A", "a"}, {"\u00e9", "e\u0301"}, {"\u212a", "k"}} {
		script := func() *script {
			return sender().offer(file(names[0]), file(names[1])).whole(0, "x").whole(1, "x").frame(wire.Fin, nil)
		}
		got, err := script().receive(t, nil, transfer.WithFolding(transfer.ReceiveConfig{Overwrite: true}))
		var bad *transfer.NameError
		if !errors.As(err, &bad) || len(got) > 0 {
			t.Errorf("%q: left %v, error %v", names, got, err)
		}
		if got, err := script().receive(t, nil, transfer.ReceiveConfig{}); err != nil || len(got) != 2 {
			t.Errorf("%q: left %v, error %v", names, got, err)
		}
	}
}

// TestRandomNames makes 100,000 names of the parts that attacks are made of:
// what is accepted is local, and stays inside when it is made.
func TestRandomNames(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	parts := []string{
		"..", ".", "", "/", "/", "/", "\\", "a", "A", "b", "etc", "passwd", "C:", ":", "\x00", "\xff", "\u202e", "\u00e9", "e\u0301",
		"~", "$HOME", "%2e%2e", "%2f", "\uff0f", "\u2215", "\uff0e\uff0e", "...", "CON", "nul", "COM1", " ", "\t", "\n", "-rf", "*", ".muster-part", "x",
	}
	parent := t.TempDir()
	root, err := os.OpenRoot(parent)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close() //nolint:errcheck // only a test
	if err := root.Mkdir("to", 0o700); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(parent, "to")
	seen := map[string]bool{}
	for range 100_000 {
		var name string
		for range 1 + r.IntN(7) {
			name += parts[r.IntN(len(parts))]
		}
		if transfer.CheckPath(name, false) != nil {
			continue
		}
		if !filepath.IsLocal(name) || !fs.ValidPath(name) {
			t.Fatalf("seed %d: %q is accepted", seed, name)
		}
		if seen[name] = true; len(seen) > 3000 {
			continue // enough files
		}
		// Without the root's help, for the check alone must do.
		file := filepath.Join(to, name)
		_ = os.MkdirAll(filepath.Dir(file), 0o700)
		_ = os.WriteFile(file, nil, 0o600) // may be a directory by now
	}
	entries, err := os.ReadDir(parent)
	if err != nil || len(entries) != 1 {
		t.Errorf("seed %d: outside there are %v, %v", seed, entries, err)
	}
	if len(seen) < 1000 {
		t.Errorf("seed %d: only %d names were accepted", seed, len(seen))
	}
}

func TestEvilSender(t *testing.T) {
	x := sha256.Sum256([]byte("x"))
	one := func() *script { return sender().offer(file("f")) }
	for name, c := range map[string]struct {
		s    *script
		want error // nil: any
	}{
		"says nothing":           {&script{}, transfer.ErrBroken},
		"another protocol":       {&script{*bytes.NewBufferString("SSH-2.0-OpenSSH_9.9\r\n")}, wire.ErrRole},
		"another version":        {&script{*bytes.NewBufferString("muster-send/2\n")}, wire.ErrVersion},
		"frame of 4 GiB":         {&script{*bytes.NewBufferString(string(wire.RoleSend) + "\x01\xff\xff\xff\xff")}, wire.ErrFrame},
		"unknown frame":          {&script{*bytes.NewBufferString(string(wire.RoleSend) + "\x63\x00\x00\x00\x00")}, wire.ErrFrame},
		"no offer":               {sender().span(wire.File, 0, 0), transfer.ErrProtocol},
		"billions of files":      {sender().frame(wire.Offer, wire.AppendTotal(nil, wire.Total{Files: 1 << 31})), nil},
		"empty lists":            {sender().frame(wire.Offer, wire.AppendTotal(nil, wire.Total{Files: 1})).frame(wire.Entries, nil), transfer.ErrProtocol},
		"more than was said":     {sender().frame(wire.Offer, wire.AppendTotal(nil, wire.Total{Files: 1, Bytes: 1})).frame(wire.Entries, wire.AppendEntry(wire.AppendEntry(nil, file("f")), file("g"))), transfer.ErrProtocol},
		"bytes do not add up":    {sender().frame(wire.Offer, wire.AppendTotal(nil, wire.Total{Files: 1, Bytes: 9})).frame(wire.Entries, wire.AppendEntry(nil, file("f"))), transfer.ErrProtocol},
		"sizes overflow":         {sender().offer(slices.Repeat([]wire.Entry{{Size: 1 << 60, Path: "f"}}, 16)...), nil},
		"the same twice":         {sender().offer(file("f"), file("f")), nil},
		"in a file":              {sender().offer(file("f"), file("f/x")), nil},
		"another file":           {one().whole(1, "x"), transfer.ErrProtocol},
		"another offset":         {one().span(wire.File, 0, 1), transfer.ErrProtocol},
		"too much data":          {one().span(wire.File, 0, 0).frame(wire.Data, []byte("xy")), transfer.ErrProtocol},
		"data after the end":     {one().span(wire.File, 0, 0).frame(wire.Data, []byte("x")).frame(wire.Data, []byte("y")), transfer.ErrProtocol},
		"empty data":             {one().span(wire.File, 0, 0).frame(wire.Data, nil), transfer.ErrProtocol},
		"end too early":          {one().span(wire.File, 0, 0).frame(wire.End, x[:]), transfer.ErrProtocol},
		"fin too early":          {one().frame(wire.Fin, nil), transfer.ErrProtocol},
		"wrong hash":             {one().span(wire.File, 0, 0).frame(wire.Data, []byte("y")).frame(wire.End, x[:]).frame(wire.Fin, nil), transfer.ErrIntegrity},
		"an answer to nothing":   {one().frame(wire.Sum, wire.AppendSum(nil, 0, x)), transfer.ErrProtocol},
		"a receiver's frame":     {one().frame(wire.Done, nil), transfer.ErrProtocol},
		"gives up":               {one().frame(wire.Error, wire.AppendError(nil, wire.Changed, "\x1b[2Jgone")), transfer.ErrChanged},
		"malformed error":        {one().frame(wire.Error, nil), wire.ErrFrame},
		"goes away":              {one().span(wire.File, 0, 0), transfer.ErrBroken},
		"goes away after a file": {sender().offer(file("f"), file("g")).whole(0, "x"), transfer.ErrBroken},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.s.receive(t, nil, transfer.ReceiveConfig{})
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if name == "goes away after a file" {
				delete(got, "f")
			}
			for f, content := range got {
				if !strings.HasSuffix(f, ".muster-part") || name == "wrong hash" {
					t.Errorf("left %q, %q", f, content)
				}
			}
			if strings.ContainsRune(fmt.Sprint(err), '\x1b') {
				t.Errorf("the error goes to the terminal as %q", err)
			}
		})
	}
}

// TestEvilReceiver: nothing but what was offered can be had, and no work for
// nothing.
func TestEvilReceiver(t *testing.T) {
	src, err := transfer.Scan(t.Context(), []string{tree{"d/f": "content", "d/sub/g": "g"}.make(t) + "/d"}, transfer.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close() //nolint:errcheck // only a test
	flood := receiver()
	for range 1000 {
		flood.span(wire.Ask, 1, 7)
	}
	for name, c := range map[string]struct {
		s    *script
		want error
	}{
		"wants a directory":       {receiver().span(wire.Want, 0, 0), transfer.ErrProtocol},
		"wants what is not there": {receiver().span(wire.Want, 99, 0), transfer.ErrProtocol},
		"wants index 2^31":        {receiver().span(wire.Want, 1<<31, 0), transfer.ErrProtocol},
		"wants behind the end":    {receiver().span(wire.Want, 1, 8), transfer.ErrProtocol},
		"wants twice":             {receiver().span(wire.Want, 1, 0).span(wire.Want, 1, 0), transfer.ErrProtocol},
		"wants backwards":         {receiver().span(wire.Want, 3, 0).span(wire.Want, 1, 0), transfer.ErrProtocol},
		"wants after go":          {receiver().frame(wire.Go, nil).span(wire.Want, 1, 0), transfer.ErrProtocol},
		"asks after go":           {receiver().frame(wire.Go, nil).span(wire.Ask, 1, 0), transfer.ErrProtocol},
		"asks about a directory":  {receiver().span(wire.Ask, 0, 0), transfer.ErrProtocol},
		"asks behind the end":     {receiver().span(wire.Ask, 1, 8), transfer.ErrProtocol},
		"asks for ever":           {flood, transfer.ErrProtocol},
		"go twice":                {receiver().frame(wire.Go, nil).frame(wire.Go, nil), transfer.ErrProtocol},
		"done without go":         {receiver().frame(wire.Done, nil), transfer.ErrProtocol},
		"offers":                  {receiver().frame(wire.Offer, wire.AppendTotal(nil, wire.Total{})), transfer.ErrProtocol},
		"refuses":                 {receiver().frame(wire.Error, wire.AppendError(nil, wire.Refused, "")), transfer.ErrRefused},
		"goes away":               {receiver().span(wire.Want, 1, 0), transfer.ErrBroken},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := transfer.Send(t.Context(), scripted{bytes.NewReader(c.s.Bytes())}, src, transfer.SendConfig{})
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// TestDiskFull: the error is the system's, the partial stays, and the next
// attempt goes on.
func TestDiskFull(t *testing.T) {
	content := noise(1<<20, 1)
	from, to := tree{"f": content}.make(t), t.TempDir()
	room := int64(600_000)
	full := transfer.WithWrite(transfer.ReceiveConfig{}, func(f *os.File, b []byte, at int64) (int, error) {
		if at+int64(len(b)) > room {
			n, err := f.WriteAt(b[:max(0, room-at)], at)
			return n, errors.Join(err, &fs.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC})
		}
		return f.WriteAt(b, at)
	})
	out := job{paths: []string{from + "/f"}, to: to, recv: full}.run(t)
	if !errors.Is(out.receiveErr, syscall.ENOSPC) {
		t.Errorf("receive: %v", out.receiveErr)
	}
	var remote *transfer.RemoteError
	if !errors.As(out.sendErr, &remote) || remote.Code != wire.Local || remote.Text != "no space left on device" {
		t.Errorf("send: %v", out.sendErr)
	}
	out = job{paths: []string{from + "/f"}, to: to}.good(t)
	if out.received.Kept != room {
		t.Errorf("kept %d", out.received.Kept)
	}
	if diff := cmp.Diff(short(tree{"f": content}), short(readTree(t, to))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestPartialNames: they fit where names fit, and no two are the same.
func TestPartialNames(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{
		"a", "A", strings.Repeat("n", 255), strings.Repeat("n", 254) + "m", strings.Repeat("é", 127), strings.Repeat("é", 126) + "e",
	} {
		p := transfer.PartialName(name)
		if other, ok := seen[p]; ok || len(p) > 255 {
			t.Errorf("%q and %q: %q", name, other, p)
		}
		seen[p] = name
	}
}

// FuzzReceive: whatever a sender says, nothing is written outside, and nothing
// panics or stays.
func FuzzReceive(f *testing.F) {
	f.Add(sender().offer(file("f")).whole(0, "x").frame(wire.Fin, nil).Bytes())
	f.Add(sender().offer(wire.Entry{Dir: true, Path: "d"}, file("d/f")).span(wire.File, 1, 0).frame(wire.Data, []byte("x")).Bytes())
	f.Add(sender().offer(file("../f")).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &script{*bytes.NewBuffer(b)}
		_, _ = s.receive(t, tree{"there": "there"}, transfer.ReceiveConfig{Overwrite: len(b)%2 == 0})
	})
}

// FuzzSend: whatever a receiver says, Send ends.
func FuzzSend(f *testing.F) {
	f.Add(receiver().span(wire.Ask, 0, 1).span(wire.Want, 0, 0).frame(wire.Go, nil).frame(wire.Done, nil).Bytes())
	src, err := transfer.Scan(f.Context(), []string{tree{"f": "content"}.make(f) + "/f"}, transfer.Limits{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = src.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = transfer.Send(t.Context(), scripted{bytes.NewReader(b)}, src, transfer.SendConfig{})
	})
}
