package app

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"mooring/client"
	"mooring/devices"
	"mooring/internal/pgtest"
	"mooring/wire"
)

// tlsFiles are the files of a server with TLS.
type tlsFiles struct {
	t         *testing.T
	directory string
	trusted   authority
	roots     *x509.CertPool
}

func newTLSFiles(t *testing.T) *tlsFiles {
	t.Helper()
	f := &tlsFiles{t: t, directory: t.TempDir(), trusted: newAuthority(t), roots: x509.NewCertPool()}
	f.roots.AddCert(f.trusted.certificate)
	f.renew()
	f.write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.trusted.certificate.Raw}))
	return f
}

func (f *tlsFiles) write(name string, content []byte) {
	f.t.Helper()
	require.NoError(f.t, os.WriteFile(filepath.Join(f.directory, name), content, 0o600))
}

// renew writes a new certificate of the server and gives its serial number.
func (f *tlsFiles) renew() *big.Int {
	f.t.Helper()
	certificate, key := f.trusted.issue("localhost")
	f.write("cert.pem", certificate)
	f.write("key.pem", key)
	block, _ := pem.Decode(certificate)
	leaf, err := x509.ParseCertificate(block.Bytes)
	require.NoError(f.t, err)
	return leaf.SerialNumber
}

func (f *tlsFiles) config(t *testing.T) Config {
	t.Helper()
	at := func(name string) string { return filepath.Join(f.directory, name) }
	return Config{
		Listen: "127.0.0.1:0", Location: Location{DatabaseURL: pgtest.URL(t)}, Gateway: t.Name(),
		TLSCert: at("cert.pem"), TLSKey: at("key.pem"), TLSClientCA: at("ca.pem"),
	}
}

// identity makes a device's certificate; leaf tells its serial number.
func (f *tlsFiles) identity(name string) (config *tls.Config, leaf *x509.Certificate) {
	f.t.Helper()
	pair, err := tls.X509KeyPair(f.trusted.issue(name))
	require.NoError(f.t, err)
	return &tls.Config{RootCAs: f.roots, Certificates: []tls.Certificate{pair}}, pair.Leaf
}

// served is the serial number of the certificate that the server shows.
func (f *tlsFiles) served(a *App) *big.Int {
	f.t.Helper()
	conn, err := tls.Dial("tcp", a.Addr(), &tls.Config{RootCAs: f.roots, MinVersion: tls.VersionTLS12})
	require.NoError(f.t, err)
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber
}

// Renewed files count without a restart, at a signal or by themselves; broken
// ones change nothing. Who is connected stays.
func TestCertificateFilesAreReloaded(t *testing.T) {
	t.Parallel()
	files := newTLSFiles(t)
	a := startApp(t, files.config(t))
	admin := openAdmin(t, a)
	_, token, err := admin.Add(t.Context(), devices.NewDevice{Name: "valve"})
	require.NoError(t, err)
	device := connect(t, client.Config{URL: a.URL(), Token: token, TLS: &tls.Config{RootCAs: files.roots}})
	device.sendOne(t)

	first := files.served(a)
	second := files.renew()
	require.NotEqual(t, first, second)
	a.Reload()
	require.Equal(t, second, files.served(a))
	require.InDelta(t, 1, count(t, a.certificates.reloads.WithLabelValues("done")), 0)

	files.write("cert.pem", []byte("nonsense"))
	a.Reload()
	a.Reload()
	require.Equal(t, second, files.served(a), "the old one stays")
	require.InDelta(t, 1, count(t, a.certificates.reloads.WithLabelValues("failed")), 0, "said once")
	require.NoError(t, os.Remove(filepath.Join(files.directory, "key.pem")))
	a.Reload()
	require.Equal(t, second, files.served(a))
	third := files.renew()
	a.Reload()
	require.Equal(t, third, files.served(a))
	device.sendOne(t)
	require.Equal(t, uint64(1), device.Stats().Connects, "the same connection all the time")
}

func TestChangedFilesAreFoundWithoutASignal(t *testing.T) {
	t.Parallel()
	files := newTLSFiles(t)
	cfg := files.config(t)
	cfg.AdminListen = noAdmin
	a := New(cfg)
	a.reloadEvery = 20 * time.Millisecond
	require.NoError(t, a.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, a.Stop(context.Background())) })
	serial := files.renew()
	require.Eventually(t, func() bool { return files.served(a).Cmp(serial) == 0 }, time.Minute, 20*time.Millisecond)
	require.Empty(t, a.AdminAddr())
}

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	files := newTLSFiles(t)
	a := startApp(t, files.config(t))
	_, err := tls.Dial("tcp", a.Addr(), &tls.Config{RootCAs: files.roots, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	require.ErrorContains(t, err, "protocol version")
	require.Eventually(t, func() bool { return count(t, a.tlsFailures) >= 1 }, time.Minute, 10*time.Millisecond)
}

// A revoked certificate ends the connection that showed it and opens no other.
func TestRevokedCertificateEndsTheConnection(t *testing.T) {
	t.Parallel()
	files := newTLSFiles(t)
	cfg := files.config(t)
	cfg.TLSClientAuth = "required"
	a := startApp(t, cfg)
	admin := openAdmin(t, a)
	_, token, err := admin.Add(t.Context(), devices.NewDevice{Name: "valve"})
	require.NoError(t, err)

	withToken := connect(t, client.Config{URL: a.URL(), Token: token, TLS: &tls.Config{RootCAs: files.roots}})
	withToken.await(t, func(e client.Event) bool { return e.Status == 401 })

	identity, leaf := files.identity("valve")
	device := connect(t, client.Config{URL: a.URL(), TLS: identity})
	device.sendOne(t)
	require.NoError(t, admin.RevokeCertificate(t.Context(), "valve", strings.ToUpper(leaf.SerialNumber.Text(16))))
	device.await(t, func(e client.Event) bool {
		return e.Kind == client.EventDisconnected && e.Code == wire.CloseUnauthenticated
	})
	device.await(t, func(e client.Event) bool { return e.Status == 401 })
	another, _ := files.identity("valve")
	connect(t, client.Config{URL: a.URL(), TLS: another}).sendOne(t)
}

// count is a counter's value.
func count(t *testing.T, counter prometheus.Counter) float64 {
	t.Helper()
	var out dto.Metric
	require.NoError(t, counter.Write(&out))
	return out.GetCounter().GetValue()
}

// behindProxy asks for the address under which the server knows a device whose
// connection begins with what head writes.
func behindProxy(t *testing.T, a *App, token string, head func(net.Conn)) (status int) {
	t.Helper()
	conn, err := net.Dial("tcp", a.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	head(conn)
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer %s\r\n\r\n\x82\x82\x00\x00\x00\x00\x91\x01", streamPath, token)
	if err != nil {
		return 0
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0 // closed without an answer
	}
	defer response.Body.Close()
	return response.StatusCode
}

func proxyHeader(version byte) func(net.Conn) {
	return func(conn net.Conn) {
		header := proxyproto.Header{
			Version: version, Command: proxyproto.PROXY, TransportProtocol: proxyproto.TCPv4,
			SourceAddr:      &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711},
			DestinationAddr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443},
		}
		_, _ = header.WriteTo(conn) // refused: the answer tells
	}
}

func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	loopback := Prefixes{netip.MustParsePrefix("127.0.0.0/8")}
	a := startApp(t, Config{
		Location: Location{DatabaseURL: pgtest.URL(t)},
		Doors:    Doors{ProxyProtocol: proxyV2, TrustedProxies: loopback},
	})
	admin := openAdmin(t, a)
	_, token, err := admin.Add(t.Context(), devices.NewDevice{Name: "pump"})
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, behindProxy(t, a, token, proxyHeader(2)))
	require.Eventually(t, func() bool {
		detail, err := admin.Show(t.Context(), "pump")
		return err == nil && detail.Last != nil && detail.Last.Remote == "192.0.2.7:4711"
	}, time.Minute, 20*time.Millisecond)

	require.Zero(t, behindProxy(t, a, token, proxyHeader(1)), "version 1")
	require.Zero(t, behindProxy(t, a, token, func(net.Conn) {}), "a trusted proxy must say for whom it speaks")
	require.InDelta(t, 2, count(t, a.proxyRefusals), 0)

	strangers := startApp(t, Config{
		Location: Location{DatabaseURL: a.DatabaseURL()}, Gateway: t.Name() + "-2",
		Doors: Doors{ProxyProtocol: proxyV2, TrustedProxies: Prefixes{netip.MustParsePrefix("10.0.0.0/8")}},
	})
	require.Zero(t, behindProxy(t, strangers, token, proxyHeader(2)), "not trusted")
	require.InDelta(t, 1, count(t, strangers.proxyRefusals), 0)
	require.Equal(t, http.StatusSwitchingProtocols, behindProxy(t, strangers, token, func(net.Conn) {}))
}

// Where the default address is taken, a server does without its pages; where a
// chosen one is, it does not start.
func TestAdminAddressTaken(t *testing.T) {
	t.Parallel()
	a := startApp(t, Config{Location: Location{DatabaseURL: pgtest.URL(t)}})
	other := New(Config{
		Listen: "127.0.0.1:0", Location: Location{DatabaseURL: a.DatabaseURL()}, Gateway: t.Name() + "-2",
		Doors: Doors{AdminListen: a.AdminAddr()},
	})
	require.ErrorContains(t, other.Start(t.Context()), "--admin-listen")
	require.Empty(t, other.steps)
}

func TestPagesTakeNoBody(t *testing.T) {
	t.Parallel()
	a := startApp(t, Config{Location: Location{DatabaseURL: pgtest.URL(t)}})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.Addr()+"/healthz", strings.NewReader("x"))
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	response.Body.Close()
	require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
}

func TestDatabaseURLFromAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "url")
	require.NoError(t, os.WriteFile(path, []byte("postgres://u:secret@h/d\n"), 0o600))
	database, err := FindDatabase(Location{DatabaseURLFile: path})
	require.NoError(t, err)
	require.Equal(t, "postgres://u:secret@h/d", database.URL)
	_, err = FindDatabase(Location{DatabaseURLFile: path, DatabaseURL: "postgres://x"})
	require.Error(t, err)
	require.NoError(t, os.WriteFile(path, []byte("host=h password=secret"), 0o600))
	_, err = FindDatabase(Location{DatabaseURLFile: path})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
}

func TestDoorValues(t *testing.T) {
	t.Parallel()
	var prefixes Prefixes
	require.NoError(t, prefixes.UnmarshalText([]byte("192.0.2.1, 10.1.2.3/8,2001:db8::/32,::ffff:192.0.2.9")))
	require.Equal(t, "[192.0.2.1/32 10.0.0.0/8 2001:db8::/32 192.0.2.9/32]", fmt.Sprint(prefixes))
	require.NoError(t, prefixes.UnmarshalText([]byte("none")))
	require.NotNil(t, prefixes)
	require.Empty(t, prefixes)
	require.Error(t, prefixes.UnmarshalText([]byte("example.org")))
	var limit Limit
	for _, bad := range []string{"0", "-1", "", "x"} {
		require.Error(t, limit.UnmarshalText([]byte(bad)), bad)
	}
	require.NoError(t, limit.UnmarshalText([]byte("none")))
	require.Equal(t, "none", limit.String())

	for name, doors := range map[string]Doors{
		"forwarded-header":  {ForwardedHeader: "Forwarded"},
		"proxy-protocol":    {ProxyProtocol: proxyV2},
		"allowed-origins":   {AllowedOrigins: Words{"*"}},
		"admin-listen":      {AdminListen: "8081"},
		"handshake-timeout": {HandshakeTimeout: 1},
		"tls-client-auth":   {TLSClientAuth: "required"},
	} {
		cfg := Config{Doors: doors}
		cfg.setDefaults()
		require.ErrorContains(t, cfg.Validate(), "--"+name)
	}
}
