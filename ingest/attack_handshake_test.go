package ingest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// The usual handshake, for attacks to spoil.
const (
	goodLine    = "GET " + wire.StreamPath + " HTTP/1.1\r\n"
	goodHeaders = "Host: gateway.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer token-%d\r\n"
)

// handshakeWith is the usual handshake of device number n with more headers, and
// what follows behind.
func handshakeWith(more, behind string) func(n int) string {
	return func(n int) string { return fmt.Sprintf(goodLine+goodHeaders, n) + more + "\r\n" + behind }
}

// answered is an attack on the handshake: what is sent is answered with want, an
// HTTP status, and nothing else, and the connection is closed.
func answered(name string, want int, request func(n int) string) attack {
	return attack{name, func(t *testing.T, sv *server, n int) {
		t.Helper()
		d := sv.dial(t)
		go d.shove([]byte(request(n)), 1)
		require.Equal(t, want, d.onlyStatus())
	}}
}

var statusLine = regexp.MustCompile(`(?m)^HTTP/1\.[01] (\d{3}) `)

// onlyStatus reads up to the end of the stream and gives the status of the one
// answer there is.
func (d *device) onlyStatus() int {
	d.t.Helper()
	_ = d.conn.SetReadDeadline(time.Now().Add(patience))
	all, err := io.ReadAll(d.in)
	if err != nil { // a reset: the server closed while more was coming in
		require.ErrorIs(d.t, err, syscall.ECONNRESET)
	}
	d.conn.Close()
	answers := statusLine.FindAllSubmatch(all, -1)
	require.Len(d.t, answers, 1, "one answer: %s", all)
	require.NotContains(d.t, string(all), "token-")
	status, err := strconv.Atoi(string(answers[0][1]))
	require.NoError(d.t, err)
	return status
}

// upgraded is a handshake that is odd and yet in order: it is taken, and what
// follows is read as WebSocket frames from the right byte on.
func upgraded(name string, request func(n int) string, then func(d *device)) attack {
	return attack{name, func(t *testing.T, sv *server, n int) {
		t.Helper()
		d := sv.dial(t)
		d.raw([]byte(request(n)))
		_ = d.conn.SetReadDeadline(time.Now().Add(patience))
		response, err := http.ReadResponse(d.in, nil)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
		then(d)
		d.conn.Close()
	}}
}

// welcomed says HELLO and is welcomed.
func welcomed(d *device) {
	d.t.Helper()
	d.send(d.encoder.Hello(wire.Hello{}))
	d.welcome()
}

// Attacks with the HTTP request that is to become a WebSocket, where the gateway
// looks at it first, and where net/http does.
func TestAttackHandshake(t *testing.T) {
	assault(t, quick(), handshakeAttacks())
}

func TestAttackHandshakeThroughNetHTTP(t *testing.T) {
	assaultOn(t, serveThrough(t, quick(), newFakeStore()), handshakeAttacks())
}

func handshakeAttacks() []attack {
	plain := handshakeWith("", "")
	replace := func(old, by string) func(n int) string {
		return func(n int) string { return strings.Replace(plain(n), old, by, 1) }
	}
	second := "GET /second HTTP/1.1\r\nHost: gateway.test\r\n\r\n"
	hello := string(masked(0x82, []byte{0x91, 1}))
	many := func(lines int, line string) string { return strings.Repeat(line, lines) }

	return []attack{
		// What a proxy might read another way than the server.
		answered("two Content-Lengths that differ", 400, handshakeWith("Content-Length: 0\r\nContent-Length: 5\r\n", "hello")),
		answered("a Content-Length twice the same", 400, handshakeWith("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")),
		answered("a Content-Length that is no number", 400, handshakeWith("Content-Length: +5\r\n", "hello")),
		answered("Transfer-Encoding and Content-Length", 400, handshakeWith("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"+second)),
		answered("Transfer-Encoding", 400, handshakeWith("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"+second)),
		answered("a Transfer-Encoding in disguise", 501, handshakeWith("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"+second)),
		answered("a body, of frames", 400, handshakeWith(fmt.Sprintf("Content-Length: %d\r\n", len(hello)), hello)),
		answered("a body that does not come", 400, handshakeWith("Content-Length: 1000000\r\n", "")),
		answered("Expect: 100-continue", 400, handshakeWith("Expect: 100-continue\r\nContent-Length: 5\r\n", "")),
		upgraded("a second request behind the handshake", handshakeWith("", second), func(d *device) {
			d.closesWith(1002, true) // "G" has reserved bits: read as a frame, and never as a request
		}),
		answered("a second request behind one that is refused", 401, func(int) string {
			return strings.Replace(plain(1), "Bearer token-1", "Bearer nobody", 1) + second
		}),
		answered("a second request behind a POST with a body", 405, func(n int) string {
			return strings.Replace(fmt.Sprintf(goodLine+goodHeaders, n), "GET", "POST", 1) + "Content-Length: 5\r\n\r\nhello" + second
		}),
		answered("two Hosts", 400, handshakeWith("Host: other.test\r\n", "")),
		answered("no Host", 400, replace("Host: gateway.test\r\n", "")),
		answered("two keys", 400, handshakeWith("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", "")),
		answered("two versions", 400, handshakeWith("Sec-WebSocket-Version: 8\r\n", "")),
		answered("two credentials", 400, handshakeWith("Authorization: Bearer token-1\r\n", "")),
		answered("a space before a colon", 400, replace("Upgrade: websocket", "Upgrade : websocket")),
		answered("a space before another colon", 400, handshakeWith("X-Odd : 1\r\n", "")),
		answered("a host that is none", 400, replace("Host: gateway.test", "Host: gateway.test/x?")),
		answered("a header without a name", 400, handshakeWith(": nothing\r\n", "")),
		answered("U+0000 in a header", 400, handshakeWith("X-Null: a\x00b\r\n", "")),
		answered("an empty line first", 400, func(n int) string { return "\r\n" + plain(n) }),
		answered("a carriage return in a header", 400, handshakeWith("X-Return: a\rUpgrade: b\r\n", "")),

		// What RFC 9112 lets a server take, and this one does.
		upgraded("a folded header", replace("Authorization: Bearer token", "Authorization: Bearer\r\n token"), welcomed),
		upgraded("bare line feeds", func(n int) string { return strings.ReplaceAll(plain(n), "\r\n", "\n") }, welcomed),
		upgraded("a target with a host", replace("GET /", "GET http://gateway.test/"), welcomed),

		// Other protocols.
		answered("HTTP/1.0", 400, replace("HTTP/1.1", "HTTP/1.0")),
		answered("HTTP/0.9", 400, func(int) string { return "GET " + wire.StreamPath + "\r\n\r\n" }),
		answered("HTTP/3.0", 505, replace("HTTP/1.1", "HTTP/3.0")),
		answered("the preface of HTTP/2", 400, func(int) string { return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" }),
		answered("an upgrade to HTTP/2", 426, replace("Upgrade: websocket", "Upgrade: h2c")),
		answered("the first bytes of TLS", 400, func(int) string { return "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n" }),
		answered("a frame without a handshake", 400, func(int) string { return hello + "\r\n\r\n" }),
		answered("CONNECT", 405, replace("GET", "CONNECT")),

		// Size.
		answered("a header of 64 KiB", 431, handshakeWith("X-Long: "+strings.Repeat("x", 64<<10)+"\r\n", "")),
		answered("10,000 headers", 431, handshakeWith(many(10_000, "X-Many: y\r\n"), "")),
		answered("a header of 1 MiB without an end", 431, handshakeWith("X-Long: "+strings.Repeat("x", 1<<20), "")),
		answered("a target of 64 KiB", 431, replace(wire.StreamPath, "/"+strings.Repeat("x", 64<<10))),
		answered("thousands of subprotocols", 400, handshakeWith("Sec-WebSocket-Protocol: "+many(3000, "a,")+"\r\n", "")),
		answered("a hundred tokens", 400, handshakeWith("Sec-WebSocket-Protocol: mooring.v1"+many(100, ",mooring.token.x")+"\r\n", "")),

		{"half a handshake, and gone", func(t *testing.T, sv *server, n int) {
			t.Helper()
			for cut := 0; cut < len(plain(n)); cut += 20 {
				d := sv.dial(t)
				d.raw([]byte(plain(n)[:cut]))
				d.conn.Close()
			}
		}},
		{"a whole handshake, and gone", func(t *testing.T, sv *server, n int) {
			t.Helper()
			for range 10 {
				d := sv.dial(t)
				d.raw([]byte(plain(n)))
				_ = d.conn.(*net.TCPConn).SetLinger(0)
				d.conn.Close()
			}
		}},
	}
}

// What is sent too slowly is not waited for, neither the head nor a body.
func TestAttackSlowHandshake(t *testing.T) {
	sv := serve(t, quick(), newFakeStore())
	impatient := NewServer(sv.gateway, nil)
	impatient.ReadHeaderTimeout, impatient.ReadTimeout = 200*time.Millisecond, 300*time.Millisecond
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- impatient.Serve(listener) }()
	t.Cleanup(func() {
		impatient.Close()
		require.ErrorIs(t, <-done, http.ErrServerClosed)
	})
	sv.addr = listener.Addr().String()
	healthy := sv.bystander(t, 1)
	before := sv.footprint()
	for name, request := range map[string]string{
		"nothing":     "",
		"half a line": "GET /v1/str",
		"half a head": fmt.Sprintf(goodLine+goodHeaders, 2),
		"a slow body": strings.Replace(fmt.Sprintf(goodLine+goodHeaders, 2), "GET", "POST", 1) + "Content-Length: 1000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			d := sv.dial(t)
			d.raw([]byte(request))
			ended := make(chan error, 1)
			go func() {
				_ = d.conn.SetReadDeadline(time.Now().Add(patience))
				_, err := io.Copy(io.Discard, d.in)
				ended <- err
			}()
			pace := time.NewTicker(10 * time.Millisecond)
			defer pace.Stop()
			for {
				select {
				case err := <-ended:
					require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "the server closes, and does not wait")
					return
				case <-pace.C:
					if request != "" {
						_, _ = d.conn.Write([]byte("x"))
					}
				}
			}
		})
	}
	sv.settlesTo(t, before)
	healthy.lostNothing(t)
}
