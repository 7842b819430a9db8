package ingest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// patience is how long tests wait for what must come, on a busy machine too.
const patience = time.Minute

// server is a gateway under a real HTTP server with fakes behind it.
type server struct {
	gateway  *Gateway
	registry *fakeRegistry
	store    *fakeStore
	addr     string
	// through: every handshake goes through net/http, as those over TLS do.
	through bool
}

// quick is a configuration for tests with real sockets: what is short comes soon, and
// what only a client of ours that is held up could be late for is long.
func quick() Config {
	return Config{
		Tick: 20 * time.Millisecond, DrainGrace: 50 * time.Millisecond, CloseTimeout: 500 * time.Millisecond,
		HandshakeTimeout: patience, FirstFrame: patience,
	}
}

// serve starts a server; store may be prepared.
func serve(tb testing.TB, cfg Config, store *fakeStore) *server {
	tb.Helper()
	return serveWith(tb, cfg, &server{store: store})
}

// serveThrough is serve without Gateway.Handshakes.
func serveThrough(tb testing.TB, cfg Config, store *fakeStore) *server {
	tb.Helper()
	return serveWith(tb, cfg, &server{store: store, through: true})
}

func serveWith(tb testing.TB, cfg Config, sv *server) *server {
	tb.Helper()
	sv.registry = newFakeRegistry()
	var err error
	sv.gateway, err = New(cfg, sv.registry, sv.registry, sv.store)
	require.NoError(tb, err)
	sv.listen(tb)
	return sv
}

// listen starts the gateway under a real HTTP server, until the test ends.
func (sv *server) listen(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, sv.gateway.Start(tb.Context()))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	sv.addr = listener.Addr().String()
	mux := http.NewServeMux()
	mux.Handle(wire.StreamPath, sv.gateway)
	httpServer := NewServer(mux, nil)
	httpServer.ReadHeaderTimeout, httpServer.ReadTimeout, httpServer.WriteTimeout = patience, patience, patience
	listener = sv.gateway.Listener(listener)
	if !sv.through {
		listener = sv.gateway.Handshakes(listener)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = httpServer.Serve(listener)
	}()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if sv.store != nil && (sv.store.failed.Load() || sv.store.gate != nil) {
			cancel() // it would never drain
		}
		_ = sv.gateway.Stop(ctx)
		_ = httpServer.Close()
		<-done
	})
}

// device is a raw WebSocket client that can do everything wrong.
type device struct {
	t       testing.TB
	conn    net.Conn
	in      *bufio.Reader
	encoder *wire.Encoder
	decoder *wire.Decoder
	header  http.Header // of the handshake's answer
}

// handshake dials and sends a handshake. Headers replace the usual ones; a nil
// value removes one.
func (sv *server) handshake(tb testing.TB, method, path string, headers http.Header) (net.Conn, *bufio.Reader, reply) {
	tb.Helper()
	conn, err := net.Dial("tcp", sv.addr)
	require.NoError(tb, err)
	tb.Cleanup(func() { conn.Close() })
	header := http.Header{
		"Host": {"gateway.test"}, "Connection": {"keep-alive, Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	maps.Copy(header, headers)
	var request bytes.Buffer
	fmt.Fprintf(&request, "%s %s HTTP/1.1\r\n", method, path)
	for name, values := range header {
		for _, value := range values {
			fmt.Fprintf(&request, "%s: %s\r\n", name, value)
		}
	}
	request.WriteString("\r\n")
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err = conn.Write(request.Bytes())
	require.NoError(tb, err)
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, &http.Request{Method: method})
	require.NoError(tb, err)
	answered := reply{StatusCode: response.StatusCode, Header: response.Header}
	if response.StatusCode != http.StatusSwitchingProtocols {
		body, err := io.ReadAll(response.Body)
		require.NoError(tb, err)
		answered.body = string(body)
	}
	require.NoError(tb, response.Body.Close())
	return conn, in, answered
}

// reply is the answer to a handshake.
type reply struct {
	StatusCode int
	Header     http.Header
	body       string
}

// connect makes a connection for device number n, upgraded, nothing sent yet.
func (sv *server) connect(tb testing.TB, n int) *device {
	tb.Helper()
	conn, in, response := sv.handshake(tb, "GET", wire.StreamPath, http.Header{
		"Authorization":          {fmt.Sprintf("Bearer token-%d", n)},
		"Sec-Websocket-Protocol": {wire.Subprotocol},
	})
	require.Equal(tb, http.StatusSwitchingProtocols, response.StatusCode)
	return newDevice(tb, conn, in, response.Header)
}

func newDevice(tb testing.TB, conn net.Conn, in *bufio.Reader, header http.Header) *device {
	tb.Helper()
	return &device{t: tb, conn: conn, in: in, header: header, encoder: wire.NewEncoder(), decoder: wire.NewDecoder(wire.Limits{})}
}

// join connects, says HELLO, reads WELCOME and declares layout 1 with two
// number channels.
func (sv *server) join(tb testing.TB, n int) *device {
	tb.Helper()
	d := sv.connect(tb, n)
	d.send(d.encoder.Hello(wire.Hello{BootID: 42}))
	d.welcome()
	d.send(d.encoder.Layout(twoNumbers()))
	return d
}

func twoNumbers() *wire.Layout {
	return &wire.Layout{Number: 1, Name: "env", Channels: []wire.Channel{{Name: "a"}, {Name: "b"}}}
}

// masked is a client's WebSocket frame.
func masked(first byte, payload []byte) []byte {
	frame := []byte{first}
	switch n := len(payload); {
	case n <= 125:
		frame = append(frame, 0x80|byte(n))
	case n <= 0xFFFF:
		frame = append(frame, 0x80|126)
		frame = binary.BigEndian.AppendUint16(frame, uint16(n))
	default:
		frame = append(frame, 0x80|127)
		frame = binary.BigEndian.AppendUint64(frame, uint64(n))
	}
	key := [4]byte{1, 2, 3, 4}
	frame = append(frame, key[:]...)
	for i, b := range payload {
		frame = append(frame, b^key[i%4])
	}
	return frame
}

// raw writes bytes as they are.
func (d *device) raw(b []byte) {
	d.t.Helper()
	_ = d.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := d.conn.Write(b)
	require.NoError(d.t, err)
}

// send sends one frame as a binary message.
func (d *device) send(frame []byte) {
	d.t.Helper()
	d.raw(masked(0x82, frame))
}

// rows makes rows of two numbers at one-second distance.
func rows(seq uint64, n int) []wire.Row {
	made := make([]wire.Row, n)
	base := time.Now().Add(-time.Hour).Truncate(time.Hour).UnixMicro()
	for i := range made {
		at := base + int64((seq+uint64(i))%100_000)*1000
		made[i] = wire.Row{Seq: seq + uint64(i), Time: at, Values: []wire.Value{
			{Kind: wire.ValueNumber, Number: float64(seq) + float64(i)}, {Kind: wire.ValueInt, Int: int64(i)},
		}}
	}
	return made
}

// frame encodes n rows of layout 1 from seq on.
func (d *device) frame(seq uint64, n int) []byte {
	d.t.Helper()
	frame, err := d.encoder.Data(&wire.Data{Seq: seq, Layout: 1, Rows: rows(seq, n)})
	require.NoError(d.t, err)
	return frame
}

func (d *device) data(seq uint64, n int) { d.t.Helper(); d.send(d.frame(seq, n)) }

// message reads the next WebSocket frame of the server.
func (d *device) message() (opcode byte, payload []byte, err error) {
	_ = d.conn.SetReadDeadline(time.Now().Add(patience))
	var head [2]byte
	if _, err := io.ReadFull(d.in, head[:]); err != nil {
		return 0, nil, err
	}
	if head[0]&0xF0 != 0x80 || head[1]&0x80 != 0 {
		return 0, nil, fmt.Errorf("a server's frame is whole and unmasked: % x", head)
	}
	n := int(head[1])
	if n == 126 {
		var long [2]byte
		if _, err := io.ReadFull(d.in, long[:]); err != nil {
			return 0, nil, err
		}
		n = int(binary.BigEndian.Uint16(long[:]))
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(d.in, payload)
	return head[0] & 0x0F, payload, err
}

// next reads the next frame of the protocol, past Pings.
func (d *device) next() []byte {
	d.t.Helper()
	for {
		opcode, payload, err := d.message()
		require.NoError(d.t, err)
		if opcode == opPing || opcode == opPong {
			continue
		}
		require.Equal(d.t, byte(opBinary), opcode, "payload % x %q", payload, payload)
		require.LessOrEqual(d.t, len(payload), maxServerMessage)
		return payload
	}
}

func (d *device) welcome() wire.Welcome {
	d.t.Helper()
	welcome, err := d.decoder.Welcome(d.next())
	require.NoError(d.t, err)
	return welcome
}

func (d *device) ack() wire.Ack {
	d.t.Helper()
	frame := d.next()
	ack, err := d.decoder.Ack(frame)
	require.NoError(d.t, err, "% x", frame)
	return ack
}

// ackUpTo reads ACKs until everything before next is settled, and gives their
// sum.
func (d *device) ackUpTo(next uint64) wire.Ack {
	d.t.Helper()
	var sum wire.Ack
	for {
		ack := d.ack()
		require.GreaterOrEqual(d.t, ack.Next, sum.Next)
		sum.Next, sum.Window = ack.Next, ack.Window
		sum.Rejected += ack.Rejected
		sum.Rejects = append(sum.Rejects, ack.Rejects...)
		if sum.Next >= next {
			return sum
		}
	}
}

// pong reads the server's next message, which must be a Pong, past Pings: the first
// of those comes at random. It gives the payload.
func (d *device) pong() []byte {
	d.t.Helper()
	for {
		opcode, payload, err := d.message()
		require.NoError(d.t, err)
		if opcode == opPing {
			continue
		}
		require.Equal(d.t, byte(opPong), opcode)
		return payload
	}
}

func (d *device) notice() wire.Notice {
	d.t.Helper()
	frame := d.next()
	notice, err := d.decoder.Notice(frame)
	require.NoError(d.t, err, "% x", frame)
	return notice
}

// closed reads up to the close frame, and the end of the stream behind it. It
// gives the code, the text, and the frames before.
func (d *device) closed() (code wire.CloseCode, text string, before [][]byte) {
	d.t.Helper()
	for {
		opcode, payload, err := d.message()
		require.NoError(d.t, err)
		switch opcode {
		case opClose:
			_, _, err := d.message()
			require.ErrorIs(d.t, err, io.EOF, "nothing follows the close frame")
			d.conn.Close()
			if len(payload) == 0 {
				return 1005, "", before
			}
			return wire.CloseCode(binary.BigEndian.Uint16(payload)), string(payload[2:]), before
		case opBinary:
			before = append(before, payload)
		}
	}
}

// closesWith expects the close code, and a GOAWAY with it before if the close is
// one of those that are announced.
func (d *device) closesWith(code wire.CloseCode, announced bool) {
	d.t.Helper()
	got, text, before := d.closed()
	require.Equal(d.t, code, got, "%s", text)
	require.NotContains(d.t, text, "127.0.0.1")
	if announced {
		require.NotEmpty(d.t, before)
		notice, err := d.decoder.Notice(before[len(before)-1])
		require.NoError(d.t, err)
		require.Equal(d.t, wire.NoticeGoAway, notice.Kind)
		require.Equal(d.t, code, notice.Code)
	}
}

// eventually polls.
func eventually(tb testing.TB, condition func() bool, what string) {
	tb.Helper()
	require.Eventually(tb, condition, patience, 2*time.Millisecond, what)
}

// counted reads a counter.
func counted(tb testing.TB, counter prometheus.Counter) float64 {
	tb.Helper()
	registry := prometheus.NewRegistry()
	require.NoError(tb, registry.Register(counter))
	families, err := registry.Gather()
	require.NoError(tb, err)
	return families[0].GetMetric()[0].GetCounter().GetValue()
}
