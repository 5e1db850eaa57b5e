//go:build !race

package discv5_test

const raceEnabled = false
