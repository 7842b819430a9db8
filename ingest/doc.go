// Package ingest is the gateway between devices and the store: the WebSocket
// endpoint, sessions, heartbeat, flow control, batching and acknowledgements.
//
// It knows neither the database nor the registry: ports.go states what it needs
// of them, and cmd plugs the real ones in.
//
// # The way of a row
//
//	socket ── link.go           the raw connection as gws sees it
//	  guard.go                  ends what would go on for ever, by the frames' heads
//	  gws ReadLoop              one goroutine a connection, session.go
//	    frames.go, data.go      decode a frame, refuse what is wrong by name
//	      layouts.go            which channels a row has
//	      shard.go              one lock, one copy, one note: who, how far
//	        writer.go           writes whatever gathered, settles every note
//	          outbox.go         one coalesced ACK a session
//	            flush.go        the only place that writes to the socket
//
// # Goroutines
//
// A Gateway owns all of them and Stop waits for all of them: one writer a
// shard, one for the timers (heartbeat.go), one a connection (session.go), and
// at most one a connection that has something to write (flush.go). Start
// begins, Stop ends; both are safe to call once, Stop any number of times.
//
// # Bounds
//
// Rows not yet committed: Config.MaxBatchBytes twice a writer; past that,
// sessions stop reading, which is TCP backpressure, and each holds one received
// frame at most. Outgoing: one ACK, one Pong and Config.MaxOutbox bytes of other
// frames a session; a device that leaves more unread is closed SLOW_READER.
package ingest
