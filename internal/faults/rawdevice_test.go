//go:build linux

package faults_test

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
	"mooring/wire"
)

// rawDevice is a device of the scenario's own, for what the fleet does not do.
type rawDevice struct {
	t       *testing.T
	conn    net.Conn
	reader  *bufio.Reader
	encoder *wire.Encoder
	decoder *wire.Decoder
	refused []wire.Reject
	broken  bool // a write failed
}

// credential is one line of a file of tokens.
type credential struct{ name, token string }

func credentials(t *testing.T, path string) []credential {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	lines, err := csv.NewReader(file).ReadAll()
	require.NoError(t, err)
	var all []credential
	for _, line := range lines[1:] {
		all = append(all, credential{line[0], line[1]})
	}
	return all
}

func writeCredentials(t *testing.T, path string, all []credential) {
	t.Helper()
	var text strings.Builder
	text.WriteString("name,token\n")
	for _, one := range all {
		fmt.Fprintf(&text, "%s,%s\n", one.name, one.token)
	}
	require.NoError(t, os.WriteFile(path, []byte(text.String()), 0o600))
}

// connect asks for the upgrade and tells the status; with 101 the device is
// usable until the test ends.
func connect(t *testing.T, server *faults.Server, token string) (*rawDevice, int) {
	t.Helper()
	conn, err := net.Dial("tcp", server.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(faults.Patience)))
	key := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef"))
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: %s\r\nAuthorization: Bearer %s\r\n\r\n",
		wire.StreamPath, key, wire.Subprotocol, token)
	require.NoError(t, err)
	d := &rawDevice{t: t, conn: conn, reader: bufio.NewReader(conn), encoder: wire.NewEncoder(), decoder: wire.NewDecoder(wire.Limits{})}
	response, err := http.ReadResponse(d.reader, nil)
	require.NoError(t, err)
	_ = response.Body.Close()
	return d, response.StatusCode
}

// join connects, says HELLO and takes WELCOME.
func join(t *testing.T, server *faults.Server, token string) *rawDevice {
	t.Helper()
	d, status := connect(t, server, token)
	require.Equal(t, http.StatusSwitchingProtocols, status)
	d.send(d.encoder.Hello(wire.Hello{Heartbeat: 300, MaxReceive: 1023, Model: "raw"}))
	for {
		kind, _, err := d.next()
		require.NoError(t, err)
		if kind == wire.FrameWelcome {
			return d
		}
	}
}

func (d *rawDevice) send(frame []byte) {
	message := []byte{0x82, 0x80 | 126}
	if len(frame) < 126 {
		message[1] = 0x80 | byte(len(frame))
	} else {
		message = binary.BigEndian.AppendUint16(message, uint16(len(frame)))
	}
	message = append(message, 0, 0, 0, 0) // a mask that changes nothing
	// A server that closes says why.
	if _, err := d.conn.Write(append(message, frame...)); err != nil {
		d.broken = true
	}
}

// layout declares layout 1, the only one of these devices.
func (d *rawDevice) layout(name string, channels ...wire.Channel) {
	d.send(d.encoder.Layout(&wire.Layout{Number: 1, Name: name, Channels: channels}))
}

// data sends rows one second apart; values of row i come from the function.
func (d *rawDevice) data(seq uint64, at time.Time, n int, values func(i int) []wire.Value) {
	d.t.Helper()
	data := wire.Data{Seq: seq, Layout: 1}
	for i := range n {
		data.Rows = append(data.Rows, wire.Row{Time: at.Add(time.Duration(i)*time.Second).UnixMilli() * 1000, Values: values(i)})
	}
	frame, err := d.encoder.Data(&data)
	require.NoError(d.t, err)
	d.send(frame)
}

// closedError is the server's close.
type closedError struct{ code wire.CloseCode }

func (e closedError) Error() string { return fmt.Sprintf("closed with %d", e.code) }

// next reads up to the next frame; a closedError at the end.
func (d *rawDevice) next() (wire.FrameType, []byte, error) {
	for {
		var head [2]byte
		if _, err := io.ReadFull(d.reader, head[:]); err != nil {
			return 0, nil, err
		}
		size := int(head[1])
		if size == 126 {
			var length [2]byte
			if _, err := io.ReadFull(d.reader, length[:]); err != nil {
				return 0, nil, err
			}
			size = int(binary.BigEndian.Uint16(length[:]))
		}
		payload := make([]byte, size)
		if _, err := io.ReadFull(d.reader, payload); err != nil {
			return 0, nil, err
		}
		switch head[0] & 0x0f {
		case 8:
			code := wire.CloseCode(1005)
			if size >= 2 {
				code = wire.CloseCode(binary.BigEndian.Uint16(payload))
			}
			return 0, nil, closedError{code}
		case 2:
			kind, err := wire.FrameTypeOf(payload)
			return kind, payload, err
		}
	}
}

// ackedUpTo reads until every row before next is settled, and keeps refusals.
func (d *rawDevice) ackedUpTo(next uint64) {
	d.t.Helper()
	for {
		kind, frame, err := d.next()
		require.NoError(d.t, err, "waiting for an ack of %d", next)
		if kind != wire.FrameAck {
			continue
		}
		ack, err := d.decoder.Ack(frame)
		require.NoError(d.t, err)
		d.refused = append(d.refused, ack.Rejects...)
		if ack.Next >= next {
			return
		}
	}
}

// closes reads until the server closes, with this code.
func (d *rawDevice) closes(code wire.CloseCode) {
	d.t.Helper()
	for {
		_, _, err := d.next()
		if err == nil {
			continue
		}
		var closed closedError
		require.True(d.t, errors.As(err, &closed), "%v", err)
		require.Equal(d.t, code, closed.code)
		return
	}
}

func (d *rawDevice) leave() { _ = d.conn.Close() }

func number(x float64) []wire.Value { return []wire.Value{{Kind: wire.ValueNumber, Number: x}} }

// ofDevice is a condition on mooring.samples.
func ofDevice(name string) string {
	return "device_id = (SELECT id FROM mooring.devices WHERE name = '" + strings.ReplaceAll(name, "'", "") + "')"
}
