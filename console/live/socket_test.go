package live

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lxzan/gws"
	"github.com/stretchr/testify/require"
)

// peer is a viewer over WebSocket.
type peer struct {
	gws.BuiltinEventHandler
	*stage
	conn   *gws.Conn
	told   chan message
	closed chan *gws.CloseError
	pongs  chan string
}

func (p *peer) OnMessage(_ *gws.Conn, m *gws.Message) {
	defer func() { _ = m.Close() }()
	var decoded message
	if json.Unmarshal(m.Bytes(), &decoded) == nil {
		p.told <- decoded
	}
}

func (p *peer) OnPong(_ *gws.Conn, payload []byte) {
	select {
	case p.pongs <- string(payload):
	default:
	}
}

func (p *peer) OnClose(_ *gws.Conn, err error) {
	closed, _ := err.(*gws.CloseError) //nolint:errorlint // never wrapped
	p.closed <- closed
}

func (s *stage) join(query string) *peer {
	s.Helper()
	p := &peer{stage: s, told: make(chan message, 1000), closed: make(chan *gws.CloseError, 1), pongs: make(chan string, 10)}
	conn, _, err := gws.NewClient(p, &gws.ClientOption{Addr: "ws" + strings.TrimPrefix(s.server.URL, "http") + "/?" + query}) //nolint:bodyclose // gws has read it
	require.NoError(s, err)
	p.conn = conn
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn.ReadLoop()
	}()
	s.Cleanup(func() {
		_ = conn.NetConn().Close()
		<-ended
	})
	return p
}

func (p *peer) until(kind string) message {
	p.Helper()
	timeout := time.After(time.Minute)
	for {
		select {
		case m := <-p.told:
			if m.Type == kind {
				return m
			}
		case <-timeout:
			require.Fail(p, "no "+kind)
		}
	}
}

// TestSubscribeAgain: a viewer may ask for something else at any time, and gets a
// snapshot; what can't be is told, and the old subscription goes on.
func TestSubscribeAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t, 3, nil)
	for i := range 3 {
		s.world.commit(i, 100, float64(i), 0)
	}
	p := s.join(quick + "&device=d000&events=readings")
	p.until("hello")
	first := p.until("snapshot")
	require.Len(t, first.snapshot(t), 1)
	p.until("snapshot_end")

	require.NoError(t, p.conn.WriteString(`{"type":"subscribe","devices":["d001","d002"],"channels":["b"],"every":"100ms"}`))
	second := p.until("snapshot")
	list := second.snapshot(t)
	require.Len(t, list, 2)
	require.Contains(t, list[0].Channels, "b")
	require.NotContains(t, list[0].Channels, "a")
	p.until("snapshot_end")

	for _, wrong := range []string{`{"type":"subscribe","events":["all"]}`, `{`, `[]`, `{"type":"x"}`, `{"type":"subscribe"}{}`, `{"type":"subscribe","devces":[]}`} {
		require.NoError(t, p.conn.WriteString(wrong))
		require.NotEmpty(t, p.until("error").Message, wrong)
	}
	s.world.commit(2, 101, 5, 6)
	require.Equal(t, "d002", p.until("readings").Readings[0].Device)

	require.NoError(t, p.conn.WritePing([]byte("here?")))
	require.Equal(t, "here?", <-p.pongs)
}

// TestFlood: a viewer that says too much is sent away.
func TestFlood(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1, nil)
	p := s.join(quick)
	p.until("snapshot_end")
	go func() {
		for p.conn.WritePing(nil) == nil {
		}
	}()
	closed := <-p.closed // nil: what it said and nobody read has reset the connection first
	t.Log("closed:", closed)
	require.Eventually(t, func() bool { return s.metric("closes_total", closedFlood) == 1 }, time.Minute, time.Millisecond)
}

// TestSilentSocketIsClosed: one that answers no Ping is gone.
func TestSilentSocketIsClosed(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1, func(cfg *Config) { cfg.Heartbeat = 50 * time.Millisecond })
	conn := s.upgrade(quick)
	_, err := io.Copy(io.Discard, conn) // reads, and says nothing
	require.NoError(t, err)
	require.InDelta(t, 1, s.metric("closes_total", closedSilent), 0)
}

// upgrade opens a WebSocket by hand.
func (s *stage) upgrade(query string) net.Conn {
	s.Helper()
	address, err := url.Parse(s.server.URL)
	require.NoError(s, err)
	var dialer net.Dialer
	conn, err := dialer.DialContext(s.Context(), "tcp", address.Host)
	require.NoError(s, err)
	s.Cleanup(func() { _ = conn.Close() })
	request, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.server.URL+"?"+query, http.NoBody)
	require.NoError(s, err)
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		request.Header.Set(name, value)
	}
	require.NoError(s, request.Write(conn))
	answer := make([]byte, len("HTTP/1.1 101"))
	_, err = io.ReadFull(conn, answer)
	require.NoError(s, err)
	require.Equal(s, "HTTP/1.1 101", string(answer))
	return conn
}

// TestBadFrames end their viewer and nobody else; the first of them ends a
// process that does not guard against it: a length with its top bit set.
func TestBadFrames(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1, nil)
	witness := s.watch(quick, "")
	witness.until("snapshot_end")
	for _, frame := range [][]byte{
		{0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		{0x81, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0}, // 2 GiB
		{0x81, 0x01, 'x'},                                  // not masked
		{0xc1, 0x81, 0, 0, 0, 0, 'x'},                      // compressed
		{0x83, 0x80, 0, 0, 0, 0},                           // reserved
		append([]byte{0x81, 0x82, 0, 0, 0, 0}, 0xff, 0xfe), // no UTF-8
	} {
		conn := s.upgrade(quick)
		_, err := conn.Write(frame)
		require.NoError(t, err)
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		_, err = io.Copy(io.Discard, conn)
		if err != nil {
			require.ErrorContains(t, err, "reset", "% x", frame)
		}
	}
	s.world.commit(0, 100, 1, 1)
	witness.untilValue(0, 1)
	require.Eventually(t, func() bool { s.hub.mu.RLock(); defer s.hub.mu.RUnlock(); return s.hub.open == 1 }, time.Minute, time.Millisecond)
}

// TestFrames: every length has the shortest head (RFC 6455 section 5.2), also in
// the middle of a buffer.
func TestFrames(t *testing.T) {
	t.Parallel()
	var s socket
	for _, length := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
		dst := []byte("before")
		start := len(dst)
		dst = s.begin(dst, "")
		text := bytes.Repeat([]byte("x"), length)
		dst = s.end(append(dst, text...), start, nil)
		require.Equal(t, "before", string(dst[:start]))
		frame := dst[start:]
		require.Equal(t, byte(0x81), frame[0])
		switch {
		case length < 126:
			require.Equal(t, byte(length), frame[1])
			frame = frame[2:]
		case length < 65536:
			require.Equal(t, byte(126), frame[1])
			require.Equal(t, uint16(length), binary.BigEndian.Uint16(frame[2:]))
			frame = frame[4:]
		default:
			require.Equal(t, byte(127), frame[1])
			require.Equal(t, uint64(length), binary.BigEndian.Uint64(frame[2:]))
			frame = frame[10:]
		}
		require.Equal(t, text, frame)
	}
}
