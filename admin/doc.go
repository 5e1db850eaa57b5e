// Package admin is a daemon's own listener: metrics, health, profiles, and a
// status page that is live in a browser.
//
//	GET /              the status page
//	GET /livez         200 while the process serves; needs no token
//	GET /readyz        200, or 503 and the parts that fail (?format=json or Accept: application/json)
//	GET /metrics       Prometheus text
//	GET /api/status    a [Snapshot] in JSON
//	GET /api/peers     [Peer]s in JSON; ?limit=N
//	GET /api/events    server-sent events: "history" once, then "status" each second
//	GET /api/loglevel  the log level; PUT sets it: debug, info, warn or error
//	GET /debug/pprof/  Go's profiles
//
// Start with [New] and [Server.Start]. The package knows its daemon by the
// functions in [Config] only, and imports nothing else of this module.
//
// What is served here is for the operator. A [Server] therefore listens on
// loopback or on a unix socket that only its owner can open; elsewhere it wants
// a token and TLS. Requests that a web page of somebody else could have caused
// are refused: by Host, which a rebound name gets wrong, and by Origin and
// Sec-Fetch-Site. All that clients can make it hold is bounded: connections,
// subscribers, profiles at once, header and body sizes, and time.
package admin
