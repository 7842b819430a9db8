package app

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/client"
	"mooring/console"
	"mooring/devices"
	"mooring/internal/pgtest"
)

// startHAProxy runs Debian's haproxy in front of a server until the test ends,
// and gives its address. more goes into the server's line and the frontend.
func startHAProxy(t *testing.T, server, serverMore, frontMore string) string {
	t.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/haproxy")
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			require.FailNow(t, "haproxy is not installed", "apt-get install haproxy")
		}
		t.Skip("haproxy is not installed: apt-get install haproxy")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	front := listener.Addr().String()
	require.NoError(t, listener.Close())
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
frontend devices
  bind %s
  %s
  default_backend gateway
backend gateway
  server one %s %s
`, front, frontMore, server, serverMore), 0o600))
	var output bytes.Buffer
	cmd := exec.Command(path, "-db", "-f", file)
	cmd.Stdout, cmd.Stderr = &output, &output
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("haproxy said:\n%s", output.String())
		}
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", front)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, time.Minute, 20*time.Millisecond)
	return front
}

// askFrom asks the HTTP API with a wrong token from an address of this machine.
func askFrom(t *testing.T, from, front, token string, header http.Header) int {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+front+console.Prefix+"/devices", http.NoBody)
	require.NoError(t, err)
	maps.Copy(request.Header, header)
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := (&http.Client{Transport: transport}).Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode
}

// guessUntilRefused tries so many wrong tokens, or fewer, until the address may
// try no more. A fresh one may try 20.
func guessUntilRefused(t *testing.T, from, front string, most int, header http.Header) {
	t.Helper()
	for range most {
		status := askFrom(t, from, front, "wrong", header)
		if status == http.StatusTooManyRequests {
			return
		}
		require.Equal(t, http.StatusUnauthorized, status)
	}
	require.Fail(t, "wrong tokens and no end")
}

// HAProxy with send-proxy-v2 tells who connects: devices' sessions are on record
// with their own address, and who guesses the HTTP API's tokens shuts out nobody
// else behind the same proxy.
func TestBehindHAProxyWithProxyProtocol(t *testing.T) {
	t.Parallel()
	a := startApp(t, Config{
		Location: Location{DatabaseURL: pgtest.URL(t)},
		Doors:    Doors{ProxyProtocol: proxyV2, TrustedProxies: Prefixes{netip.MustParsePrefix("127.0.0.1/32")}},
	})
	front := startHAProxy(t, a.Addr(), "send-proxy-v2", "")
	admin := openAdmin(t, a)
	_, token, err := admin.Add(t.Context(), devices.NewDevice{Name: "pump"})
	require.NoError(t, err)
	_, user, err := admin.AddUser(t.Context(), "anna", devices.RoleViewer)
	require.NoError(t, err)

	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 5)}}
	pump := connect(t, client.Config{URL: "ws://" + front + streamPath, Token: token, Dial: dialer.DialContext})
	pump.sendOne(t)
	detail, err := admin.Show(t.Context(), "pump")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(detail.Last.Remote, "127.0.0.5:"), detail.Last.Remote)

	guessUntilRefused(t, "127.0.0.6", front, 100, nil)
	require.Equal(t, http.StatusUnauthorized, askFrom(t, "127.0.0.7", front, "wrong", nil), "its first wrong token")
	require.Equal(t, http.StatusOK, askFrom(t, "127.0.0.7", front, user, nil))
}

// The same with X-Forwarded-For, which HAProxy appends to whatever the client
// said itself.
func TestBehindHAProxyWithForwardedFor(t *testing.T) {
	t.Parallel()
	a := startApp(t, Config{
		Location: Location{DatabaseURL: pgtest.URL(t)},
		Doors:    Doors{ForwardedHeader: "X-Forwarded-For", TrustedProxies: Prefixes{netip.MustParsePrefix("127.0.0.1/32")}},
	})
	front := startHAProxy(t, a.Addr(), "", "option forwardfor")
	admin := openAdmin(t, a)
	_, token, err := admin.Add(t.Context(), devices.NewDevice{Name: "pump"})
	require.NoError(t, err)

	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 5)}}
	pump := connect(t, client.Config{URL: "ws://" + front + streamPath, Token: token, Dial: dialer.DialContext})
	pump.sendOne(t)
	detail, err := admin.Show(t.Context(), "pump")
	require.NoError(t, err)
	require.Equal(t, "127.0.0.5", detail.Last.Remote)

	guessUntilRefused(t, "127.0.0.6", front, 100, nil)
	require.Equal(t, http.StatusUnauthorized, askFrom(t, "127.0.0.7", front, "wrong", nil), "its first wrong token")
	invented := http.Header{"X-Forwarded-For": {"127.0.0.8"}}
	guessUntilRefused(t, "127.0.0.6", front, 10, invented) // nobody chooses an address
}

// HAProxy that ends TLS tells so with send-proxy-v2-ssl.
func TestHAProxyTellsOfTLS(t *testing.T) {
	t.Parallel()
	files := newTLSFiles(t)
	certificate, key := files.trusted.issue("localhost")
	files.write("both.pem", append(certificate, key...))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	encrypted := listener.Addr().String()
	require.NoError(t, listener.Close())
	a := startApp(t, Config{
		Location: Location{DatabaseURL: pgtest.URL(t)},
		Doors:    Doors{ProxyProtocol: proxyV2, TrustedProxies: Prefixes{netip.MustParsePrefix("127.0.0.1/32")}},
	})
	plain := startHAProxy(t, a.Addr(), "send-proxy-v2-ssl", "bind "+encrypted+" ssl crt "+filepath.Join(files.directory, "both.pem"))
	_, token, err := openAdmin(t, a).AddUser(t.Context(), "anna", devices.RoleViewer)
	require.NoError(t, err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: files.roots, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	secure := func(address string) bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+console.Prefix+"/login", strings.NewReader(fmt.Sprintf(`{"token":%q}`, token)))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		response, err := (&http.Client{Transport: transport}).Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Len(t, response.Cookies(), 1)
		return response.Cookies()[0].Secure
	}
	require.True(t, secure("https://"+encrypted))
	require.False(t, secure("http://"+plain))
}
