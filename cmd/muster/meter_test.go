package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// TestBytesLine: what there is room for, that of least use left out first.
func TestBytesLine(t *testing.T) {
	const name = "a-long-name-of-a-file.iso (direct)"
	for _, tt := range []struct {
		columns     int
		what        string
		done, total int64
		rate        float64
		want        string
	}{
		{100, name, 126e6, 300e6, 58e6, "a-long-name-of-a-file.iso (direct)  [========            ]   42%  126 MB of 300 MB  58 MB/s  3s left"},
		{79, name, 126e6, 300e6, 58e6, "a-long-name-of-a-file.iso (direct)      42%  126 MB of 300 MB  58 MB/s  3s left"},
		{60, name, 126e6, 300e6, 58e6, ""},
		{39, name, 126e6, 300e6, 58e6, "a-long-name-of…   42%  126 MB of 300 MB"},
		{20, name, 126e6, 300e6, 58e6, "a-long-name-o…   42%"},
		{8, name, 126e6, 300e6, 58e6, " 42%"},
		{79, "passed on", 5e6, 0, 1e6, ""},
		{79, name, 300e6, 300e6, 58e6, ""},
		{79, "文件的名字很长很长很长很长很长很长很长很长很长.iso", 1, 300e6, 1, ""},
		{79, "", 1, 2, 0, ""},
	} {
		got := bytesLine(tt.columns, tt.what, tt.done, tt.total, tt.rate)
		if tt.want != "" && strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(tt.want), " ") {
			t.Errorf("%d columns: got\n%s, want\n%s", tt.columns, got, tt.want)
		}
		if n := columnsIn(got); n > tt.columns {
			t.Errorf("%q has %d columns, more than %d", got, n, tt.columns)
		}
		if tt.columns >= 20 && tt.what != "" && columnsIn(got) != tt.columns {
			t.Errorf("%q has %d columns of %d: it would wander", got, columnsIn(got), tt.columns)
		}
	}
}

func FuzzBytesLine(f *testing.F) {
	f.Add(80, "name", int64(5), int64(10), 2.0)
	f.Fuzz(func(t *testing.T, columns int, what string, done, total int64, rate float64) {
		if columns < 5 || columns > 1000 || !utf8.ValidString(what) || done < 0 || total < 0 || total > 1<<50 || done > 1<<50 {
			return
		}
		if got := clip(bytesLine(columns, what, done, total, rate), columns); columnsIn(got) > columns {
			t.Errorf("%q has more than %d columns", got, columns)
		}
	})
}

// TestPace: it says nothing at first, then what the last seconds were like.
func TestPace(t *testing.T) {
	var p pace
	now, done := time.Unix(1e9, 0), int64(0)
	for range 50 {
		now, done = now.Add(100*time.Millisecond), done+1000
		rate := p.add(now, done)
		if now.Sub(p.begun) < paceFrom && rate != 0 || now.Sub(p.begun) > 2*paceFrom && (rate < 9900 || rate > 10100) {
			t.Errorf("%.0f after %v", rate, now.Sub(p.begun))
		}
	}
	for range 100 { // it stands still
		now = now.Add(100 * time.Millisecond)
		p.add(now, done)
	}
	if rate := p.add(now, done); rate > 1000 {
		t.Errorf("%.0f after ten seconds of nothing", rate)
	}
}

// TestMeter: each line covers the one before, and clearing leaves none.
func TestMeter(t *testing.T) {
	var out bytes.Buffer
	s := struct{ columns int }{20}
	m := &meter{w: &out, columns: func() int { return s.columns }}
	now := time.Unix(1e9, 0)
	draw := func(text string) string {
		now = now.Add(meterEvery)
		m.draw(now, func(int) string { return text })
		return out.String()[strings.LastIndex(out.String(), "\r")+1:]
	}
	if got := draw("first line"); got != "first line" {
		t.Errorf("drawn %q", got)
	}
	if got := draw("short"); got != "short     " {
		t.Errorf("drawn %q, with blanks over the one before", got)
	}
	if got := draw("much longer than the screen is"); got != "much longer than t…" {
		t.Errorf("drawn %q", got)
	}
	if _, err := m.Write([]byte("news\n")); err != nil || !strings.HasSuffix(out.String(), "\r"+strings.Repeat(" ", 19)+"\rnews\n") {
		t.Errorf("%q, %v", out.String(), err)
	}
	draw("and on, and on, and")
	s.columns = 10
	if draw("x"); !strings.HasSuffix(out.String(), "\n\rx") {
		t.Errorf("after the window became narrow: %q", out.String())
	}
	before := out.Len()
	m.draw(now, func(int) string { return "too soon" })
	if out.Len() != before {
		t.Error("drawn twice at a time")
	}
	m.clear()
	m.clear()
	if !strings.HasSuffix(out.String(), "\n\rx\r \r") {
		t.Errorf("%q is not cleared", out.String())
	}
	(*meter)(nil).draw(now, nil)
	(*meter)(nil).clear()
}
