package app

import (
	"bufio"
	"crypto/tls"
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

	"mooring/devices"
	"mooring/internal/pgtest"
	"mooring/wire"
)

// ownLimit is less than any limit of time that a server has unless told otherwise.
const ownLimit = 7 * time.Second

// ends reads until the server closes, which it must have done after ownLimit.
func ends(t *testing.T, conn net.Conn) []byte {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(ownLimit)))
	all, err := io.ReadAll(conn)
	require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "the server closes, and does not wait")
	return all
}

// --handshake-timeout reaches everything that may be slow before a device is
// known, and --max-header what may be large.
func TestSlowHandshakesEnd(t *testing.T) {
	t.Parallel()
	database := pgtest.URL(t)
	// Long enough for what has to be done within it on a busy machine too.
	doors := Doors{HandshakeTimeout: Span(2 * time.Second), MaxHeader: 1 << 10}
	plain := startApp(t, Config{Location: Location{DatabaseURL: database}, Doors: doors})
	files := newTLSFiles(t)
	secured := files.config(t)
	secured.Location, secured.Gateway = Location{DatabaseURL: database}, t.Name()+"-tls"
	secured.HandshakeTimeout = doors.HandshakeTimeout
	encrypted := startApp(t, secured)
	_, token, err := openAdmin(t, plain).Add(t.Context(), devices.NewDevice{Name: "pump"})
	require.NoError(t, err)
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer %s\r\n", streamPath, token)
	dial := func(t *testing.T, a *App) net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", a.Addr())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn
	}

	t.Run("half a header", func(t *testing.T) {
		t.Parallel()
		conn := dial(t, plain)
		_, err := io.WriteString(conn, request)
		require.NoError(t, err)
		ends(t, conn)
	})
	t.Run("no TLS handshake", func(t *testing.T) {
		t.Parallel()
		ends(t, dial(t, encrypted))
	})
	t.Run("no header after the TLS handshake", func(t *testing.T) {
		t.Parallel()
		conn := tls.Client(dial(t, encrypted), &tls.Config{RootCAs: files.roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12})
		require.NoError(t, conn.HandshakeContext(t.Context()))
		ends(t, conn)
	})
	t.Run("no first frame", func(t *testing.T) {
		t.Parallel()
		conn := dial(t, plain)
		_, err := io.WriteString(conn, request+"\r\n")
		require.NoError(t, err)
		in := bufio.NewReader(conn)
		response, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(ownLimit)))
		for {
			frame := make([]byte, 2)
			_, err := io.ReadFull(in, frame)
			require.NoError(t, err, "a close frame comes")
			payload := make([]byte, frame[1])
			_, err = io.ReadFull(in, payload)
			require.NoError(t, err)
			if frame[0] == 0x88 {
				require.Equal(t, int(wire.CloseHeartbeat), int(payload[0])<<8|int(payload[1]), "%s", payload[2:])
				return
			}
		}
	})
	t.Run("a large header", func(t *testing.T) {
		t.Parallel()
		conn := dial(t, plain)
		_, err := io.WriteString(conn, request+"X-Long: "+strings.Repeat("x", 6<<10)+"\r\n\r\n")
		require.NoError(t, err)
		require.Contains(t, string(ends(t, conn)), "431")
	})
}
