//go:build unix

package access

import (
	"os"
	"path/filepath"
	"testing"
)

// TestOpenDirFollowsNoLink: root must not give away what a link leads to.
func TestOpenDirFollowsNoLink(t *testing.T) {
	link := filepath.Join(t.TempDir(), "tokens")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if d, err := openDir(link); err == nil {
		t.Errorf("opened %s", d.Name())
	}
}
