package conform

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"time"

	"mooring/cmd/internal/websocket"
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

// write sends one whole frame.
func (s *socket) write(opcode byte, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(writeLimit))
	_, _ = s.conn.Write(websocket.Append(nil, websocket.Fin|opcode, nil, payload)) // what can't be written shows when reading
}

// read reads a message or a control frame. Control frames may come between the
// fragments of a message, so partial keeps those.
func (s *socket) read(partial *message) (message, error) {
	for {
		frame, err := websocket.Read(s.in, maxMessage)
		if err != nil {
			return message{}, err
		}
		opcode := frame.Opcode()
		switch {
		case frame.Reserved():
			return message{}, errReserved
		case !frame.Masked:
			return message{}, errUnmasked
		case opcode >= websocket.Close:
			if opcode > websocket.Pong || !frame.Final() || len(frame.Payload) > 125 {
				return message{}, errReserved
			}
			return message{opcode: opcode, payload: frame.Payload, fragments: 1}, nil
		case opcode > websocket.Binary:
			return message{}, errReserved
		case (opcode == websocket.Continuation) != (partial.fragments > 0):
			return message{}, errFragments
		case opcode != websocket.Continuation:
			partial.opcode = opcode
		}
		partial.payload = append(partial.payload, frame.Payload...)
		partial.fragments++
		if len(partial.payload) > maxMessage {
			return message{}, websocket.ErrTooLong
		}
		if frame.Final() {
			whole := *partial
			*partial = message{}
			return whole, nil
		}
	}
}
