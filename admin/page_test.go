package admin_test

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/muster-p2p/muster/admin"
)

// Everything that the page names is there, with a type that nosniff allows.
func TestPage(t *testing.T) {
	s := newServer(t, admin.Config{})
	index := do(s, "GET", "/", "")
	if index.Code != 200 || index.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %v", index.Code, index.Header())
	}
	links := regexp.MustCompile(`(?:src|href)="(page/[^"]+)"`).FindAllStringSubmatch(index.Body.String(), -1)
	if len(links) < 5 {
		t.Fatalf("links %q", links)
	}
	for _, l := range links {
		w := do(s, "GET", "/"+l[1], "")
		kind := w.Header().Get("Content-Type")
		if w.Code != 200 || kind == "" || path.Ext(l[1]) == ".js" && !strings.HasPrefix(kind, "text/javascript") {
			t.Errorf("%s: %d %q", l[1], w.Code, kind)
		}
		if again := do(s, "GET", "/"+l[1], "", "If-None-Match", w.Header().Get("ETag")); again.Code != 304 || again.Body.Len() != 0 {
			t.Errorf("%s again: %d", l[1], again.Code)
		}
	}
	for _, p := range []string{"/page/", "/page/../server.go", "/page/nothing.js", "/page/vendor/"} {
		if w := do(s, "GET", p, ""); w.Code == 200 {
			t.Errorf("%s: %d", p, w.Code)
		}
	}
	link := []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}
	if w := do(s, "GET", "/", "", link...); w.Code != 200 {
		t.Errorf("a link to the page: %d", w.Code)
	}
}

// The policy forbids what these patterns find; the browser would only say so
// on its console.
func TestPageObeysPolicy(t *testing.T) {
	forbidden := map[string]*regexp.Regexp{
		"inline style":   regexp.MustCompile(`<style|\sstyle=`),
		"inline script":  regexp.MustCompile(`<script(\s[^>]*)?>[^<]|\son[a-z]+=`),
		"other origin":   regexp.MustCompile(`(?:src|href|url\(|import|fetch\(|@import)\s*[=("']+\s*(?:https?:)?//`),
		"HTML from text": regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function`),
		"data URL":       regexp.MustCompile(`data:`),
	}
	err := fs.WalkDir(os.DirFS("page"), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path.Join("page", name))
		for what, re := range forbidden {
			if m := re.Find(b); m != nil && path.Ext(name) != ".LICENSE" {
				t.Errorf("%s: %s: %q", name, what, m)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The page computes the history's columns of a new snapshot by itself.
func TestPageKnowsColumns(t *testing.T) {
	b, err := os.ReadFile("page/app.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range admin.Columns {
		if !regexp.MustCompile(`\b` + c + `:`).Match(b) {
			t.Errorf("app.js does not know the column %q", c)
		}
	}
}
