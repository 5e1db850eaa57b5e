package rendezvous

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// TestForeignBytes reads what other implementations put on the wire, as it was
// captured from them, and holds each record to the rules.
func TestForeignBytes(t *testing.T) {
	files, err := filepath.Glob("wire/testdata/foreign/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f := foreignFile{t: t, legacy: strings.HasPrefix(name, "berty") || strings.HasPrefix(name, "py-")}
			var title string
			for line := range strings.Lines(string(b)) {
				line = strings.TrimSpace(line)
				switch after, comment := strings.CutPrefix(line, "# "); {
				case comment && f.id == "":
					f.header(after)
				case comment:
					title = after
				case line != "":
					msg, err := hex.DecodeString(line)
					if err != nil {
						t.Fatal(err)
					}
					f.check(title, msg)
				}
			}
		})
	}
}

type foreignFile struct {
	t       *testing.T
	id      peer.ID
	dialect wire.Dialect
	legacy  bool
}

var foreignHeader = regexp.MustCompile(`protocol (\S+), peer (\w+),`)

func (f *foreignFile) header(line string) {
	m := foreignHeader.FindStringSubmatch(line)
	id, err := peer.Decode(m[2])
	if err != nil {
		f.t.Fatal(err)
	}
	f.id = id
	if m[1] == string(WakuProtocolID) {
		f.dialect = wire.Waku
	}
}

func (f *foreignFile) check(title string, b []byte) {
	t := f.t
	t.Helper()
	var m wire.Message
	if err := wire.Parse(f.dialect, b, &m, 100); err != nil {
		t.Fatalf("%s: %v", title, err)
	}
	from, rest, _ := strings.Cut(title, " ")
	kind, what, _ := strings.Cut(rest, " ")
	if m.Kind.String() != kind {
		t.Errorf("%s: read as %v", title, m.Kind)
	}
	if from == "client" && m.NS != "room" && what != "all" {
		t.Errorf("%s: ns %q", title, m.NS)
	}
	switch m.Kind {
	case wire.Register:
		f.checkRegister(title, &m)
	case wire.Discover:
		if strings.HasPrefix(what, "limit 10") && m.Limit != 10 {
			t.Errorf("%s: limit %d", title, m.Limit)
		}
		if what == "all" && m.NS != "" && f.dialect == wire.Libp2p { // Waku has no such request
			t.Errorf("%s: ns %q", title, m.NS)
		}
		if strings.HasSuffix(what, "with cookie") && f.dialect == wire.Libp2p && string(m.Cookie) != "01234567room" {
			t.Errorf("%s: cookie %q", title, m.Cookie)
		}
	case wire.DiscoverResponse:
		f.checkFound(title, what, &m)
	default:
	}
}

func (f *foreignFile) checkRegister(title string, m *wire.Message) {
	f.t.Helper()
	_, err := admitRecord(m.Record, f.id)
	if f.legacy {
		if !errors.Is(err, errBadRecord) {
			f.t.Errorf("%s: an unsigned record is taken for signed: %v", title, err)
		}
		_, err = admitPeerInfo(m.Record, f.id)
	}
	if err != nil {
		f.t.Errorf("%s: %v", title, err)
	}
	if _, err := admitRecord(m.Record, "somebody else"); err == nil {
		f.t.Errorf("%s: anyone may register it", title)
	}
	if len(m.Record) == 0 {
		return
	}
	bad := append([]byte(nil), m.Record...)
	for i := range bad { // no bit of it is free, but in what is not signed
		bad[i] ^= 1
		if _, err := admitRecord(bad, f.id); err == nil {
			f.t.Errorf("%s: byte %d does not matter", title, i)
		}
		bad[i] ^= 1
	}
}

func (f *foreignFile) checkFound(title, what string, m *wire.Message) {
	f.t.Helper()
	if what == "with one record" {
		if m.Status != wire.OK || len(m.Records) != 1 {
			f.t.Errorf("%s: %v, %d records", title, m.Status, len(m.Records))
		}
	}
	for i := range m.Records {
		found, ok := readFound(&m.Records[i], "room", f.legacy)
		if !ok || found.NS != "room" || found.ID == "" || len(found.Addrs) == 0 || found.TTL == 0 {
			f.t.Errorf("%s: found %+v, %v", title, found, ok)
		}
	}
}
