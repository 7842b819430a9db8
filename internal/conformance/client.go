package conformance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"mooring/wire"
)

// patience is how long the client waits for an answer.
const patience = time.Minute

// The opcodes of RFC 6455 §5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// fin is the bit of the last frame of a message.
const fin = 0x80

// Client is one WebSocket connection, upgraded and welcomed.
type Client struct {
	conn    net.Conn
	in      *bufio.Reader
	decoder *wire.Decoder
	chop    int // bytes in each write; 0: all at once
	echo    uint64
}

// Dial connects to a server's endpoint at addr, host and port, with a token, says
// HELLO and waits for WELCOME.
func Dial(ctx context.Context, addr, token string) (*Client, error) {
	dialer := net.Dialer{Timeout: patience}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("conformance: %w", err)
	}
	c := &Client{conn: conn, in: bufio.NewReader(conn), decoder: wire.NewDecoder(wire.Limits{})}
	if err := c.handshake(token); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("conformance: %w", err)
	}
	return c, nil
}

// Close ends the connection without a word.
func (c *Client) Close() { _ = c.conn.Close() }

func (c *Client) handshake(token string) error {
	c.write(fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: conformance\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+
		"Sec-WebSocket-Protocol: %s\r\nAuthorization: Bearer %s\r\n\r\n", wire.StreamPath, wire.Subprotocol, token))
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return fmt.Errorf("read the handshake's answer: %w", err)
	}
	_ = response.Body.Close()
	// RFC 6455 §1.3 has this key and this answer as its example.
	if accept := response.Header.Get("Sec-Websocket-Accept"); accept != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		return fmt.Errorf("status %d, Sec-WebSocket-Accept %q", response.StatusCode, accept)
	}
	c.message(wire.NewEncoder().Hello(wire.Hello{}))
	_, payload, err := c.next(opBinary)
	if err != nil {
		return err
	}
	if _, err := c.decoder.Welcome(payload); err != nil {
		return fmt.Errorf("expected WELCOME: %w", err)
	}
	return nil
}

// write writes bytes, in pieces of chop. What can't be written any more shows when
// the answer is read.
func (c *Client) write(b []byte) {
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	for size := c.chop; size > 0 && len(b) > size; b = b[size:] {
		if _, err := c.conn.Write(b[:size]); err != nil {
			return
		}
	}
	_, _ = c.conn.Write(b)
}

// frame sends one masked frame; first has FIN, reserved bits and opcode.
func (c *Client) frame(first byte, payload []byte) { c.write(appendFrame(nil, first, payload)) }

// message sends a binary message in one frame.
func (c *Client) message(payload []byte) { c.frame(fin|opBinary, payload) }

// fragments sends a binary message in frames of size bytes each.
func (c *Client) fragments(payload []byte, size int) {
	first := byte(opBinary)
	for len(payload) > size {
		c.frame(first, payload[:size])
		payload, first = payload[size:], opContinuation
	}
	c.frame(fin|first, payload)
}

// appendFrame appends a client's frame (RFC 6455 §5.2).
func appendFrame(dst []byte, first byte, payload []byte) []byte {
	dst = append(dst, first)
	switch n := len(payload); {
	case n <= 125:
		dst = append(dst, 0x80|byte(n))
	case n <= 0xFFFF:
		dst = append(dst, 0x80|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	default:
		dst = append(dst, 0x80|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	mask := [4]byte{0xA5, 0x17, 0x00, 0xFE}
	dst = append(dst, mask[:]...)
	for i, b := range payload {
		dst = append(dst, b^mask[i%4])
	}
	return dst
}

// ping makes a PING frame of exactly size bytes, at least 14, whose echo is a new
// number.
func (c *Client) ping(size int) []byte {
	c.echo++
	frame := []byte{0x93, byte(wire.FramePing), 0xCF}
	frame = binary.BigEndian.AppendUint64(frame, c.echo)
	switch padding := size - len(frame) - 2; { // an element that receivers ignore (PROTOCOL §3.2)
	case padding <= 255:
		frame = append(frame, 0xC4, byte(padding))
	default:
		frame = append(frame, 0xC5)
		frame = binary.BigEndian.AppendUint16(frame, uint16(padding-1))
	}
	return append(frame, bytes.Repeat([]byte{0xFE}, size-len(frame))...)
}

// read reads the server's next frame.
func (c *Client) read() (opcode byte, payload []byte, err error) {
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	var head [2]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return 0, nil, err
	}
	if head[0]&0xF0 != fin || head[1]&0x80 != 0 {
		return 0, nil, fmt.Errorf("a server's frame is whole, unmasked and without reserved bits: % x", head)
	}
	length := int(head[1])
	if length == 126 {
		var long [2]byte
		if _, err := io.ReadFull(c.in, long[:]); err != nil {
			return 0, nil, err
		}
		length = int(binary.BigEndian.Uint16(long[:]))
	}
	if length == 127 {
		return 0, nil, errors.New("no message of a server is larger than 64 KiB (PROTOCOL §2.6)")
	}
	payload = make([]byte, length)
	_, err = io.ReadFull(c.in, payload)
	return head[0] & 0x0F, payload, err
}

// next reads a frame that must have one of these opcodes, past the heartbeat's
// empty Pings.
func (c *Client) next(opcodes ...byte) (opcode byte, payload []byte, err error) {
	for {
		opcode, payload, err = c.read()
		if err != nil {
			return 0, nil, fmt.Errorf("expected opcode %x: %w", opcodes, err)
		}
		if bytes.IndexByte(opcodes, opcode) >= 0 {
			return opcode, payload, nil
		}
		if opcode != opPing || len(payload) > 0 {
			return 0, nil, fmt.Errorf("expected opcode %x, got %x: %x %q", opcodes, opcode, payload, payload)
		}
	}
}

// echoed expects the answer to the last ping, and to nothing else.
func (c *Client) echoed() error {
	_, payload, err := c.next(opBinary)
	if err != nil {
		return err
	}
	pong, err := c.decoder.Pong(payload)
	if err != nil {
		return fmt.Errorf("expected a PONG frame: %w", err)
	}
	if pong.Echo != c.echo {
		return fmt.Errorf("expected the echo %d, got %d", c.echo, pong.Echo)
	}
	return nil
}

// ponged expects a WebSocket Pong with this payload.
func (c *Client) ponged(want string) error {
	_, payload, err := c.next(opPong)
	if err == nil && string(payload) != want {
		return fmt.Errorf("expected a Pong with %q, got %q", want, payload)
	}
	return err
}

// closed expects a close frame with one of these codes, 1005 for one without any,
// and the end of the stream. A GOAWAY may precede it (PROTOCOL §9.3).
func (c *Client) closed(codes ...int) error {
	opcode, payload, err := c.next(opBinary, opClose)
	if err == nil && opcode == opBinary {
		notice, fault := c.decoder.Notice(payload)
		if fault != nil || notice.Kind != wire.NoticeGoAway {
			return fmt.Errorf("expected GOAWAY or a close frame, got %x", payload)
		}
		_, payload, err = c.next(opClose)
	}
	if err != nil {
		return err
	}
	code := 1005
	if len(payload) >= 2 {
		code = int(binary.BigEndian.Uint16(payload))
	}
	if slices.Contains(codes, code) {
		return c.ended()
	}
	return fmt.Errorf("expected a close with %v, got %d %q", codes, code, payload[min(2, len(payload)):])
}

// ended expects the end of the stream, and nothing before it.
func (c *Client) ended() error {
	opcode, payload, err := c.read()
	switch {
	case err == nil:
		return fmt.Errorf("expected the end of the stream, got opcode %x: %x", opcode, payload)
	case errors.Is(err, io.EOF):
		return nil
	default:
		return fmt.Errorf("expected the end of the stream: %w", err)
	}
}
