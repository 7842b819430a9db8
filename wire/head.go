package wire

import (
	"encoding/binary"
	"errors"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

var (
	errEmpty       = errors.New("the message is empty")
	errEmptyArray  = errors.New("the array is empty")
	errFrameType   = errors.New("must be an integer from 0 to 127")
	errUnknownType = errors.New("is critical and unknown")
	errTooLarge    = errors.New("more than 65536 bytes")
)

// lastCritical is the highest frame type that may not be ignored.
const lastCritical = 31

// FromDevice reports whether devices send frames of this type.
func (t FrameType) FromDevice() bool { return t >= FrameHello && t <= FramePing }

// FromServer reports whether servers send frames of this type.
func (t FrameType) FromServer() bool { return t >= FrameWelcome && t <= FramePong }

// FrameTypeOf reads the head of any frame. The error is a *FrameError:
// CloseBadFrame, or CloseUnknownType for an unknown critical type. Unknown
// types from 32 on come back without an error and are to be ignored. A server
// that is sent a type that is not FromDevice closes with CloseUnknownType
// (PROTOCOL §3.6).
func FrameTypeOf(frame []byte) (FrameType, error) {
	pos := 1
	switch {
	case len(frame) == 0:
		return 0, badFrame("", errEmpty)
	case len(frame) > MaxFrameBytes:
		return 0, &FrameError{Close: CloseTooLarge, Err: errTooLarge} // PROTOCOL §10.1
	case msgpcode.IsFixedArray(frame[0]):
		if frame[0]&msgpcode.FixedArrayMask == 0 {
			return 0, badFrame("", errEmptyArray)
		}
	case frame[0] == msgpcode.Array16:
		pos = 3
		if len(frame) < pos {
			return 0, badFrame("", ErrTruncated)
		}
		if frame[1] == 0 && frame[2] == 0 {
			return 0, badFrame("", errEmptyArray)
		}
	case isWide(frame[0]):
		return 0, badFrame("", ErrWideLength) // PROTOCOL §3.4
	default:
		return 0, badFrame("", errNotArray) // PROTOCOL §3.1
	}
	kind, err := smallInteger(frame[pos:])
	if err != nil {
		return 0, badFrame("type", err)
	}
	t := FrameType(kind)
	if kind <= lastCritical && !t.FromDevice() && !t.FromServer() {
		return t, &FrameError{Close: CloseUnknownType, Field: "type", Err: errUnknownType} // PROTOCOL §3.6
	}
	return t, nil
}

// smallInteger reads an integer of any width from 0 to 127.
func smallInteger(value []byte) (uint8, error) {
	if len(value) == 0 {
		return 0, ErrTruncated
	}
	code := value[0]
	if code <= msgpcode.PosFixedNumHigh {
		return code, nil
	}
	if code < msgpcode.Uint8 || code > msgpcode.Int64 {
		return 0, errFrameType
	}
	// Codes come as 8, 16, 32, 64 bits, unsigned and then signed; positive
	// values look the same in both.
	size := 1 << ((code - msgpcode.Uint8) % 4)
	if len(value) < 1+size {
		return 0, ErrTruncated
	}
	var wide [8]byte
	copy(wide[8-size:], value[1:1+size])
	if n := binary.BigEndian.Uint64(wide[:]); n <= 127 {
		return uint8(n), nil
	}
	return 0, errFrameType
}

func badFrame(field string, err error) error {
	return &FrameError{Close: CloseBadFrame, Field: field, Err: err}
}
