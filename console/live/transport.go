package live

import (
	"encoding/binary"
	"net"
	"sync/atomic"
	"time"
)

// transport is a viewer's connection.
type transport interface {
	framing
	write(framed []byte) error
	// sign sends a sign of life.
	sign() error
	// silence is how long nothing was heard; 0 where nothing is to be.
	silence() time.Duration
	// farewell ends the connection in words.
	farewell(code uint16, reason string)
	// abort closes it, whatever is under way.
	abort()
	// read returns when the other side is gone.
	read(v *viewer)
	name() string
}

// wire is the socket under either transport.
type wire struct {
	conn    net.Conn
	timeout time.Duration
	heard   atomic.Int64 // Unix nanoseconds
}

// sendBuffer bounds what the kernel keeps of a viewer that does not read.
const sendBuffer = 32 << 10

func newWire(conn net.Conn, timeout time.Duration) wire {
	if socket, ok := innermost(conn).(interface{ SetWriteBuffer(bytes int) error }); ok {
		_ = socket.SetWriteBuffer(sendBuffer) // without it, memory is the kernel's to bound
	}
	return wire{conn: conn, timeout: timeout}
}

// innermost is the socket that TLS and others are wrapped around.
func innermost(conn net.Conn) net.Conn {
	for {
		outer, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = outer.NetConn()
	}
}

// write sends whole frames in one piece, so that two writers never mix.
func (w *wire) write(framed []byte) error {
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return err
	}
	_, err := w.conn.Write(framed)
	return err
}

func (w *wire) abort() {
	_ = innermost(w.conn).Close() // TLS would say good-bye first
	_ = w.conn.Close()
}

// eventStream is Server-Sent Events (HTML, section 9.2), its body ended by the
// end of the connection.
type eventStream struct{ wire }

const eventStreamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n" +
	"X-Content-Type-Options: nosniff\r\nX-Accel-Buffering: no\r\nConnection: close\r\n\r\nretry: 2000\n\n"

func (*eventStream) name() string { return "sse" }

func (*eventStream) begin(dst []byte, kind string) []byte {
	dst = append(dst, "event: "...)
	dst = append(dst, kind...)
	return append(dst, "\ndata: "...)
}

// end relies on messages having no line breaks: JSON escapes those in strings.
func (*eventStream) end(dst []byte, _ int, cursor []byte) []byte {
	if cursor != nil {
		dst = append(dst, "\nid: "...)
		dst = append(dst, cursor...)
	}
	return append(dst, "\n\n"...)
}

func (s *eventStream) sign() error          { return s.write([]byte(":\n\n")) }
func (*eventStream) silence() time.Duration { return 0 }

func (s *eventStream) farewell(uint16, string) { _ = s.conn.Close() }

// read waits for the end: an HTTP client has nothing more to say.
func (s *eventStream) read(*viewer) {
	_ = s.conn.SetReadDeadline(time.Time{})
	var some [64]byte
	for said := 0; said < 4096; {
		n, err := s.conn.Read(some[:])
		if err != nil {
			return
		}
		said += n
	}
}

// appendFrameHead appends the head of a server's text or control frame (RFC 6455
// section 5.2).
func appendFrameHead(dst []byte, opcode byte, length int) []byte {
	dst = append(dst, 0x80|opcode)
	switch {
	case length < 126:
		return append(dst, byte(length))
	case length < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(length))
}
