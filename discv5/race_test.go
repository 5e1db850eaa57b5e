//go:build race

package discv5_test

// raceEnabled scales simulations down: the detector makes them ten times slower.
const raceEnabled = true
