package app

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
	"github.com/stretchr/testify/require"

	"mooring/console"
	"mooring/devices"
	"mooring/internal/pgtest"
)

// TestSessionCookieBehindProxies: where a trusted proxy ended TLS, the browser may
// send the session's cookie by nothing else; who is not trusted has no say.
func TestSessionCookieBehindProxies(t *testing.T) {
	t.Parallel()
	proxy := Prefixes{netip.MustParsePrefix("127.0.0.1/32")}
	byHeader := startApp(t, Config{
		Location: Location{DatabaseURL: pgtest.URL(t)},
		Doors:    Doors{ForwardedHeader: "X-Forwarded-For", TrustedProxies: proxy},
	})
	byProtocol := startApp(t, Config{
		Location: Location{DatabaseURL: byHeader.DatabaseURL()}, Gateway: t.Name() + "-2",
		Doors: Doors{ProxyProtocol: proxyV2, TrustedProxies: proxy},
	})
	_, token, err := openAdmin(t, byHeader).AddUser(t.Context(), "ann", devices.RoleViewer)
	require.NoError(t, err)
	// cookie logs in from an address of this machine and gives the session's cookie.
	cookie := func(a *App, from string, preface func(net.Conn), headers ...string) *http.Cookie {
		t.Helper()
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := dialer.DialContext(t.Context(), "tcp", a.Addr())
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		if preface != nil {
			preface(conn)
		}
		body := fmt.Sprintf(`{"token":%q}`, token)
		_, err = fmt.Fprintf(conn, "POST %s/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s",
			console.Prefix, len(body), strings.Join(append(headers, ""), "\r\n"), body)
		require.NoError(t, err)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		defer func() { _ = response.Body.Close() }()
		require.Equal(t, http.StatusOK, response.StatusCode)
		require.Len(t, response.Cookies(), 1)
		return response.Cookies()[0]
	}
	said := []string{"X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https"}
	require.True(t, cookie(byHeader, "127.0.0.1", nil, said...).Secure)
	require.False(t, cookie(byHeader, "127.0.0.1", nil, said[0], "X-Forwarded-Proto: http").Secure)
	require.False(t, cookie(byHeader, "127.0.0.9", nil, said...).Secure, "not a trusted proxy")

	begins := func(client uint8) func(net.Conn) {
		return func(conn net.Conn) {
			header := proxyproto.Header{
				Version: 2, Command: proxyproto.PROXY, TransportProtocol: proxyproto.TCPv4,
				SourceAddr:      &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711},
				DestinationAddr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443},
			}
			tls, err := tlvparse.PP2SSL{Client: client, Verify: 1, TLV: []proxyproto.TLV{{Type: proxyproto.PP2_SUBTYPE_SSL_VERSION, Value: []byte("TLSv1.3")}}}.Marshal()
			require.NoError(t, err)
			require.NoError(t, header.SetTLVs([]proxyproto.TLV{tls}))
			_, err = header.WriteTo(conn)
			require.NoError(t, err)
		}
	}
	require.True(t, cookie(byProtocol, "127.0.0.1", begins(tlvparse.PP2_BITFIELD_CLIENT_SSL)).Secure)
	require.False(t, cookie(byProtocol, "127.0.0.1", begins(0)).Secure)
	require.False(t, cookie(byProtocol, "127.0.0.1", proxyHeader(2)).Secure)
	require.False(t, cookie(byProtocol, "127.0.0.9", nil, said...).Secure)
}
