package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mooring/wire"
)

// device is one simulated device: a raw socket that sends prepared frames. One
// goroutine reads; writing is the caller's to order.
type device struct {
	token  string
	base   int64 // time of row 0, ms since 1970
	conn   net.Conn
	reader *bufio.Reader
	window int
	sent   uint64 // rows
	acked  uint64 // rows
	buffer []byte
	source net.Addr // where it connects from; nil: anywhere

	// Of turns: whether it has its turn, and the row until which it sent then.
	busy atomic.Bool
	goal atomic.Uint64
}

// Sizes of a device.
const (
	deviceReadBuffer = 512 // acks are small; a server's message has up to 1,023 bytes
	dialTimeout      = 30 * time.Second
	perAddress       = 1_000 // connections of one address: with many the kernel searches long for a free port
	firstWindow      = 4     // DATA frames before WELCOME (PROTOCOL §8)
)

// errRefused means that the handshake was answered with something else than 101.
var errRefused = errors.New("handshake refused")

// errEnded means that the server closed the connection.
var errEnded = errors.New("the server closed the connection")

// dial connects and upgrades.
func (d *device) dial(ctx context.Context, address string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// A context that can end costs a goroutine; on this machine nothing waits.
	conn, err := (&net.Dialer{LocalAddr: d.source}).DialContext(context.WithoutCancel(ctx), "tcp", address)
	if err != nil {
		return err
	}
	d.conn, d.window = conn, firstWindow
	if d.reader == nil {
		d.reader = bufio.NewReaderSize(conn, deviceReadBuffer)
	} else {
		d.reader.Reset(conn)
	}
	_ = conn.SetDeadline(time.Now().Add(dialTimeout))
	request := "GET " + wire.StreamPath + " HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" +
		"Authorization: Bearer " + d.token + "\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		return errors.Join(err, conn.Close())
	}
	status := ""
	for {
		line, err := d.reader.ReadString('\n')
		if err != nil {
			return errors.Join(err, conn.Close())
		}
		if status == "" {
			status = strings.TrimSpace(line)
		}
		if len(line) <= 2 {
			break
		}
	}
	if !strings.HasPrefix(status, "HTTP/1.1 101") {
		return errors.Join(fmt.Errorf("%w: %s", errRefused, status), conn.Close())
	}
	return conn.SetDeadline(time.Time{})
}

// sourceAddress is one of this machine's own addresses; there are 65,000.
func sourceAddress(number int) net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 1, byte(number>>8), byte(number))}
}

// introduction gives the frames that come before DATA.
func introduction(s shape) []byte {
	encoder := wire.NewEncoder()
	message := maskedMessage(nil, 2, encoder.Hello(wire.Hello{Model: "bench"}))
	return maskedMessage(message, 2, encoder.Layout(s.layout()))
}

// send writes prepared bytes.
func (d *device) send(message []byte) error {
	_, err := d.conn.Write(message)
	return err
}

// sendFrames writes this many DATA frames at once.
func (d *device) sendFrames(t *template, frames int) error {
	d.buffer = d.buffer[:0]
	for range frames {
		d.buffer = t.append(d.buffer, d.base, d.sent)
		d.sent += uint64(t.rows)
	}
	return d.send(d.buffer)
}

// buffers are for devices that send now and then: memory of its own for each of
// a large fleet costs the kernel more than sending.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// sendSome is sendFrames for a device that keeps no buffer.
func (d *device) sendSome(t *template, frames int) error {
	buffer := buffers.Get().(*[]byte)
	d.buffer = *buffer
	err := d.sendFrames(t, frames)
	*buffer, d.buffer = d.buffer, nil
	buffers.Put(buffer)
	return err
}

// outstanding is the number of frames sent and not acknowledged.
func (d *device) outstanding(t *template) int { return int(d.sent-d.acked) / t.rows }

var decoders = sync.Pool{New: func() any { return wire.NewDecoder(wire.Limits{}) }}

// next reads until something changes: the window, or what is acknowledged. It
// answers pings. acked is the number of rows newly acknowledged.
func (d *device) next() (acked uint64, err error) {
	for {
		opcode, payload, err := d.message()
		if err != nil {
			return 0, err
		}
		switch opcode {
		case 8:
			if len(payload) >= 2 {
				err = fmt.Errorf("%w: %v", errEnded, wire.CloseCode(binary.BigEndian.Uint16(payload)))
				return 0, err
			}
			return 0, errEnded
		case 9:
			if err := d.send(maskedMessage(nil, 10, payload)); err != nil {
				return 0, err
			}
			continue
		case 2:
		default:
			continue
		}
		kind, err := wire.FrameTypeOf(payload)
		if err != nil {
			return 0, err
		}
		decoder := decoders.Get().(*wire.Decoder)
		acked, told, err := d.frame(decoder, kind, payload)
		decoders.Put(decoder)
		if told || err != nil {
			return acked, err
		}
	}
}

func (d *device) frame(decoder *wire.Decoder, kind wire.FrameType, payload []byte) (acked uint64, told bool, err error) {
	switch kind {
	case wire.FrameWelcome:
		welcome, err := decoder.Welcome(payload)
		d.window = welcome.Window
		return 0, true, err
	case wire.FrameAck:
		ack, err := decoder.Ack(payload)
		if err != nil {
			return 0, false, err
		}
		if ack.Rejected > 0 || ack.Next < d.acked {
			return 0, false, fmt.Errorf("unexpected ACK: next %d after %d, %d rejected", ack.Next, d.acked, ack.Rejected)
		}
		d.window = ack.Window
		acked, d.acked = ack.Next-d.acked, ack.Next
		return acked, true, nil
	default:
		return 0, false, nil
	}
}

// message reads one WebSocket message; the payload is valid until the next call.
func (d *device) message() (opcode byte, payload []byte, err error) {
	head, err := d.reader.Peek(2)
	if err != nil {
		return 0, nil, err
	}
	opcode = head[0] & 0x0f
	size, skip := int(head[1]), 2
	if size == 126 {
		if head, err = d.reader.Peek(4); err != nil {
			return 0, nil, err
		}
		size, skip = int(binary.BigEndian.Uint16(head[2:])), 4
	}
	if _, err := d.reader.Discard(skip); err != nil {
		return 0, nil, err
	}
	if size > d.reader.Size() {
		payload = make([]byte, size)
		_, err = io.ReadFull(d.reader, payload)
		return opcode, payload, err
	}
	if payload, err = d.reader.Peek(size); err != nil {
		return 0, nil, err
	}
	_, err = d.reader.Discard(size) // the bytes stay until the next read
	return opcode, payload, err
}

// close ends the connection.
func (d *device) close() {
	if d.conn != nil {
		_ = d.conn.Close()
	}
}

// drop ends the connection without a farewell, as a device does that loses its
// power. It also leaves no port waiting behind.
func (d *device) drop() {
	if tcp, ok := d.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	d.close()
}
