package main

import (
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// A notifier tells the service manager how the daemon does, if there is one
// (https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html).
type notifier struct {
	addr  *net.UnixAddr // nil: nobody to tell
	every time.Duration // between two signs of life, 0 if none are wanted
}

// newNotifier reads the environment that the service manager has set.
func newNotifier() notifier {
	var n notifier
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" || !strings.ContainsAny(name[:1], "/@") {
		return n
	}
	n.addr = &net.UnixAddr{Name: name, Net: "unixgram"} // @ is the abstract name space
	if pid := os.Getenv("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
		usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
		if err == nil && usec > 0 {
			n.every = time.Duration(usec) * time.Microsecond / 2
		}
	}
	return n
}

// tell sends a state such as READY=1. A service manager that does not listen is
// no reason to stop.
func (n notifier) tell(state string) {
	if n.addr == nil {
		return
	}
	c, err := net.DialUnix("unixgram", nil, n.addr)
	if err != nil {
		return
	}
	_, _ = c.Write([]byte(state))
	_ = c.Close()
}

// ticks returns when to give a sign of life: never if none is wanted.
func (n notifier) ticks() (<-chan time.Time, func()) {
	if n.every == 0 {
		return nil, func() {}
	}
	t := time.NewTicker(n.every)
	return t.C, t.Stop
}
