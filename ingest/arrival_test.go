package ingest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// behind starts an HTTP server of which only the connections' first bytes reach
// the gateway, and gives its address.
func (sv *server) behind(t *testing.T, handler http.Handler) (*http.Server, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	httpServer := NewServer(handler, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = httpServer.Serve(sv.gateway.Handshakes(sv.gateway.Listener(listener)))
	}()
	t.Cleanup(func() {
		httpServer.Close()
		<-done
	})
	return httpServer, listener.Addr().String()
}

// A handshake in one piece never reaches net/http's handler, and the session
// outlives the HTTP server, as one that was hijacked does.
func TestPlainHandshakeIsTaken(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	httpServer, address := sv.behind(t, http.NotFoundHandler())
	sv.addr = address
	d := sv.join(t, 3)
	require.NoError(t, httpServer.Close())
	d.data(0, 2)
	d.ackUpTo(2)
	require.Zero(t, sv.gateway.door.Visits())
	d.conn.Close()
	eventually(t, func() bool { return sv.gateway.Stats().Connections == 0 }, "its place is free again")
}

// What is not plain is net/http's from the first byte on.
func TestOtherRequestsAreHandedOn(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	paths := make(chan string, 1)
	_, address := sv.behind(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { paths <- r.URL.String() }))
	good := handshakeWith("", "")(1)
	for request, want := range map[string]string{
		"GET /v1/streams HTTP/1.1\r\nHost: x\r\n\r\n":                        "/v1/streams",
		"GET /v1/stream?x=1 HTTP/1.1\r\n" + good[len(goodLine):]:             "/v1/stream?x=1",
		"HEAD /v1/stream HTTP/1.1\r\n" + good[len(goodLine):]:                "/v1/stream",
		handshakeWith("Content-Length: 3\r\n", "abc")(1):                     "/v1/stream",
		handshakeWith("Expect: 100-continue\r\n", "")(1):                     "/v1/stream",
		"GET /v1/stream HTTP/1.1\r\nHost: a,b\r\n" + good[len(goodLine)+20:]: "/v1/stream",
	} {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		_, err = io.WriteString(conn, request)
		require.NoError(t, err)
		select {
		case path := <-paths:
			require.Equal(t, want, path, request)
		case <-time.After(patience):
			require.Fail(t, "not handed on", request)
		}
		conn.Close()
	}
	require.Zero(t, sv.gateway.Stats().Connections)
}

// A handshake in pieces is waited for by net/http.
func TestHandshakeInPieces(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	request := fmt.Sprintf(goodLine+goodHeaders+"\r\n", 1)
	for _, cut := range []int{1, len(goodLine) - 1, len(goodLine), len(request) - 1} {
		d := sv.dial(t)
		d.raw([]byte(request[:cut]))
		eventually(t, func() bool { return sv.gateway.door.Visits() == 1 }, "it came in")
		d.raw([]byte(request[cut:]))
		response, err := http.ReadResponse(d.in, nil)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
		welcomed(d)
		d.conn.Close()
		eventually(t, func() bool { return sv.gateway.Stats().Connections == 0 }, "gone")
	}
}

// A refusal is found once, although two look at it.
func TestVerdictCountsOnce(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	_, _, response := sv.handshake(t, "GET", wire.StreamPath, http.Header{"Authorization": {"Bearer nobody"}})
	require.Equal(t, http.StatusUnauthorized, response.StatusCode)
	require.Equal(t, 1, sv.registry.questions())
	require.Zero(t, sv.gateway.Stats().Connections)

	a := &arrival{verdict: refuse(http.StatusForbidden, "disabled", "x")}
	ctx := withArrival(t.Context(), a)
	require.NotNil(t, verdictOn(ctx))
	require.Nil(t, verdictOn(ctx), "a second request is judged anew")
}

// mine is a connection that only its owner may touch.
type mine struct{ net.Conn }

// What net/http does to a connection that was taken reaches nobody.
func TestTakenConnectionIsOutOfReach(t *testing.T) {
	t.Parallel()
	a := &arrival{Conn: mine{}}
	a.taken.Store(true)
	later := time.Now().Add(time.Hour)
	require.NoError(t, a.SetDeadline(later))
	require.NoError(t, a.SetReadDeadline(later))
	require.NoError(t, a.SetWriteDeadline(later))
	require.NoError(t, a.CloseWrite())
	require.NoError(t, a.Close())
	_, err := bufio.NewWriterSize(a, 1).WriteString("HTTP/1.1 400 Bad Request")
	require.ErrorIs(t, err, net.ErrClosed)
}
