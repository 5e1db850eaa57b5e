package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/link"
	"github.com/muster-p2p/muster/transfer"
	"github.com/muster-p2p/muster/transfer/wire"
)

// filesService is the service of 'muster send' and 'muster recv': both, as
// either may be the one that calls.
const filesService = "_files"

// someArgs wants at least one argument.
func someArgs(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return nil
		}
		return usageError(fmt.Errorf("%s takes one %s or more", cmd.CommandPath(), name), "see '"+cmd.CommandPath()+" --help'")
	}
}

// optionalArg wants one argument or none.
func optionalArg(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= 1 {
			return nil
		}
		return usageError(fmt.Errorf("%s takes one %s or none, got %d arguments", cmd.CommandPath(), name, len(args)), "see '"+cmd.CommandPath()+" --help'")
	}
}

// comesAgain reports whether the other end may try again after err.
func comesAgain(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	remote, _ := errors.AsType[*transfer.RemoteError](err)
	return errors.Is(err, transfer.ErrBroken) || errors.Is(err, wire.ErrRole) || errors.Is(err, transfer.ErrSameRole) ||
		remote != nil && (remote.Code == wire.Canceled || remote.Code == wire.Local || remote.Code == wire.Exists)
}

// scanFailure gives an error of listing files its exit code.
func scanFailure(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return err
	case errors.Is(err, fs.ErrPermission):
		return fail(exitLocal, err, "")
	default:
		return usageError(err, "nothing has been sent")
	}
}

// transferFailure gives an error of a transfer its exit code.
func transferFailure(err error) error {
	for _, known := range []error{link.ErrRefused, link.ErrIdentity} {
		if errors.Is(err, known) {
			return linkFailure(known)
		}
	}
	exists, _ := errors.AsType[*transfer.ExistsError](err)
	name, _ := errors.AsType[*transfer.NameError](err)
	limit, _ := errors.AsType[*transfer.LimitError](err)
	remote, _ := errors.AsType[*transfer.RemoteError](err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errDeclined):
		return fail(exitRefused, errDeclined, "")
	case errors.Is(err, transfer.ErrRefused):
		return fail(exitRefused, err, "")
	case errors.Is(err, transfer.ErrIntegrity):
		return fail(exitIntegrity, err, "the wrong file has been removed; try again")
	case errors.Is(err, transfer.ErrChanged):
		return fail(exitOther, err, "try again when nothing writes to it")
	case errors.Is(err, transfer.ErrSameRole):
		return fail(exitUsage, err, "one runs 'muster send', the other 'muster recv'")
	case errors.Is(err, wire.ErrRole), errors.Is(err, wire.ErrVersion), errors.Is(err, wire.ErrFrame), errors.Is(err, transfer.ErrProtocol):
		return fail(exitVersion, err, "")
	case remote != nil:
		return fail(exitOther, err, "")
	case exists != nil:
		return fail(exitLocal, err, "--overwrite replaces files, --out names another directory")
	case name != nil, limit != nil:
		return fail(exitRefused, err, "nothing was written")
	case errors.Is(err, syscall.ENOSPC):
		return fail(exitLocal, err, "make room and run the same command again: it goes on where it ended")
	case localFile(err):
		return fail(exitLocal, err, "")
	case errors.Is(err, transfer.ErrBroken):
		return fail(exitOther, err, "run the same command again: it goes on where it ended")
	default:
		return err
	}
}

// localFile reports whether err came from the file system.
func localFile(err error) bool {
	var of *fs.PathError
	return errors.As(err, &of)
}

// A transferShow tells how a transfer goes: to people with a bar on a terminal
// and lines elsewhere, to programs with objects.
type transferShow struct {
	ev    events
	json  bool
	meter *meter // nil if nobody watches
	doing string

	start  time.Time
	conn   *link.Conn
	report *linkReport

	mu     sync.Mutex // guards what follows
	pace   pace
	last   time.Time // when progress was shown
	at     transfer.Progress
	begun  time.Time // when the first byte moved
	before int64     // what was there then
}

// eventEvery is how often programs are told of progress: no burden on a log.
const eventEvery = time.Second

func newTransferShow(e *env, asJSON bool) *transferShow {
	s := &transferShow{json: asJSON}
	if !asJSON {
		s.meter = newMeter(e.stderr)
	}
	if s.meter == nil {
		s.ev = newEvents(e.stderr, asJSON)
	} else {
		s.ev = newEvents(s.meter, asJSON)
	}
	return s
}

// skipped tells what is left out.
func (s *transferShow) skipped(paths []string) {
	if len(paths) == 0 {
		return
	}
	s.ev.say(fmt.Sprintf("left out %d links, devices or partial files, such as %q", len(paths), paths[0]),
		map[string]any{"event": "skipped", "paths": paths})
}

// begin tells of the link that the transfer runs over. Start is when it was
// asked for, zero for who was called.
func (s *transferShow) begin(start time.Time, conn *link.Conn, doing string) {
	s.start, s.conn, s.doing = time.Now(), conn, doing
	s.mu.Lock()
	s.at, s.begun, s.before, s.last, s.pace = transfer.Progress{}, time.Time{}, 0, time.Time{}, pace{}
	s.mu.Unlock()
	s.report = reportLink(s.ev, start, conn, "")
}

// offer tells what there is to have.
func (s *transferShow) offer(o transfer.Offer) {
	s.ev.say(offerText(o), map[string]any{"event": "offer", "files": o.Files, "dirs": o.Dirs, "bytes": o.Bytes, "names": firstNames(o.Top)})
}

// maxNames bounds the names that a line or an object has.
const maxNames = 10

func firstNames(names []string) []string { return names[:min(len(names), maxNames)] }

// offerText is an offer in words.
func offerText(o transfer.Offer) string {
	names := firstNames(o.Top)
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = n
		if strings.ContainsAny(n, " \"'") {
			quoted[i] = fmt.Sprintf("%q", n)
		}
	}
	text := strings.Join(quoted, ", ")
	if more := len(o.Top) - len(names); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("%s (%s, %s)", text, plural(o.Files, "file"), sizeText(o.Bytes))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// sizeText is a number of bytes with three digits and an SI prefix.
func sizeText(n int64) string {
	v := float64(n)
	for _, unit := range []string{"B", "kB", "MB", "GB", "TB"} {
		if v < 1000 || unit == "TB" {
			if unit == "B" || v >= 100 {
				return fmt.Sprintf("%.0f %s", v, unit)
			}
			return fmt.Sprintf("%.3g %s", v, unit)
		}
		v /= 1000
	}
	return ""
}

// progress is told by the transfer how far it is.
func (s *transferShow) progress(p transfer.Progress) {
	s.mu.Lock()
	now := time.Now()
	s.at = p
	if s.begun.IsZero() {
		s.begun, s.before = now, p.Done
	}
	told := s.json && now.Sub(s.last) >= eventEvery
	if told {
		s.last = now
	}
	s.meter.draw(now, func(columns int) string {
		what := fmt.Sprintf("%s (%s)", path.Base(p.Path), s.conn.Path().Kind)
		return bytesLine(columns, what, p.Done, max(p.Total, 1), s.pace.add(now, p.Done))
	})
	s.mu.Unlock()
	if told {
		kind := s.conn.Path().Kind.String()
		s.ev.say("", map[string]any{
			"event": "progress", "file": p.Path, "done": p.Done, "total": p.Total, "files": p.Files, "path": kind, "ms": millis(now.Sub(s.start)),
		})
	}
}

// hangUp closes the link of a transfer that ended with err. A link that is
// gone, or that we were told to leave, is not waited for.
func hangUp(ctx context.Context, conn *link.Conn, err error) {
	if ctx.Err() != nil || errors.Is(err, transfer.ErrBroken) {
		conn.Abort("the transfer ended")
		return
	}
	_ = conn.Close() // what matters has been confirmed
}

// end takes the bar away, tells how the transfer ended, and gives its error an
// exit code.
func (s *transferShow) end(ctx context.Context, res transfer.Result, err error) error {
	s.mu.Lock()
	s.meter.clear()
	// The first chunk began before its time is known: what came after it counts.
	moved, since := s.at.Done-s.before, time.Since(s.begun)
	s.mu.Unlock()
	took := time.Since(s.start)
	<-s.report.done
	st := s.conn.Stats()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return transferFailure(err)
	}
	line := fmt.Sprintf("done %s: %s in %s", s.doing, offerText(res.Offer), took.Round(time.Millisecond))
	if moved > 0 {
		line += fmt.Sprintf(", %s/s", sizeText(int64(float64(moved)/since.Seconds())))
	}
	if res.Kept > 0 {
		line += fmt.Sprintf("; %s had come before", sizeText(res.Kept))
	}
	if res.SameFiles > 0 {
		line += fmt.Sprintf("; %s there already", plural(res.SameFiles, "file"))
	}
	line += fmt.Sprintf("; relay %s, direct %s", sizeText(int64(st.RelaySent+st.RelayReceived)), sizeText(int64(st.DirectSent+st.DirectReceived)))
	s.ev.say(line, map[string]any{
		"event": "done", "files": res.Offer.Files, "dirs": res.Offer.Dirs, "bytes": res.Offer.Bytes, "moved": res.Moved, "kept": res.Kept,
		"same": res.Same, "same_files": res.SameFiles, "ms": millis(took), "switches": st.Switches, "resumes": st.Resumes,
		"relay": st.RelaySent + st.RelayReceived, "direct": st.DirectSent + st.DirectReceived,
	})
	return nil
}
