package devices

import (
	"time"

	"mooring/wire"
)

// SessionStart is what is known when a session opens.
type SessionStart struct {
	Device    Device
	Remote    string // peer address
	BootID    uint32 // 0: unknown
	Model     string
	Firmware  string
	Connected time.Time
}

// SessionInfo answers OpenSession.
type SessionInfo struct {
	// Session rises with every session of the device, on any gateway.
	Session int64
	// Next is the first sequence number of this boot that is not yet settled,
	// as far as known; HasNext says whether anything is.
	Next    uint64
	HasNext bool
}

// SessionCounts are totals since the session opened.
type SessionCounts struct {
	RowsIn        uint64 // rows decoded, refused ones included
	RowsCommitted uint64
	RowsDuplicate uint64
	RowsRejected  uint64 // whole rows refused
	RowsLost      uint64 // gaps in the sequence numbers: given up by the device
	RowsWaiting   uint64 // received and not yet settled
	RowsReturned  uint64 // received and not settled when the session ended: the device still has them
}

// Throttling is how a session was told to slow down, because of its quota.
type Throttling struct {
	Times        uint64    // since the session opened; 0: never, and the rest is nothing
	Last         time.Time // when it was told last
	MinGapMillis int       // the gap between frames that it was asked for then
	ForSeconds   int       // and for how long
}

// SessionProgress is a session's state while it lives.
type SessionProgress struct {
	Session  int64
	LastSeen time.Time // zero: unchanged
	Next     uint64    // first sequence number not yet settled
	HasNext  bool
	Counts   SessionCounts
	Throttle Throttling
}

// SessionEnd is a session's last state.
type SessionEnd struct {
	SessionProgress
	Disconnected time.Time
	Code         wire.CloseCode // 0: unknown, stored as NULL
	Reason       string         // in words, for people
	Incomplete   bool           // the counts may lack rows that are stored
}

// Revocation says whose connections are to end: with close code 4502 if
// Disabled, 4101 if Replaced, else 4501.
type Revocation struct {
	DeviceID int32
	TokenID  int64  // only sessions with this token; 0: all of the device
	Serial   string // only sessions with this certificate; empty: as TokenID says
	Disabled bool
	// Replaced is the one session to end, because a newer one of the device is on
	// record; 0: that is not the reason.
	Replaced int64
}
