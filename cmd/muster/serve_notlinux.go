//go:build !linux

package main

func noDumps() error { return nil }

func memoryMax() int64 { return 0 }
