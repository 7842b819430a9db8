package ingest

import (
	"context"
	"errors"
	"time"

	"mooring/wire"
)

// Errors an Authenticator answers with; the gateway turns them into HTTP 401
// and 403. Any other error is answered with 503 and Retry-After.
var (
	ErrUnauthenticated = errors.New("bad credential")
	ErrDisabled        = errors.New("device is disabled")
)

// Credential is what a handshake brought. One of Token and Certificate is set.
type Credential struct {
	Token       string // as the device holds it
	Name        string // from Basic authentication: must be the device's name; else empty
	Certificate string // device that a verified TLS client certificate names
	Serial      string // of that certificate, in hexadecimal
	Expires     int64  // end of that certificate, in seconds since 1970
	// OnlyKnown asks for no more than what is in memory, without waiting: a
	// credential that is not known there is answered with an error other than
	// ErrUnauthenticated and ErrDisabled.
	OnlyKnown bool
	Remote    string // where it comes from, for people
}

// Device is who a credential belongs to.
type Device struct {
	ID   int32
	Name string
	// TokenID is the credential's own number, so that its revocation can end
	// the sessions that used it; 0 for certificates.
	TokenID int64
	// Serial is the certificate's, in hexadecimal, and Expires its end, in
	// seconds since 1970; empty and 0 for tokens.
	Serial  string
	Expires int64
	// RowRate and ByteRate are what it may send a second; 0: as Config says for
	// all; below 0: no limit.
	RowRate, ByteRate int32
}

// Authenticator tells whose credential it is. It is called once per handshake,
// from that handshake's goroutine, so it should answer from memory when it can.
type Authenticator interface {
	Authenticate(ctx context.Context, credential Credential) (Device, error)
}

// SessionStart is what is known when a session opens.
type SessionStart struct {
	Device    Device
	Remote    string // peer address
	BootID    uint32
	Model     string
	Firmware  string
	Connected time.Time
}

// SessionInfo is what the record keeper answers.
type SessionInfo struct {
	Session int64 // rises with every session of the device, on any gateway
	Next    uint64
	HasNext bool // Next is the first sequence number of this boot not yet committed, as far as known
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
	LastSeen time.Time
	Next     uint64 // first sequence number not yet settled
	HasNext  bool
	Counts   SessionCounts
	Throttle Throttling
}

// SessionEnd is a session's last state.
type SessionEnd struct {
	SessionProgress
	Disconnected time.Time
	Code         wire.CloseCode
	Reason       string // in words, for people
	// Incomplete says that the store gave up rows of the session: some of the
	// returned ones may be stored all the same.
	Incomplete bool
}

// SessionLog keeps the record of who is and was connected.
type SessionLog interface {
	// Open records a new session and waits until the record is committed, so
	// that the session numbers of a device are in the order of its connections.
	// It may wait for the database. An error that matches ErrUnauthenticated or
	// ErrDisabled says that the credential was revoked since the handshake; any
	// other one closes the connection with wire.CloseInternal.
	Open(ctx context.Context, start SessionStart) (SessionInfo, error)
	// Progress records how far a session got. It never blocks; only the last
	// progress of a session counts.
	Progress(progress SessionProgress)
	// Close records the end of a session. It never blocks and is never lost
	// while the process lives.
	Close(end SessionEnd)
}

// RejectedRow is a row that the database refuses for good (CodeStorage).
type RejectedRow struct {
	Device int32
	Seq    uint64
	Time   int64 // microseconds since 1970
}

// Outcome is what became of a written batch. It is the gateway's, which may
// change it.
type Outcome struct {
	Duplicates map[int32]int // rows that were stored before, by device; nil: none
	Rejected   []RejectedRow // rows that could not be stored
}

// RowStore is where rows go.
type RowStore interface {
	// ResolveLayout gives the store's number for a layout's content. It may
	// wait for the database; the session keeps the answer. An error that
	// matches ErrLayoutRefused is final, others may pass.
	ResolveLayout(ctx context.Context, device int32, layout *wire.Layout) (int32, error)

	// AppendRow appends a row to dst in the store's own encoding, in which rows
	// can be put one behind the other. It must not keep row or dst. It does not
	// allocate when dst has room.
	AppendRow(dst []byte, device, layout int32, row *wire.Row) []byte

	// Write stores count rows that AppendRow encoded and returns when every one
	// of them is committed, a duplicate of a committed one, or in
	// Outcome.Rejected. While the database is away it keeps trying; it gives up
	// only when ctx ends, and then nothing may be acknowledged. One call at a
	// time per writer; rows are not kept after it returns. resent names devices,
	// rising, some of whose rows may well be stored already: a hint that may be
	// wrong either way.
	Write(ctx context.Context, writer int, rows []byte, count int, resent []int32) (Outcome, error)

	// RecordRejects logs refused rows for people. It never blocks; what it
	// can't keep it counts. It must not keep rejects, layout or frame. layout is
	// nil when it is not known.
	RecordRejects(device int32, rejects []wire.Reject, layout *wire.Layout, frame []byte)
}

// ErrLayoutRefused is matched by a ResolveLayout error that will not pass.
var ErrLayoutRefused = errors.New("layout refused by the store")
