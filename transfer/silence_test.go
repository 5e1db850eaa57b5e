package transfer_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/transfer"
	"github.com/muster-p2p/muster/transfer/wire"
)

// TestSilence: an end that says nothing is given up after the stall time, and
// not before.
func TestSilence(t *testing.T) {
	from := tree{"f": "content"}.make(t)
	for name, says := range map[string]string{"nothing": "", "only its role": string(wire.RoleRecv)} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				src, err := transfer.Scan(t.Context(), []string{from + "/f"}, transfer.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				defer src.Close() //nolint:errcheck // only read
				a, b := net.Pipe()
				go func() {
					_, _ = io.WriteString(b, says)
					_, _ = io.Copy(io.Discard, b)
				}()
				start := time.Now()
				_, err = transfer.Send(t.Context(), a, src, transfer.SendConfig{})
				_, _ = a.Close(), b.Close()
				if !errors.Is(err, transfer.ErrBroken) || !strings.Contains(err.Error(), "nothing was heard") {
					t.Error(err)
				}
				if took := time.Since(start); took < transfer.DefaultStall || took > transfer.DefaultStall+10*time.Second {
					t.Errorf("gave up after %s", took)
				}
			})
		})
	}
}

// TestBusy: a person may take an hour to answer; both ends know that the other
// one is there.
func TestBusy(t *testing.T) {
	from, to := tree{"f": "content"}.make(t), t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		src, err := transfer.Scan(t.Context(), []string{from + "/f"}, transfer.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close() //nolint:errcheck // only read
		a, b := net.Pipe()
		sent := make(chan error, 1)
		go func() {
			_, err := transfer.Send(t.Context(), a, src, transfer.SendConfig{})
			_ = a.Close()
			sent <- err
		}()
		_, err = transfer.Receive(t.Context(), b, to, transfer.ReceiveConfig{Accept: func(transfer.Offer) error {
			time.Sleep(time.Hour)
			return nil
		}})
		_ = b.Close()
		if sendErr := <-sent; err != nil || sendErr != nil {
			t.Errorf("send: %v; receive: %v", sendErr, err)
		}
	})
	if got := readTree(t, to); got["f"] != "content" {
		t.Errorf("got %v", got)
	}
}
