package ingest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// writes are the server's to a device, one by one: over a pipe each is a Read.
type writes struct {
	t    *testing.T
	conn net.Conn
}

func (p *piped) connectPlain(t *testing.T) *writes {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close() })
	request := httptest.NewRequest(http.MethodGet, wire.StreamPath, nil)
	request.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Authorization": {"Bearer token-7"},
	}
	upgraded := make(chan struct{})
	go func() {
		defer close(upgraded)
		p.gateway.ServeHTTP(&hijackable{httptest.NewRecorder(), theirs}, request)
	}()
	w := &writes{t, ours}
	require.Contains(t, string(w.read()), "101 Switching Protocols")
	<-upgraded
	return w
}

func (w *writes) read() []byte {
	w.t.Helper()
	var room [4096]byte
	n, err := w.conn.Read(room[:])
	require.NoError(w.t, err)
	return room[:n]
}

// frames gives the kinds of the frames in the next write.
func (w *writes) frames() (kinds []wire.FrameType) {
	w.t.Helper()
	d := newDevice(w.t, fakeConn{}, bufio.NewReader(bytes.NewReader(w.read())), nil)
	for {
		if _, err := d.in.Peek(1); err == io.EOF {
			return kinds
		}
		_, payload, err := d.message()
		require.NoError(w.t, err)
		kind, err := wire.FrameTypeOf(payload)
		require.NoError(w.t, err)
		kinds = append(kinds, kind)
	}
}

// send writes frames at once.
func (w *writes) send(frames ...[]byte) {
	w.t.Helper()
	var message []byte
	for _, frame := range frames {
		message = append(message, masked(0x82, frame)...)
	}
	_, err := w.conn.Write(message)
	require.NoError(w.t, err)
}

// A device that does not wait for WELCOME gets it with its first ACK, in one write.
func TestWelcomeGoesOutWithTheFirstAck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pipe(t, Config{})
		d := newDevice(t, fakeConn{}, nil, nil)
		w := p.connectPlain(t)
		w.send(bytes.Clone(d.encoder.Hello(wire.Hello{})), bytes.Clone(d.encoder.Layout(twoNumbers())), d.frame(0, 3))
		require.Equal(t, []wire.FrameType{wire.FrameWelcome, wire.FrameAck}, w.frames())
		w.send(d.frame(3, 1))
		require.Equal(t, []wire.FrameType{wire.FrameAck}, w.frames())
	})
}

// When rows take long, WELCOME does not: the timers send it.
func TestWelcomeWaitsForSlowRowsUntilATickOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pipe(t, Config{Tick: 300 * time.Millisecond})
		p.store.gate = make(chan struct{})
		d := newDevice(t, fakeConn{}, nil, nil)
		w := p.connectPlain(t)
		begun := time.Now()
		w.send(bytes.Clone(d.encoder.Layout(twoNumbers())), d.frame(0, 3))
		require.Equal(t, []wire.FrameType{wire.FrameWelcome}, w.frames())
		require.Positive(t, time.Since(begun), "it waited for the ACK")
		require.LessOrEqual(t, time.Since(begun), 300*time.Millisecond)
		p.store.gate <- struct{}{}
		require.Equal(t, []wire.FrameType{wire.FrameAck}, w.frames())
		close(p.store.gate)
	})
}

// A device that waits for WELCOME, or sends no rows, gets it at once.
func TestWelcomeComesAtOnceWithoutRows(t *testing.T) {
	t.Parallel()
	for name, frames := range map[string]func(d *device) [][]byte{
		"HELLO alone": func(d *device) [][]byte { return [][]byte{d.encoder.Hello(wire.Hello{})} },
		"HELLO and LAYOUT": func(d *device) [][]byte {
			return [][]byte{bytes.Clone(d.encoder.Hello(wire.Hello{})), d.encoder.Layout(twoNumbers())}
		},
		"a LAYOUT and half a DATA": func(d *device) [][]byte {
			return [][]byte{d.encoder.Layout(twoNumbers())}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := pipe(t, Config{})
				d := newDevice(t, fakeConn{}, nil, nil)
				w := p.connectPlain(t)
				begun := time.Now()
				message := []byte(nil)
				for _, frame := range frames(d) {
					message = append(message, masked(0x82, frame)...)
				}
				if strings.Contains(name, "half") {
					whole := masked(0x82, d.frame(0, 3))
					message = append(message, whole[:len(whole)/2]...)
				}
				_, err := w.conn.Write(message)
				require.NoError(t, err)
				require.Equal(t, []wire.FrameType{wire.FrameWelcome}, w.frames())
				require.Zero(t, time.Since(begun))
			})
		})
	}
}
