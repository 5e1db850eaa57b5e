//go:build !race

package rdvtransport_test

const raceEnabled = false
