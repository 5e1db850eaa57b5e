package admin

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
)

// The page is served as it is in the source: no build step, and nothing that
// comes from anywhere else. page/vendor holds uPlot, which draws the charts.
//
//go:embed page/*.html page/*.css page/*.js page/*.svg page/vendor/*.js page/vendor/*.css
var files embed.FS

// fileTypes are of the page's files. The system's table is not asked: it may
// be wrong, and nosniff is on.
var fileTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// A pageFile is one file of the page, ready to be sent.
type pageFile struct {
	body []byte
	kind string
	tag  string
}

// loadPage reads the files by their paths in URLs.
func loadPage() map[string]pageFile {
	page := map[string]pageFile{}
	err := fs.WalkDir(files, "page", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := files.ReadFile(name)
		sum := sha256.Sum256(body)
		page["/"+name] = pageFile{body, fileTypes[path.Ext(name)], `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
		return err
	})
	if err != nil {
		panic("BUG: embedded files cannot be read: " + err.Error())
	}
	page["/"] = page["/page/index.html"]
	return page
}

func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	f, ok := s.page[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache") // ask each time, by the tag
	h.Set("Content-Type", f.kind)
	h.Set("ETag", f.tag)
	if r.Header.Get("If-None-Match") == f.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(f.body) // the client's loss
}
