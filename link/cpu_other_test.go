//go:build !unix

package link_test

import "time"

func cpuTime() time.Duration { return 0 }
