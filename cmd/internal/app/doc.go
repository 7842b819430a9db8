// Package app puts the server together: it starts the database if there is
// none, plugs devices and storage into the gateway's ports, and serves HTTP.
// cmd/mooring is a thin command line over it, and tests start it the same way.
//
// # Lifecycle
//
// New only notes the configuration. Start builds the parts one after the other
// and returns when devices can connect; if one fails, those before it are
// stopped again. Stop is synchronous and idempotent. It takes the parts down in
// the opposite order, which is the order that loses nothing: new connections
// are refused and devices told to go (gateway), what they sent is written and
// acknowledged, connections close, session records are flushed (devices), the
// store closes (storage), and a private Postgres stops last.
//
// # Goroutines
//
// App owns four: for the HTTP server, for the operator's pages, one that looks at
// certificate files, and one that gives memory back. net/http owns those of
// handshakes. All others belong to the parts.
package app
