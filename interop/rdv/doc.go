// Package interop runs muster's rdv verbs against the program of
// github.com/betamos/rdv v0.0.6, each as server, dialer and acceptor, as the
// black boxes that users have: processes, their standard streams, and TCP.
package interop
