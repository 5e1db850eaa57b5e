package lines

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Program finds a program in the folder of the peers, $INTEROP_BIN, or skips the
// test with the reason why there is none. Target is the make target that builds
// them.
func Program(t testing.TB, name, target string) string {
	t.Helper()
	dir := os.Getenv("INTEROP_BIN")
	if dir == "" {
		t.Skipf("INTEROP_BIN is not set: run `make %s`, which builds the peers first", target)
	}
	file := filepath.Join(dir, name)
	if _, err := os.Stat(file); err != nil {
		why, readErr := os.ReadFile(file + ".why")
		if readErr != nil {
			why = []byte("run `make " + target + "`")
		}
		t.Skipf("%s could not be built here: %s", name, bytes.TrimSpace(why))
	}
	return file
}

// Log returns a writer to t's log, which may be used after the test's end.
func Log(t testing.TB) io.Writer {
	t.Helper()
	l := &log{t: t}
	t.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.t = nil
	})
	return l
}

type log struct {
	mu sync.Mutex
	t  testing.TB // nil when the test is over
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.t != nil {
		l.t.Logf("stderr: %s", bytes.TrimSpace(p))
	}
	return len(p), nil
}
