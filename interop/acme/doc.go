// Package acme runs 'muster serve --tls-mode acme' against pebble, Let's
// Encrypt's authority for tests, over tls-alpn-01 and http-01: first issue,
// restart, renewal, an authority that is away, that cannot reach the point, or
// that wants an account. 'make interop-acme' builds both and runs it.
package acme
