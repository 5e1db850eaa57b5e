package faults_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/muster-p2p/muster/internal/balancer"
)

// TestPointKilled runs three daemons over one database behind a load balancer,
// and kills one of them under traffic. Pairs that were caught in it try again;
// nobody else notices, and what was registered there is listed by the others.
func TestPointKilled(t *testing.T) {
	u := os.Getenv("MUSTER_TEST_POSTGRES")
	if u == "" {
		t.Skip("needs a PostgreSQL server: run make faults")
	}
	var ds []*daemon
	var addrs []string
	var cs []*client
	for i := range 3 {
		d := start(t, setup{args: []string{"--store", u}})
		at, err := url.Parse(d.rdv)
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(t, "127.0.0.1")
		c.use(t, d)
		if err := c.register(t.Context(), fmt.Sprint("points/", i)); err != nil {
			t.Fatal(err)
		}
		ds, addrs, cs = append(ds, d), append(addrs, at.Host), append(cs, c)
	}
	all := &daemon{t: t, rdv: "http://" + balancer.Start(t, addrs...)}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	const workers, untilKill, afterKill = 8, 300, 600
	var wg sync.WaitGroup
	var killing, gone atomic.Bool
	var before, after, caught atomic.Int64
	var took times
	reached, dead := make(chan struct{}), make(chan struct{})
	once := func(token string) error {
		x, y, err := pair(all, "127.0.0.1", token)
		if err != nil {
			return err
		}
		defer func() { _, _ = x.Close(), y.Close() }()
		return talk(x, y)
	}
	for w := range workers {
		wg.Go(func() {
			for i := 0; after.Load() < afterKill && ctx.Err() == nil; i++ {
				token, begun, whole := fmt.Sprintf("points-%d-%d", w, i), time.Now(), gone.Load()
				err := once(token)
				if err != nil && killing.Load() && !whole {
					caught.Add(1)
					<-dead // or it may be caught again
					err = once(token + "-again")
				}
				if took.add(begun, err); err != nil {
					t.Errorf("%s: %v", token, err)
					return
				}
				if whole {
					after.Add(1)
				} else if before.Add(1) == untilKill {
					close(reached)
				}
			}
		})
	}
	select {
	case <-reached:
	case <-ctx.Done():
		t.Error("no traffic")
	}
	killing.Store(true)
	ds[0].signal(syscall.SIGKILL)
	gone.Store(true)
	close(dead)
	wg.Wait()
	for i, c := range cs[1:] {
		if ok, err := c.has(t.Context(), "points/0", cs[0]); !ok || err != nil {
			t.Errorf("point %d lists what was registered at the killed one: %v, %v", i+1, ok, err)
		}
	}
	if after.Load() < afterKill {
		t.Errorf("only %d pairs after the kill", after.Load())
	}
	ds[1].stop()
	ds[2].stop()
	verdict(t, "3 processes over one database, %d pairs, one killed, %d pairs after it, %d caught tried again; p50 %v, p99 %v",
		before.Load(), after.Load(), caught.Load(), took.quantile(.5), took.quantile(.99))
}
