package ingest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// Each test here is one known trap of the WebSocket library.

// A 64-bit length with its top bit set panics in gws's ReadLoop, outside of
// every recovery of its own: 14 bytes kill the process.
func TestTrapFourteenBytesDoNotKillTheServer(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	poison := []byte{0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0}
	bystander := sv.join(t, 1)

	first := sv.connect(t, 2) // as the first thing on a connection
	first.raw(poison)
	first.closesWith(wire.CloseBadFrame, true)

	later := sv.join(t, 3) // and in the middle of one
	later.data(0, 3)
	later.ackUpTo(3)
	later.raw(poison)
	later.closesWith(wire.CloseBadFrame, true)

	require.InDelta(t, 2, counted(t, sv.gateway.metrics.panics), 0)
	eventually(t, func() bool { return sv.gateway.Stats().Connections == 1 }, "the places are free again")
	eventually(t, func() bool { return len(sv.registry.endings()) == 1 }, "the opened session's end is recorded")
	require.Equal(t, wire.CloseBadFrame, sv.registry.endings()[0].Code)
	bystander.data(0, 5)
	bystander.ackUpTo(5)
}

// gws answers a Ping with an empty Pong, and strict clients drop the link.
func TestTrapPingIsAnsweredWithItsPayload(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	d := sv.join(t, 1)
	d.raw(masked(0x89, []byte("over here")))
	require.Equal(t, "over here", string(d.pong()))
}

// gws's server has no limit on headers; NewServer has.
func TestTrapHeadersAreLimited(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	_, _, response := sv.handshake(t, "GET", wire.StreamPath, http.Header{"X-Long": {strings.Repeat("x", 64<<10)}})
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, response.StatusCode)

	server := NewServer(http.NotFoundHandler(), nil)
	require.Positive(t, server.ReadHeaderTimeout)
	require.True(t, server.Protocols.HTTP1())
	require.False(t, server.Protocols.HTTP2())

	server.ReadHeaderTimeout = 50 * time.Millisecond
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost:")
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	_, err = io.ReadAll(conn)
	require.NoError(t, err, "closed, not left open")
}

// gws allocates what a header announces, up to 16 MiB by default, and closes
// with 1009; here it is max_frame, and 4202 with a GOAWAY.
func TestTrapOversizeIsRefusedByItsHeader(t *testing.T) {
	t.Parallel()
	for name, frame := range map[string][]byte{
		"one byte too many": masked(0x82, make([]byte, 16<<10+1)),
		"announced alone":   {0x82, 0xFF, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4}, // 1 GiB
		"by its fragments": bytes.Join([][]byte{
			masked(0x02, make([]byte, 10<<10)), masked(0x80, make([]byte, 10<<10)),
		}, nil),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sv := serve(t, quick(), newFakeStore())
			d := sv.join(t, 1)
			d.raw(frame)
			d.closesWith(wire.CloseTooLarge, true)
		})
	}
}

// A message of exactly max_frame is taken, also in fragments (esp_websocket_client
// fragments over 1 KiB).
func TestTrapFragmentsAreAccepted(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	d := sv.join(t, 1)
	frame := d.frame(0, 400)
	require.Greater(t, len(frame), 3000)
	d.raw(masked(0x02, frame[:1000]))
	d.raw(masked(0x00, frame[1000:2000]))
	d.raw(masked(0x89, nil)) // control frames may come in between
	d.raw(masked(0x80, frame[2000:]))
	d.ackUpTo(400)
	require.Len(t, sv.store.stored(1), 400)
}

// gws closes a connection that broke with 1000 and a text that can hold
// addresses; nothing of the kind leaves the server or enters the records.
func TestTrapReasonsHoldNoAddresses(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	d := sv.join(t, 1)
	_ = d.conn.(*net.TCPConn).SetLinger(0)
	d.conn.Close() // a reset
	eventually(t, func() bool { return len(sv.registry.endings()) == 1 }, "the end is recorded")
	end := sv.registry.endings()[0]
	require.Equal(t, wire.CloseCode(1006), end.Code)
	require.NotContains(t, end.Reason, "127.0.0.1")

	sv.registry.mu.Lock()
	sv.registry.broken = true
	sv.registry.mu.Unlock()
	_, in, response := sv.handshake(t, "GET", wire.StreamPath, http.Header{"Authorization": {"Bearer token-1"}})
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.NotContains(t, response.body, "10.1.2.3", "the registry's own words stay inside")
	_, err := in.ReadByte()
	require.ErrorIs(t, err, io.EOF, "a refused connection is closed")
}

// With gws's recovery a panic in a handler is swallowed and the message skipped;
// here the session ends, is recorded, and the rest lives on.
func TestTrapPanicInAHandlerEndsTheSessionAlone(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.OnResult = func(Device, wire.Result) { panic("a fault of ours") }
	sv := serve(t, cfg, newFakeStore())
	bystander, d := sv.join(t, 1), sv.join(t, 2)
	d.data(0, 2)
	d.ackUpTo(2)
	d.send(d.encoder.Result(wire.Result{ID: 1}))
	d.closesWith(wire.CloseInternal, true)
	require.InDelta(t, 1, counted(t, sv.gateway.metrics.panics), 0)
	bystander.data(0, 2)
	bystander.ackUpTo(2)
}

// A panic between the promise of room and its use gives the room back.
func TestTrapPanicInTheStoreGivesRoomBack(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	d := sv.join(t, 2)
	sv.gateway.store = panickyStore{sv.store}
	d.data(0, 2)
	d.closesWith(wire.CloseInternal, true)
	shard := sv.gateway.shards[0]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	require.Zero(t, shard.reserved)
}

type panickyStore struct{ RowStore }

func (panickyStore) AppendRow([]byte, int32, int32, *wire.Row) []byte { panic("a fault of ours") }

// The bytes of a message are gws's again after the handler: texts of earlier
// frames must not change under later ones, nor the order of frames.
func TestTrapNothingAliasesAMessage(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	store.gate = make(chan struct{})
	sv := serve(t, quick(), store)
	d := sv.join(t, 1)
	d.send(d.encoder.Layout(&wire.Layout{Number: 2, Name: "log", Channels: []wire.Channel{{Name: "t", Kind: wire.KindText}}}))
	at := time.Now().Truncate(time.Millisecond).UnixMicro()
	for seq := range uint64(12) {
		frame, err := d.encoder.Data(&wire.Data{Seq: seq, Layout: 2, Rows: []wire.Row{{
			Time: at, Values: []wire.Value{{Kind: wire.ValueText, Text: []byte(fmt.Sprintf("text number %02d", seq))}},
		}}})
		require.NoError(t, err)
		d.send(frame)
	}
	close(store.gate)
	d.ackUpTo(12)
	for i, row := range store.stored(1) {
		require.Equal(t, uint64(i), row.seq)
		require.Equal(t, fmt.Sprintf("text number %02d", i), string(row.values[0].Text))
	}
}

// gws resets its reader at the upgrade: frames sent right behind the handshake,
// without waiting for the answer, would be lost.
func TestTrapFramesRightBehindTheHandshake(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	conn, err := net.Dial("tcp", sv.addr)
	require.NoError(t, err)
	defer conn.Close()
	d := newDevice(t, conn, bufio.NewReader(conn), nil)
	request := "GET " + wire.StreamPath + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer token-5\r\n\r\n"
	all := append([]byte(request), masked(0x82, d.encoder.Hello(wire.Hello{}))...)
	all = append(all, masked(0x82, d.encoder.Layout(twoNumbers()))...)
	all = append(all, masked(0x82, d.frame(0, 7))...)
	d.raw(all)
	response, err := http.ReadResponse(d.in, nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	require.Empty(t, response.Header.Get("Sec-Websocket-Protocol"), "none was offered, none is answered")
	d.welcome()
	d.ackUpTo(7)
}

// Breaches of the WebSocket protocol itself close with 1002, announced.
func TestTrapWebSocketBreaches(t *testing.T) {
	t.Parallel()
	for name, frame := range map[string][]byte{
		"unmasked":                 {0x82, 1, 0x90},
		"reserved bit":             masked(0xC2, []byte{0x90}),
		"unknown opcode":           masked(0x83, nil),
		"unknown control opcode":   masked(0x8B, nil),
		"long control frame":       masked(0x89, make([]byte, 126)),
		"fragmented control frame": masked(0x09, nil),
		"continuation of nothing":  masked(0x80, []byte{0x90}),
		"message within a message": append(masked(0x02, []byte{0x90}), masked(0x82, []byte{0x90})...),
		"close code of one byte":   masked(0x88, []byte{3}),
		"close code out of range":  masked(0x88, []byte{0, 1}),
		"close code never sent":    masked(0x88, binary.BigEndian.AppendUint16(nil, 1005)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sv := serve(t, quick(), newFakeStore())
			d := sv.join(t, 1)
			d.raw(frame)
			d.closesWith(1002, !strings.HasPrefix(name, "close"))
			eventually(t, func() bool { return sv.gateway.Stats().Connections == 0 }, "cleaned up")
		})
	}
}
