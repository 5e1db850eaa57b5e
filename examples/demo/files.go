package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// files: a folder goes to whoever has the ticket. The first attempt is killed
// on its way, the second one goes on where that ended.
func (d *demo) files() error {
	d.say("\nFILES a folder goes to who has the ticket; the first attempt is killed, the second goes on")
	folder := filepath.Join(d.dir, "folder")
	if err := os.MkdirAll(filepath.Join(folder, "sub"), 0o700); err != nil {
		return err
	}
	sum, err := writeRandomFile(filepath.Join(folder, "large"))
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "sub", "small"), []byte("small\n"), 0o600)
	}
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		in := filepath.Join(d.dir, fmt.Sprint("in", i))
		done, whole, err := d.inTwo(folder, in)
		if err != nil {
			return err
		}
		if whole {
			d.say("  it was there before the first attempt could be killed; once more")
			continue
		}
		got, err := os.ReadFile(filepath.Join(in, "folder", "large"))
		if err != nil {
			return err
		}
		if sha256.Sum256(got) != sum {
			return errors.New("the folder that came is not the folder that was sent")
		}
		d.say("  all of it is there: %d files, %.1f MB had come before, %.1f MB came now in %s; hashes equal",
			done.Files, float64(done.Kept)/1e6, float64(done.Moved)/1e6, time.Duration(done.MS*float64(time.Millisecond)).Round(time.Millisecond))
		return nil
	}
}

// inTwo sends the folder to in, and kills the first attempt to receive it,
// unless that was done before.
func (d *demo) inTwo(folder, in string) (done event, whole bool, err error) {
	send := newPeer(d, io.Discard, d.atPoint("send", folder)...)
	if err := send.start(); err != nil {
		return done, false, err
	}
	shown, err := send.event("ticket")
	if err != nil {
		return done, false, err
	}
	d.say("  ticket    %s", shown.Ticket)
	first := newPeer(d, io.Discard, "recv", shown.Ticket, "--out", in, "--json")
	if err := first.start(); err != nil {
		return done, false, err
	}
	if _, err := first.event("progress"); err != nil {
		return done, false, err
	}
	first.cmd.Process.Kill() //nolint:errcheck // may have ended
	if first.end() == nil {  // it was not killed
		return done, true, send.end()
	}
	if done, err = d.receive(shown.Ticket, in); err != nil {
		return done, false, err
	}
	return done, false, send.end()
}

// receive gets what the ticket is for.
func (d *demo) receive(ticket, to string) (event, error) {
	p := newPeer(d, io.Discard, "recv", ticket, "--out", to, "--json")
	if err := p.start(); err != nil {
		return event{}, err
	}
	done, err := p.event("done")
	if err != nil {
		return event{}, fmt.Errorf("the second attempt: %w", err)
	}
	return done, p.end()
}
