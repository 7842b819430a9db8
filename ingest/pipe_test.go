package ingest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// piped is a gateway without a network, for tests with a fake clock.
type piped struct {
	gateway  *Gateway
	registry *fakeRegistry
	store    *fakeStore
}

func pipe(t *testing.T, cfg Config) *piped {
	t.Helper()
	p := &piped{registry: newFakeRegistry(), store: newFakeStore()}
	var err error
	p.gateway, err = New(cfg, p.registry, p.registry, p.store)
	require.NoError(t, err)
	require.NoError(t, p.gateway.Start(t.Context()))
	t.Cleanup(p.stop)
	return p
}

func (p *piped) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = p.gateway.Stop(ctx)
}

// hijackable hands over its end of a pipe as net/http would.
type hijackable struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (h *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// connect upgrades device n over a pipe; what the server sends is passed on by a
// goroutine, as a pipe has no buffer.
func (p *piped) connect(t *testing.T, n int) *pipedDevice {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close() })
	recorder := &hijackable{httptest.NewRecorder(), theirs}
	d := &pipedDevice{device: newDevice(t, ours, bufio.NewReader(ours), nil), got: make(chan heard, 1000)}
	go func() {
		defer close(d.got)
		response, err := http.ReadResponse(d.in, nil)
		if err != nil {
			return
		}
		_ = response.Body.Close()
		for {
			opcode, payload, err := d.messageWhenever()
			if err != nil {
				return
			}
			d.got <- heard{opcode, payload, time.Now()}
			if opcode == opClose {
				ours.Close()
				return
			}
		}
	}()
	p.gateway.ServeHTTP(recorder, streamRequest(n))
	return d
}

// streamRequest is the handshake of device n.
func streamRequest(n int) *http.Request {
	request := httptest.NewRequest(http.MethodGet, wire.StreamPath, nil)
	request.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Authorization": {fmt.Sprintf("Bearer token-%d", n)},
	}
	return request
}

type heard struct {
	opcode  byte
	payload []byte
	at      time.Time
}

type pipedDevice struct {
	*device
	got chan heard
}

// messageWhenever is message without a deadline.
func (d *device) messageWhenever() (byte, []byte, error) {
	_ = d.conn.SetReadDeadline(time.Time{})
	if _, err := d.in.Peek(1); err != nil {
		return 0, nil, err
	}
	return d.message()
}

// wait gives the next message with this opcode.
func (d *pipedDevice) wait(opcode byte) heard {
	d.t.Helper()
	for message := range d.got {
		if message.opcode == opcode {
			return message
		}
	}
	require.Fail(d.t, "the connection ended")
	return heard{}
}

// hearNotice gives the next frame, which must be a NOTICE.
func (d *pipedDevice) hearNotice() wire.Notice {
	d.t.Helper()
	notice, err := d.decoder.Notice(d.wait(opBinary).payload)
	require.NoError(d.t, err)
	return notice
}

func contextWith(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}
