//go:build race

package rdvtransport_test

const raceEnabled = true
