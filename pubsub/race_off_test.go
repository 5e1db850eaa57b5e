//go:build !race

package pubsub

const underRace = false
