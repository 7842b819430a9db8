package ingest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/ingest/door"
	"mooring/wire"
)

// strict is quick for tests whose clients, all of this machine, are limited as
// others are.
func strict(limits door.Config) Config {
	cfg := quick()
	limits.Unlimited = []netip.Prefix{}
	cfg.Door = limits
	return cfg
}

// serveAtOnce is serve with strict limits, and a door at which no time passes but
// what the test adds to its clock.
func serveAtOnce(t *testing.T, limits door.Config) (*server, *atomic.Int64) {
	t.Helper()
	sv := &server{store: newFakeStore(), registry: newFakeRegistry()}
	cfg := strict(limits)
	var err error
	sv.gateway, err = New(cfg, sv.registry, sv.registry, sv.store)
	require.NoError(t, err)
	clock := &atomic.Int64{}
	clock.Store(1)
	sv.gateway.door = door.New(cfg.Door.WithDefaults(), clock.Load)
	sv.listen(t)
	return sv, clock
}

func bearer(i int) http.Header {
	return http.Header{"Authorization": {fmt.Sprintf("Bearer token-%d", i)}}
}

// tryOften does handshakes until one is refused, and gives the number before it.
func (sv *server) tryOften(t *testing.T, headers http.Header) (int, reply) {
	t.Helper()
	for n := range 1000 {
		conn, _, response := sv.handshake(t, "GET", wire.StreamPath, headers)
		conn.Close()
		if response.StatusCode != http.StatusSwitchingProtocols && response.StatusCode != http.StatusUnauthorized {
			return n, response
		}
	}
	require.FailNow(t, "never refused")
	return 0, reply{}
}

func requireLater(t *testing.T, response reply, status int, says string) {
	t.Helper()
	require.Equal(t, status, response.StatusCode)
	require.Contains(t, response.body, says)
	after, err := strconv.Atoi(response.Header.Get("Retry-After"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, after, 1)
}

func TestHandshakesASecond(t *testing.T) {
	t.Parallel()
	sv, _ := serveAtOnce(t, door.Config{Rate: 1})
	n, response := sv.tryOften(t, bearer(1))
	require.Equal(t, 10, n)
	requireLater(t, response, http.StatusServiceUnavailable, "at once")

	sv, _ = serveAtOnce(t, door.Config{AddressRate: 1})
	n, response = sv.tryOften(t, bearer(1))
	require.Equal(t, 10, n)
	requireLater(t, response, http.StatusTooManyRequests, "this address")
}

func TestConnectionsOfOneAddress(t *testing.T) {
	t.Parallel()
	sv := serve(t, strict(door.Config{AddressConnections: 1}), newFakeStore())
	d := sv.join(t, 1)
	_, _, response := sv.handshake(t, "GET", wire.StreamPath, bearer(2))
	requireLater(t, response, http.StatusTooManyRequests, "this address")
	_, _, response = sv.handshake(t, "GET", wire.StreamPath, nil)
	require.Equal(t, http.StatusTooManyRequests, response.StatusCode)
	d.conn.Close()
	eventually(t, func() bool { return sv.gateway.Stats().Connections == 0 }, "the place is free again")
	sv.join(t, 2)
}

// Who guesses credentials is soon not even asked about. Who shares the address
// gets in all the same, if its credential is known to be good.
func TestWrongCredentialsOfOneAddress(t *testing.T) {
	t.Parallel()
	sv, clock := serveAtOnce(t, door.Config{AddressFailures: 1})
	sv.registry.unknown = map[string]bool{"token-5": true}
	n, response := sv.tryOften(t, http.Header{"Authorization": {"Bearer nobody"}})
	require.Equal(t, 10, n)
	requireLater(t, response, http.StatusTooManyRequests, "wrong credentials")
	asked := sv.registry.questions()
	require.Equal(t, 10, asked)
	_, _, response = sv.handshake(t, "GET", wire.StreamPath, bearer(5))
	require.Equal(t, http.StatusTooManyRequests, response.StatusCode, "good, but nobody here knows")
	require.Equal(t, asked, sv.registry.questions(), "and nobody is asked")
	sv.join(t, 4)
	clock.Add(int64(time.Second))
	_, _, response = sv.handshake(t, "GET", wire.StreamPath, bearer(5))
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode, "a second later one more may be asked about")
	require.Equal(t, asked+1, sv.registry.questions())
}

// What a proxy says counts, for limits and for the record; what others say
// does not.
func TestAddressBehindAProxy(t *testing.T) {
	t.Parallel()
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	sv := serve(t, strict(door.Config{AddressConnections: 1, TrustedProxies: loopback, ForwardedHeader: door.XForwardedFor}), newFakeStore())
	from := func(i int, address string) reply {
		header := bearer(i)
		header.Set("X-Forwarded-For", address)
		_, _, response := sv.handshake(t, "GET", wire.StreamPath, header)
		return response
	}
	require.Equal(t, http.StatusSwitchingProtocols, from(1, "192.0.2.1").StatusCode)
	require.Equal(t, http.StatusTooManyRequests, from(2, "192.0.2.1").StatusCode)
	require.Equal(t, http.StatusSwitchingProtocols, from(3, "10.1.1.1, 192.0.2.3").StatusCode)

	for _, trusted := range []bool{true, false} {
		limits := door.Config{}
		want := "127.0.0.1:"
		if trusted {
			limits.TrustedProxies, limits.ForwardedHeader = loopback, door.XForwardedFor
			want = "192.0.2.1"
		}
		sv := serve(t, strict(limits), newFakeStore())
		header := bearer(1)
		header.Set("X-Forwarded-For", "192.0.2.1")
		conn, _, response := sv.handshake(t, "GET", wire.StreamPath, header)
		require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
		_, err := conn.Write(masked(0x82, []byte{0x91, 1})) // an empty HELLO
		require.NoError(t, err)
		eventually(t, func() bool { return sv.registry.opened() == 1 }, "open")
		require.True(t, strings.HasPrefix(sv.registry.opens[0].Remote, want), sv.registry.opens[0].Remote)
	}
}

// A connection counts as unfinished until its first frame, whatever it does
// before.
func TestUnfinishedConnections(t *testing.T) {
	t.Parallel()
	sv := serve(t, strict(door.Config{Unfinished: 2}), newFakeStore())
	silent, err := net.Dial("tcp", sv.addr)
	require.NoError(t, err)
	defer silent.Close()
	eventually(t, func() bool { return sv.gateway.door.Visits() == 1 }, "counted before it says anything")
	_, _, response := sv.handshake(t, "GET", wire.StreamPath, bearer(1))
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	require.Equal(t, 2, sv.gateway.door.Visits(), "upgraded, and silent")

	sv.join(t, 2)
	require.NoError(t, silent.SetReadDeadline(time.Now().Add(patience)))
	_, err = silent.Read(make([]byte, 1))
	require.Error(t, err, "the oldest made room")
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	eventually(t, func() bool { return sv.gateway.door.Visits() == 1 }, "a frame is in: finished")
	sv.join(t, 3)
	sv.join(t, 4)
	require.Equal(t, door.Evictions{All: 1}, sv.gateway.door.Evicted(), "those with a frame count no more")
	refused, _, response := sv.handshake(t, "GET", wire.StreamPath, nil)
	require.Equal(t, http.StatusUnauthorized, response.StatusCode)
	refused.Close()
	eventually(t, func() bool { return sv.gateway.door.Visits() == 1 }, "refused and gone")
}

// slowServer is NewServer with less patience for a header and no other limit.
func slowServer(t *testing.T, secure *tls.Config) (address string) {
	t.Helper()
	httpServer := NewServer(http.NotFoundHandler(), nil)
	httpServer.ReadHeaderTimeout = 200 * time.Millisecond
	httpServer.ReadTimeout, httpServer.WriteTimeout, httpServer.IdleTimeout = time.Hour, time.Hour, time.Hour
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address = listener.Addr().String()
	if secure != nil {
		listener = tls.NewListener(listener, secure)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = httpServer.Serve(listener)
	}()
	t.Cleanup(func() {
		httpServer.Close()
		<-done
	})
	return address
}

// Whoever sends a header byte by byte, or none, or does not come to an end with
// TLS, is let go.
func TestSlowHandshakes(t *testing.T) {
	t.Parallel()
	ca := authority(t, "ca", nil)
	secure := &tls.Config{Certificates: []tls.Certificate{*authority(t, "gateway.test", ca)}, MinVersion: tls.VersionTLS12}
	for name, c := range map[string]struct {
		secure *tls.Config
		sends  string
	}{
		"nothing":             {nil, ""},
		"half a header":       {nil, "GET / HTTP/1.1\r\nHost: x\r\n"},
		"no TLS at all":       {secure, ""},
		"half a TLS record":   {secure, "\x16\x03\x01\x02\x00\x01"},
		"plain text at a TLS": {secure, "GET / HTTP/1.1\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", slowServer(t, c.secure))
			require.NoError(t, err)
			defer conn.Close()
			_, err = io.WriteString(conn, c.sends)
			require.NoError(t, err)
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
			_, err = io.Copy(io.Discard, conn)
			var timeout net.Error
			require.False(t, err != nil && asTimeout(err, &timeout), "not let go")
		})
	}
}

func asTimeout(err error, target *net.Error) bool {
	found, ok := err.(net.Error) //nolint:errorlint // straight from the socket
	*target = found
	return ok && found.Timeout()
}

func TestHugeHeaders(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	_, _, response := sv.handshake(t, "GET", wire.StreamPath, http.Header{"X": {strings.Repeat("x", 12<<10)}})
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, response.StatusCode)
}

func TestAllowOrigins(t *testing.T) {
	t.Parallel()
	check, err := AllowOrigins([]string{"https://panel.example.org", "http://[::1]:3000"})
	require.NoError(t, err)
	for origin, want := range map[string]bool{
		"https://panel.example.org": true, "https://PANEL.example.org": true, "http://[::1]:3000": true,
		"http://panel.example.org": false, "https://panel.example.org:444": false, "https://panel.example.org.evil": false,
		"https://gateway.test": false, "null": false, "": false,
	} {
		r := httptest.NewRequest(http.MethodGet, "https://gateway.test"+wire.StreamPath, http.NoBody)
		r.Header.Set("Origin", origin)
		require.Equal(t, want, check(r), origin)
	}
	for _, bad := range []string{"*", "panel.example.org", "https://panel.example.org/", "https://", "https://u@panel"} {
		_, err := AllowOrigins([]string{bad})
		require.Error(t, err, bad)
	}
	check, err = AllowOrigins(nil)
	require.NoError(t, err)
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.Header.Set("Origin", "http://"+r.Host)
	require.False(t, check(r), "an empty list lets no page in")
}
