package wire

import (
	"errors"
	"fmt"
)

// Errors that FrameError, BodyError and LayoutError wrap.
var (
	// ErrTruncated means that the frame ends inside a value.
	ErrTruncated = errors.New("the frame ends inside a value")
	// ErrTrailing means that bytes follow the frame's array.
	ErrTrailing = errors.New("bytes follow the frame's array")
	// ErrWideLength means array32, map32, str32, bin32 or ext32.
	ErrWideLength = errors.New("32-bit lengths are not accepted")
	// ErrDepth means that values nest deeper than MaxDepth.
	ErrDepth = errors.New("values nest deeper than 8")
)

// FrameError is a fault that ends the connection with Close.
type FrameError struct {
	Close CloseCode
	Field string // the field at fault, as PROTOCOL.md names it; empty: the frame
	Err   error
}

func (e *FrameError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("frame refused (%d %s): %v", uint16(e.Close), e.Close, e.Err)
	}
	return fmt.Sprintf("frame refused (%d %s): %s: %v", uint16(e.Close), e.Close, e.Field, e.Err)
}

// Unwrap gives the fault itself.
func (e *FrameError) Unwrap() error { return e.Err }

// BodyError refuses the rows Seq … Seq+N-1 of a DATA frame whole; the
// connection stays (PROTOCOL §5.4).
type BodyError struct {
	Seq   uint64
	N     uint64
	Code  Code
	Field string // the field at fault, as PROTOCOL.md names it
	Err   error
}

func (e *BodyError) Error() string {
	return fmt.Sprintf("rows %d to %d refused (%s): %s: %v", e.Seq, e.Seq+e.N-1, e.Code, e.Field, e.Err)
}

// Unwrap gives the fault itself.
func (e *BodyError) Unwrap() error { return e.Err }

// Reject is the refusal as an ACK reports it.
func (e *BodyError) Reject() Reject {
	return Reject{Seq: e.Seq, N: e.N, Channel: WholeRow, Code: e.Code}
}

// LayoutError refuses a LAYOUT; the connection stays (PROTOCOL §4.2).
type LayoutError struct {
	Layout  uint32
	Channel int // index of the channel at fault, or WholeRow: the layout itself
	Code    Code
	Err     error
}

func (e *LayoutError) Error() string {
	if e.Channel == WholeRow {
		return fmt.Sprintf("layout %d refused (%s): %v", e.Layout, e.Code, e.Err)
	}
	return fmt.Sprintf("layout %d refused (%s): channel %d: %v", e.Layout, e.Code, e.Channel, e.Err)
}

// Unwrap gives the fault itself.
func (e *LayoutError) Unwrap() error { return e.Err }

// Notice is the refusal as the device is told.
func (e *LayoutError) Notice() Notice {
	return Notice{Kind: NoticeLayoutRejected, Layout: e.Layout, Channel: e.Channel, Reason: e.Code}
}
