package client

import (
	"time"

	"mooring/wire"
)

// EventKind says what an Event is about.
type EventKind uint8

// The kinds of events.
const (
	// EventConnected: the upgrade succeeded.
	EventConnected EventKind = iota + 1
	// EventWelcome: the server's WELCOME arrived; Welcome is set.
	EventWelcome
	// EventDisconnected: a connection or an attempt ended; Class, Code, Status,
	// Err, Wait are set.
	EventDisconnected
	// EventGoAway: the server asks to leave; Code and Text are set.
	EventGoAway
	// EventLayoutRejected: the server takes no rows of Layout; Code is the
	// refusal's, Channel the channel at fault or wire.WholeRow.
	EventLayoutRejected
	// EventDropped: the rows Seq … Seq+N-1 were given up: the poison rule, or
	// a row larger than the server's frames; or their layout is, and then Err is a
	// *LayoutSizeError.
	EventDropped
)

// Event is one thing that happened to the connection. Fields that its Kind does
// not name are zero.
type Event struct {
	Kind    EventKind
	Welcome wire.Welcome
	Class   wire.CloseClass
	Code    wire.CloseCode // 1006: no close frame arrived
	Status  int            // HTTP status that refused the upgrade; 0: none
	Err     error
	Wait    time.Duration // until the next attempt
	Text    string
	Layout  LayoutID
	Reason  wire.Code
	Channel int
	Seq, N  uint64
}

// Ack is an acknowledgement that settled rows.
type Ack struct {
	// Next is the first sequence number not settled.
	Next uint64
	// Rows is the number of rows it freed from the buffer.
	Rows int
	// Latencies has, for each frame that was settled, the time since it was
	// handed to the network. Valid until the callback returns.
	Latencies []time.Duration
}

// Stats are totals since New, and the state of now.
type Stats struct {
	Connected bool
	Session   int64  // of the last WELCOME
	Next      uint64 // the sequence number of the next row appended
	Unacked   uint64 // the sequence number of the oldest row in the buffer
	Rows      int    // in the buffer
	Bytes     int    // in the buffer
	InFlight  int    // frames sent on this connection and not acknowledged
	Commands  int    // taken from the server, and their answers not sent yet

	RowsAppended uint64
	RowsSettled  uint64 // freed by acknowledgements, refused ones included
	RowsDropped  uint64 // given up: DropOldest, poison rule, too large for any frame
	RowsSent     uint64 // retransmissions included
	FramesSent   uint64
	BytesSent    uint64 // of DATA frames, without WebSocket headers
	Refusals     uint64 // as counted by the server
	Poisoned     uint64 // frames dropped by the poison rule
	Connects     uint64 // upgrades that succeeded
	Failures     uint64 // connections and attempts that ended other than by Run's end
	ResultsLost  uint64 // answers to commands that found no room
}
