// Package ingest is the gateway between devices and the store: the WebSocket
// endpoint, sessions, heartbeat, flow control, batching and acknowledgements.
//
// It knows neither the database nor the registry: ports.go states what it needs
// of them, and cmd plugs the real ones in.
package ingest
