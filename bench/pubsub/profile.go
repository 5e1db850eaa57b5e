package main

import (
	"os"
	"runtime"
	"runtime/pprof"
)

// startProfile profiles muster's rounds, if asked to.
func (r *runner) startProfile(im impl) (stop func(), err error) {
	if r.profile == "" || im.name != "muster" {
		return func() {}, nil
	}
	runtime.MemProfileRate = 512
	f, err := os.Create(r.profile)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
		if m, err := os.Create(r.profile + ".mem"); err == nil {
			_ = pprof.Lookup("allocs").WriteTo(m, 0)
			_ = m.Close()
		}
	}, nil
}
