package websocket

import (
	"crypto/sha1" //nolint:gosec // RFC 6455 §1.3 asks for it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Opcodes, and the bit of a message's last frame (RFC 6455 §5.2).
const (
	Continuation byte = 0
	Text         byte = 1
	Binary       byte = 2
	Close        byte = 8
	Ping         byte = 9
	Pong         byte = 10

	Fin byte = 0x80
)

// ErrTooLong is a frame of more bytes than the reader takes.
var ErrTooLong = errors.New("a frame that is too long")

// Frame is one frame as it came, without its mask.
type Frame struct {
	First   byte // Fin, the reserved bits, the opcode
	Masked  bool
	Payload []byte
}

// Opcode is the frame's.
func (f *Frame) Opcode() byte { return f.First & 0x0f }

// Reserved tells whether a reserved bit is set.
func (f *Frame) Reserved() bool { return f.First&0x70 != 0 }

// Final tells whether it is its message's last.
func (f *Frame) Final() bool { return f.First&Fin != 0 }

// Append writes a frame behind to; mask nil: without one, as servers do.
func Append(to []byte, first byte, mask *[4]byte, payload []byte) []byte {
	masked := byte(0)
	if mask != nil {
		masked = 0x80
	}
	switch size := len(payload); {
	case size < 126:
		to = append(to, first, masked|byte(size))
	case size < 1<<16:
		to = append(to, first, masked|126)
		to = binary.BigEndian.AppendUint16(to, uint16(size))
	default:
		to = append(to, first, masked|127)
		to = binary.BigEndian.AppendUint64(to, uint64(size))
	}
	if mask == nil {
		return append(to, payload...)
	}
	to = append(to, mask[:]...)
	for i, b := range payload {
		to = append(to, b^mask[i%4])
	}
	return to
}

// Read reads a frame of at most so many bytes of payload. At the stream's end it
// gives io.EOF before a frame and another error within one.
func Read(in io.Reader, most int) (Frame, error) {
	var head [8]byte
	if _, err := io.ReadFull(in, head[:2]); err != nil {
		return Frame{}, err
	}
	frame := Frame{First: head[0], Masked: head[1]&0x80 != 0}
	size := uint64(head[1] & 0x7f)
	wide := map[uint64]int{126: 2, 127: 8}[size]
	if wide > 0 {
		if err := within(in, head[8-wide:]); err != nil {
			return Frame{}, err
		}
		clear(head[:8-wide])
		size = binary.BigEndian.Uint64(head[:])
	}
	if size > uint64(most) {
		return Frame{}, fmt.Errorf("%w: %d bytes", ErrTooLong, size)
	}
	var mask [4]byte
	if frame.Masked {
		if err := within(in, mask[:]); err != nil {
			return Frame{}, err
		}
	}
	frame.Payload = make([]byte, size)
	if err := within(in, frame.Payload); err != nil {
		return Frame{}, err
	}
	for i := range frame.Payload { // without a mask it is all zeros
		frame.Payload[i] ^= mask[i%4]
	}
	return frame, nil
}

// within fills a part of a frame.
func within(in io.Reader, part []byte) error {
	if _, err := io.ReadFull(in, part); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("in the middle of a frame: %w", err)
	}
	return nil
}

// AcceptKey is the answer to Sec-WebSocket-Key (RFC 6455 §4.2.2).
func AcceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	return base64.StdEncoding.EncodeToString(sum[:])
}
