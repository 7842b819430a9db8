package wire

import "errors"

// Limits of the protocol itself (PROTOCOL §10).
const (
	// MaxSeq is one more than the highest sequence number a row can have, so
	// that every number, and every ack's next, is exact in a float64.
	MaxSeq = 1 << 53
	// MaxFrameBytes is the largest frame any server may accept.
	MaxFrameBytes = 64 << 10
	// MaxDepth is how many arrays and maps may lie in one another, the frame's
	// own array included.
	MaxDepth = 8
	// MaxName is the length of names of channels, layouts and commands, and of
	// units, models and firmware versions, in bytes.
	MaxName = 64
	// MaxStep is the largest distance between regular rows, in microseconds.
	MaxStep = 24 * 60 * 60 * 1_000_000
	// MaxLayoutNumber is the highest number a device can give a layout.
	MaxLayoutNumber = 1<<16 - 1
	// FirstInferred is the lowest Layout.Number of layouts declared on the
	// fly; the numbers devices declare are below it.
	FirstInferred = MaxLayoutNumber + 1
	// MinReceive is the least max_rx a device may state, and DefaultReceive
	// what holds when it states none; bytes.
	MinReceive     = 256
	DefaultReceive = 1024

	// maxCount is the largest count that a 16-bit header can carry.
	maxCount = 1<<16 - 1
	// maxMillis bounds times: beyond it a number of milliseconds is not exact
	// in a float64 and a number of microseconds may not fit in an int64.
	maxMillis = 1 << 53
)

// Defaults of Limits.
const (
	DefaultMaxRows     = 4096
	DefaultMaxChannels = 256
	DefaultMaxText     = 255
	DefaultMaxInferred = 16
)

func (l Limits) withDefaults() Limits {
	if l.MaxRows <= 0 {
		l.MaxRows = DefaultMaxRows
	}
	if l.MaxChannels <= 0 {
		l.MaxChannels = DefaultMaxChannels
	}
	if l.MaxText <= 0 {
		l.MaxText = DefaultMaxText
	}
	if l.MaxInferred <= 0 {
		l.MaxInferred = DefaultMaxInferred
	}
	return l
}

// Faults that need no numbers in their text are made once, so that refusing
// hostile input costs no memory.
var (
	errAbsent      = errors.New("is absent")
	errNotArray    = errors.New("is not an array")
	errNotInteger  = errors.New("is not an integer")
	errNotString   = errors.New("is not a string")
	errNegative    = errors.New("is negative")
	errNeverUsed   = errors.New("byte 0xc1 starts no value")
	errUTF8        = errors.New("is not UTF-8 without U+0000")
	errTimeRange   = errors.New("a time does not fit in 64 bits of milliseconds")
	errCount       = errors.New("the number of values does not match n and the layout")
	errPackStep    = errors.New("packed values need a step")
	errPackType    = errors.New("is neither an array nor an ext object of type 2, 3 or 4")
	errMoreThanFit = errors.New("more elements than bytes are left")
)
