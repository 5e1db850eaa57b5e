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
	send := newPeer(d, io.Discard, d.atPoint("send", folder)...)
	if err := send.cmd.Start(); err != nil {
		return err
	}
	shown, err := send.event("ticket")
	if err != nil {
		return err
	}
	d.say("  ticket    %s", shown.Ticket)
	in := filepath.Join(d.dir, "in")
	first := newPeer(d, io.Discard, "recv", shown.Ticket, "--out", in, "--json")
	if err := first.cmd.Start(); err != nil {
		return err
	}
	if _, err := first.event("progress"); err != nil {
		return err
	}
	killed := first.cmd.Process.Kill() == nil
	_ = first.end() // it was killed
	done, err := d.receive(shown.Ticket, in)
	if err != nil {
		return err
	}
	if err := send.end(); err != nil && killed {
		return err
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

// receive gets what the ticket is for.
func (d *demo) receive(ticket, to string) (event, error) {
	p := newPeer(d, io.Discard, "recv", ticket, "--out", to, "--json")
	if err := p.cmd.Start(); err != nil {
		return event{}, err
	}
	done, err := p.event("done")
	if err != nil {
		return event{}, fmt.Errorf("the second attempt: %w", err)
	}
	return done, p.end()
}
