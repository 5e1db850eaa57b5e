package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/text/width"
)

// meterEvery is how often a meter is drawn: smooth to the eye, and no work.
const meterEvery = 100 * time.Millisecond

// A meter is a line at the end of a terminal's text that is drawn anew while
// something goes on, and gone when that has ended. It uses no escape codes:
// carriage returns, and blanks over what was there. A nil meter draws nothing.
type meter struct {
	w       io.Writer
	columns func() int

	mu    sync.Mutex // guards the following, and w
	last  time.Time
	drawn int // columns that are in use
}

// newMeter returns a meter on stream, nil if that is no terminal that it could
// be drawn on.
func newMeter(stream io.Writer) *meter {
	if !drawsOn(stream) {
		return nil
	}
	return &meter{w: stream, columns: func() int { return columnsOf(stream) }}
}

// draw draws what line returns for a number of columns, unless it was drawn just
// before. Errors of a terminal stop nothing.
func (m *meter) draw(now time.Time, line func(columns int) string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.last) < meterEvery {
		return
	}
	m.last = now
	most := m.columns() - 1 // a terminal may go on to the next line after its last column
	if m.drawn > most {     // the window became narrow, and broke the line in two
		m.drawn = 0
		_, _ = io.WriteString(m.w, "\n")
	}
	text := clip(line(most), most)
	n := columnsIn(text)
	_, _ = io.WriteString(m.w, "\r"+text+strings.Repeat(" ", max(0, m.drawn-n)))
	m.drawn = n
}

// clear takes the line away; whoever writes to the terminal does so first.
func (m *meter) clear() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clearLocked()
}

func (m *meter) clearLocked() {
	if m.drawn > 0 {
		_, _ = io.WriteString(m.w, "\r"+strings.Repeat(" ", m.drawn)+"\r")
	}
	m.drawn, m.last = 0, time.Time{}
}

// Write writes lines above the meter.
func (m *meter) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clearLocked()
	return m.w.Write(b)
}

// columnsIn is how many columns a text takes: two for East Asian characters,
// none for marks that combine with what is before them.
func columnsIn(s string) (n int) {
	for _, r := range s {
		n += columnsOfRune(r)
	}
	return n
}

func columnsOfRune(r rune) int {
	const firstEmoji, lastEmoji = 0x1f300, 0x1faff
	switch kind := width.LookupRune(r).Kind(); {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case kind == width.EastAsianWide, kind == width.EastAsianFullwidth, r >= firstEmoji && r <= lastEmoji:
		return 2
	default:
		return 1
	}
}

// clip cuts a text to a number of columns, and shows that it did.
func clip(s string, most int) string {
	switch {
	case columnsIn(s) <= most:
		return s
	case most <= 0:
		return ""
	}
	n := 1 // of the ellipsis
	for i, r := range s {
		if n += columnsOfRune(r); n > most {
			return s[:i] + "…"
		}
	}
	return s
}

// A pace is how fast something goes, over the last seconds.
type pace struct {
	begun, at time.Time
	done      int64
	rate      float64 // a second
}

// paceOver is the time that a pace forgets in; before paceFrom it is no more than
// what fills the buffers.
const (
	paceOver = 3 * time.Second
	paceFrom = time.Second
)

// add notes how much is done now, and returns the rate a second, 0 while that
// says nothing yet.
func (p *pace) add(now time.Time, done int64) float64 {
	switch dt := now.Sub(p.at); {
	case p.begun.IsZero():
		p.begun, p.at, p.done = now, now, done
	case dt >= meterEvery:
		rate := float64(done-p.done) / dt.Seconds()
		if p.rate == 0 {
			p.rate = rate
		}
		p.rate += (1 - math.Exp(-dt.Seconds()/paceOver.Seconds())) * (rate - p.rate)
		p.at, p.done = now, done
	}
	if now.Sub(p.begun) < paceFrom {
		return 0
	}
	return p.rate
}

// bytesLine is a line about bytes: what is at work, how much of the total is
// done, how fast that goes and when it will have ended. What does not fit into
// the columns is left out, that of least use first. A total of 0 is not known.
func bytesLine(columns int, what string, done, total int64, rate float64) string {
	const leastName, leastBar, mostBar = 12, 10, 30
	facts := []string{sizeText(done)}
	if total > 0 {
		facts = []string{fmt.Sprintf("%3d%%", 100*min(done, total)/total), sizeText(done) + " of " + sizeText(total)}
	}
	if rate > 0 {
		facts = append(facts, sizeText(int64(rate))+"/s")
		if total > 0 {
			left := time.Duration(float64(max(0, total-done))/rate*float64(time.Second)) + time.Second/2
			facts = append(facts, shortTime(left)+" left")
		}
	}
	need := min(columnsIn(what), leastName)
	for len(facts) > 1 && need+2+columnsIn(strings.Join(facts, "  ")) > columns {
		facts = facts[:len(facts)-1]
	}
	tail := strings.Join(facts, "  ")
	room := columns - columnsIn(tail) - 2
	if room < need {
		return tail
	}
	what = clip(what, room)
	bar := min(room-columnsIn(what)-2, mostBar)
	if total <= 0 || bar < leastBar {
		return what + strings.Repeat(" ", room-columnsIn(what)) + "  " + tail
	}
	full := int(int64(bar-2) * min(done, total) / total)
	line := "[" + strings.Repeat("=", full) + strings.Repeat(" ", bar-2-full) + "]"
	return what + strings.Repeat(" ", room-columnsIn(what)-bar) + line + "  " + tail
}

// shortTime is a time to wait in two units at most.
func shortTime(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 100*day:
		return "months"
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	default:
		return fmt.Sprintf("%ds", d/time.Second)
	}
}
