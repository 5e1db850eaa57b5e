// Package rendezvous runs muster's rendezvous point and client against those
// of others, each a process, in both directions: register, discover, page,
// unregister, expire. `make interop-rendezvous` builds the peers and runs it;
// README.md says who they are and what each is known to do differently.
package rendezvous
