package main

import (
	"os"
	"runtime/pprof"
)

// startProfile profiles muster's rounds, if asked to.
func (r *runner) startProfile(im impl) (stop func(), err error) {
	if r.profile == "" || im.name != "muster" {
		return func() {}, nil
	}
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
	}, nil
}
