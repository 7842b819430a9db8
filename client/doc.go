// Package client is the Go device client of the mooring.v1 protocol: it buffers
// rows, sends them over one WebSocket connection, and forgets a row only when
// the server said that it is settled (committed, a duplicate, or refused).
//
// A Client numbers the rows given to Append and keeps them in a buffer that is
// bounded in rows and bytes. Run connects, sends, receives acknowledgements, and
// after a lost connection comes back when the protocol's table of close codes
// says so (Retry) and sends again from the oldest unacknowledged row. The hint
// WELCOME.next is not used to skip rows: an acknowledgement is cumulative, so it
// would then vouch for rows that were skipped on the strength of a hint, and all
// it could save is one window of frames.
//
// # Goroutines
//
// Run uses its caller's goroutine to dial and write, one goroutine per
// connection to read, and one for commands, started when the first one arrives.
// It returns when all of them have ended. New starts none. Append, AppendBatch,
// Flush, WaitAcked, Stats and Now may be called from any goroutine, before,
// while and after Run runs; Run must not run twice at a time.
//
// # Buffers
//
// Rows lie encoded in 4 KiB pieces taken from a pool that all clients of the
// process share; an idle client holds none. Nothing is allocated per row.
//
// # Callbacks
//
// OnAck and OnReject are called from the reading goroutine, one at a time, and
// hold the connection up until they return. OnEvent may also come from Run's own
// goroutine at the same time. All may call every method of the Client except Run
// and WaitAcked. OnCommand has a goroutine of its own.
package client
