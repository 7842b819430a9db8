package fleet

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"mooring/cmd/internal/websocket"
	"mooring/wire"
)

// rawSocket is a WebSocket client of the fleet's own, since a library would not
// send what is wrong. It is used by one goroutine.
type rawSocket struct {
	conn   net.Conn
	reader *bufio.Reader
	// farewell is the last GOAWAY that next came upon.
	farewell wire.Notice
}

// maxRawMessage is more than any server sends (PROTOCOL §2.6).
const maxRawMessage = 64 << 10

// handshake is a request to upgrade, to be made wrong.
type handshake struct {
	method string
	header http.Header
	body   string
}

func newHandshake(token string) handshake {
	key := make([]byte, 16)
	_, _ = rand.Read(key) // never fails
	return handshake{method: http.MethodGet, header: http.Header{
		"Connection":             {"Upgrade"},
		"Upgrade":                {"websocket"},
		"Sec-Websocket-Version":  {"13"},
		"Sec-Websocket-Key":      {base64.StdEncoding.EncodeToString(key)},
		"Sec-Websocket-Protocol": {wire.Subprotocol},
		"Authorization":          {"Bearer " + token},
	}}
}

// answerHead is the answer to a handshake.
type answerHead struct {
	status int // 0: none came
	header http.Header
}

// rawDial connects and asks for the upgrade. With a status other than 101 there is
// no socket.
func rawDial(ctx context.Context, address string, config *tls.Config, ask handshake) (*rawSocket, answerHead, error) {
	target, err := url.Parse(address)
	if err != nil {
		return nil, answerHead{}, err
	}
	conn, err := dialURL(ctx, target, config)
	if err != nil {
		return nil, answerHead{}, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	var request strings.Builder
	fmt.Fprintf(&request, "%s %s HTTP/1.1\r\nHost: %s\r\n", ask.method, target.RequestURI(), target.Host)
	_ = ask.header.Write(&request) // a Builder takes everything
	request.WriteString("\r\n" + ask.body)
	if _, err := io.WriteString(conn, request.String()); err != nil {
		_ = conn.Close()
		return nil, answerHead{}, err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		_ = conn.Close()
		return nil, answerHead{}, err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols {
		_ = conn.Close()
		return nil, answerHead{response.StatusCode, response.Header}, nil
	}
	return &rawSocket{conn: conn, reader: reader}, answerHead{response.StatusCode, response.Header}, nil
}

func dialURL(ctx context.Context, target *url.URL, config *tls.Config) (net.Conn, error) {
	port := target.Port()
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[target.Scheme]
	}
	address := net.JoinHostPort(target.Hostname(), port)
	if target.Scheme == "wss" {
		return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

func (s *rawSocket) close() { _ = s.conn.Close() }

// send writes one message in one frame.
func (s *rawSocket) send(payload []byte) error {
	return s.raw(maskedFrame(websocket.Fin|websocket.Binary, payload))
}

func (s *rawSocket) raw(bytes []byte) error {
	_, err := s.conn.Write(bytes)
	return err
}

// maskedFrame is a client's WebSocket frame with this first byte.
func maskedFrame(first byte, payload []byte) []byte {
	return websocket.Append(nil, first, &[4]byte{0x12, 0x34, 0x56, 0x78}, payload) // masking hides nothing here
}

var errRawMessage = errors.New("the server sent a WebSocket frame that it must not send")

// message reads one message, which the server never fragments.
func (s *rawSocket) message() (opcode byte, payload []byte, err error) {
	frame, err := websocket.Read(s.reader, maxRawMessage)
	switch {
	case errors.Is(err, websocket.ErrTooLong):
		return 0, nil, errRawMessage
	case err != nil:
		return 0, nil, err
	case !frame.Final() || frame.Reserved() || frame.Masked:
		return 0, nil, errRawMessage
	}
	return frame.Opcode(), frame.Payload, nil
}

// answer is what the server said: one frame, or its end.
type answer struct {
	kind   wire.FrameType // 0: the connection is over
	frame  []byte
	code   wire.CloseCode // of the end; 1006: without a close frame
	goAway wire.CloseCode // announced before
	err    error
}

// next reads until a frame or the end, answers pings and keeps in mind what a
// GOAWAY announced.
func (s *rawSocket) next(until time.Time, decoder *wire.Decoder, goAway *wire.CloseCode) answer {
	_ = s.conn.SetDeadline(until)
	for {
		opcode, payload, err := s.message()
		if err != nil {
			return answer{code: 1006, goAway: *goAway, err: err}
		}
		switch opcode {
		case websocket.Ping:
			_ = s.raw(maskedFrame(websocket.Fin|websocket.Pong, payload))
		case websocket.Close:
			code := wire.CloseCode(1005)
			if len(payload) >= 2 {
				code = wire.CloseCode(binary.BigEndian.Uint16(payload))
			}
			_ = s.raw(maskedFrame(websocket.Fin|websocket.Close, payload[:min(2, len(payload))]))
			return answer{code: code, goAway: *goAway}
		case websocket.Binary:
			kind, err := wire.FrameTypeOf(payload)
			if err != nil {
				return answer{code: 1006, goAway: *goAway, err: err}
			}
			if kind == wire.FrameNotice {
				if notice, err := decoder.Notice(payload); err == nil && notice.Kind == wire.NoticeGoAway {
					*goAway, s.farewell = notice.Code, notice
					continue
				}
			}
			return answer{kind: kind, frame: payload, goAway: *goAway}
		}
	}
}
