// Package faults does to a running point what the world does: kills it, takes
// its disk, database, files, memory and clock away, corrupts what it keeps,
// and floods it. The tests start the real binary and talk to it over sockets,
// as others do; each prints one line with what was seen:
//
//	verdict: kill -9: 50 rounds, …
//
// They take some ten minutes, so that they are in a module of their own: run
// 'make faults'. What cannot be done on a machine is skipped with a message.
package faults
