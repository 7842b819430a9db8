package conform

import (
	"bufio"
	"crypto/sha1" //nolint:gosec // RFC 6455 §1.3 asks for it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Opcodes and the bit of a message's last frame (RFC 6455 §5.2).
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
	fin            = 0x80
)

const (
	// maxMessage is more than any server takes (PROTOCOL §10).
	maxMessage = 64 << 10
	// maxFragments is PROTOCOL §8.5's.
	maxFragments = 1024
	// writeLimit bounds a write to a program that does not read.
	writeLimit = 5 * time.Second
)

var (
	errUnmasked  = errors.New("a frame without a mask")
	errReserved  = errors.New("a frame with reserved bits or an unknown opcode")
	errFragments = errors.New("fragments out of order")
	errLarge     = errors.New("a message of more than 64 KiB")
)

// socket is a server's end of a WebSocket connection. One goroutine reads, any
// may write.
type socket struct {
	conn net.Conn
	in   *bufio.Reader

	mu sync.Mutex // of writing
}

// message is what a program sent: a message, put together, or a control frame.
type message struct {
	opcode    byte
	payload   []byte
	fragments int
}

// acceptKey is the answer to Sec-WebSocket-Key.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	return base64.StdEncoding.EncodeToString(sum[:])
}

// write sends one whole frame.
func (s *socket) write(opcode byte, payload []byte) {
	frame := []byte{fin | opcode}
	if len(payload) < 126 {
		frame = append(frame, byte(len(payload)))
	} else {
		frame = append(frame, 126)
		frame = binary.BigEndian.AppendUint16(frame, uint16(len(payload)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(writeLimit))
	_, _ = s.conn.Write(append(frame, payload...)) // what can't be written shows when reading
}

// read reads a message or a control frame. Control frames may come between the
// fragments of a message, so partial keeps those.
func (s *socket) read(partial *message) (message, error) {
	for {
		first, payload, err := s.frame()
		if err != nil {
			return message{}, err
		}
		opcode := first & 0x0f
		switch {
		case opcode >= opClose:
			if opcode > opPong || first&fin == 0 || len(payload) > 125 {
				return message{}, errReserved
			}
			return message{opcode: opcode, payload: payload, fragments: 1}, nil
		case opcode > opBinary:
			return message{}, errReserved
		case (opcode == opContinuation) != (partial.fragments > 0):
			return message{}, errFragments
		case opcode != opContinuation:
			partial.opcode = opcode
		}
		partial.payload = append(partial.payload, payload...)
		partial.fragments++
		if len(partial.payload) > maxMessage {
			return message{}, errLarge
		}
		if first&fin != 0 {
			whole := *partial
			*partial = message{}
			return whole, nil
		}
	}
}

func (s *socket) frame() (first byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return 0, nil, err
	}
	if head[0]&0x70 != 0 {
		return 0, nil, errReserved
	}
	size := uint64(head[1] & 0x7f)
	switch size {
	case 126:
		var wide [2]byte
		if _, err := io.ReadFull(s.in, wide[:]); err != nil {
			return 0, nil, err
		}
		size = uint64(binary.BigEndian.Uint16(wide[:]))
	case 127:
		var wide [8]byte
		if _, err := io.ReadFull(s.in, wide[:]); err != nil {
			return 0, nil, err
		}
		size = binary.BigEndian.Uint64(wide[:])
	}
	if size > maxMessage {
		return 0, nil, errLarge
	}
	if head[1]&0x80 == 0 {
		return 0, nil, errUnmasked
	}
	var mask [4]byte
	if _, err := io.ReadFull(s.in, mask[:]); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, size)
	if _, err := io.ReadFull(s.in, payload); err != nil {
		return 0, nil, fmt.Errorf("in the middle of a frame: %w", err)
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return head[0], payload, nil
}
