package live

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/lxzan/gws"
	"golang.org/x/time/rate"
)

// Opcodes of RFC 6455 section 5.2.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xa
)

// A viewer may say so much: subscriptions, Pings and Pongs alike.
const (
	saidPerSecond = 5
	saidAtOnce    = 50
)

// socket is a WebSocket. gws reads; we write, whole frames in one piece.
type socket struct {
	wire
	gws *gws.Conn
}

func (*socket) name() string { return "websocket" }

// maxFrameHead is room for the longest head; end moves the message up to it.
const maxFrameHead = 10

func (*socket) begin(dst []byte, _ string) []byte { return append(dst, make([]byte, maxFrameHead)...) }

func (*socket) end(dst []byte, start int, _ []byte) []byte {
	message := dst[start+maxFrameHead:]
	begun := len(appendFrameHead(dst[:start], opText, len(message))) // there is room before message
	return dst[:begun+copy(dst[begun:], message)]
}

func (s *socket) sign() error { return s.write(appendFrameHead(nil, opPing, 0)) }

func (s *socket) silence() time.Duration {
	return time.Since(time.Unix(0, s.heard.Load()))
}

func (s *socket) farewell(code uint16, reason string) {
	if code != 0 {
		body := binary.BigEndian.AppendUint16(nil, code)
		body = append(body, reason[:min(len(reason), 120)]...)
		_ = s.write(append(appendFrameHead(nil, opClose, len(body)), body...))
	}
	_ = s.conn.Close()
}

// read hands a viewer's messages on until it is gone. A panic in gws, which some
// frames cause, ends this viewer alone.
func (s *socket) read(v *viewer) {
	defer func() {
		if fault := recover(); fault != nil {
			v.hub.cfg.Logger.Debug("a viewer's frames could not be read", "fault", fault)
		}
	}()
	s.gws.ReadLoop()
}

// reading is gws's handler of one viewer.
type reading struct {
	gws.BuiltinEventHandler
	viewer  *viewer
	socket  *socket
	limiter *rate.Limiter
}

// hears notes a sign of life; false: there were too many.
func (r *reading) hears() bool {
	r.socket.heard.Store(time.Now().UnixNano())
	if r.limiter.Allow() {
		return true
	}
	select {
	case r.viewer.flooded <- struct{}{}:
	case <-r.viewer.over:
	}
	_ = r.socket.conn.SetReadDeadline(time.Now())
	return false
}

func (r *reading) OnPing(_ *gws.Conn, payload []byte) {
	if r.hears() {
		_ = r.socket.write(append(appendFrameHead(nil, opPong, len(payload)), payload...))
	}
}

func (r *reading) OnPong(*gws.Conn, []byte) { r.hears() }

func (r *reading) OnMessage(_ *gws.Conn, message *gws.Message) {
	defer func() { _ = message.Close() }()
	if !r.hears() {
		return
	}
	v := r.viewer
	f, err := parseSubscribe(message.Bytes())
	ask := v.asked
	var wrong chan string
	if err != nil {
		ask, wrong = nil, v.wrong
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	select { // until it is done: what it says next waits in the socket
	case ask <- f:
	case wrong <- text:
	case <-v.over:
	}
}

// isUpgrade tells whether a request asks for a WebSocket.
func isUpgrade(r *http.Request) bool {
	return headerHas(r.Header, "Connection", "upgrade") && headerHas(r.Header, "Upgrade", "websocket")
}

// checkUpgrade says what is wrong with such a request; empty: nothing.
func checkUpgrade(r *http.Request) string {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	switch {
	case len(r.Header.Values("Sec-WebSocket-Key")) != 1 || err != nil || len(key) != 16:
		return "Sec-WebSocket-Key must be base64 of 16 bytes"
	case len(r.Header.Values("Sec-WebSocket-Version")) != 1 || r.Header.Get("Sec-WebSocket-Version") != "13":
		return "Sec-WebSocket-Version must be 13"
	}
	return ""
}

// headerHas tells whether one of a header's comma-separated values is want.
func headerHas(header http.Header, name, want string) bool {
	for _, line := range header.Values(name) {
		for value := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(value), want) {
				return true
			}
		}
	}
	return false
}

// upgrade answers 101. gws knows no repeated headers and no extensions.
func (h *Hub) upgrade(conn net.Conn, key string) (*socket, *reading, error) {
	s := &socket{wire: newWire(conn, h.cfg.Timeout)}
	s.heard.Store(time.Now().UnixNano())
	r := &reading{socket: s, limiter: rate.NewLimiter(saidPerSecond, saidAtOnce)}
	upgrader := gws.NewUpgrader(r, &gws.ServerOption{
		ParallelGolimit: 1, ReadMaxPayloadSize: maxSubscribe, ReadBufferSize: readBuffer,
		HandshakeTimeout: h.cfg.Timeout, CheckUtf8Enabled: true, Recovery: func(gws.Logger) {}, // a panic ends read
	})
	header := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {key},
	}
	var err error
	s.gws, err = upgrader.UpgradeFromConn(conn, bufio.NewReaderSize(conn, readBuffer), &http.Request{Method: http.MethodGet, Header: header})
	return s, r, err
}
