// Package pubsub runs muster's pubsub against that of others, each peer a
// process: mesh, both signing policies, a thousand messages each way,
// resubscription, large messages, restart, peer exchange, IDONTWANT, and a
// mixed mesh. `make interop-pubsub` builds the peers and runs it; README.md
// says who they are and what each is known to do differently.
package pubsub
