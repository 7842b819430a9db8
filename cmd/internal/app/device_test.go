package app

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/client"
	"mooring/devices"
	"mooring/internal/pgtest"
	"mooring/storage"
	"mooring/wire"
)

// connection is a client that runs until the test ends, and what happened to it.
type connection struct {
	*client.Client
	layout client.LayoutID
	events chan client.Event
}

func connect(t *testing.T, cfg client.Config) *connection {
	t.Helper()
	c := &connection{events: make(chan client.Event, 100)}
	cfg.OnEvent = func(event client.Event) { c.events <- event }
	if cfg.Backoff == nil {
		cfg.Backoff = func(client.Retry) time.Duration { return 50 * time.Millisecond }
	}
	var err error
	c.Client, err = client.New(cfg)
	require.NoError(t, err)
	c.layout, err = c.Layout("env", []wire.Channel{{Name: "temperature"}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Run(ctx) // ends with ctx
	}()
	t.Cleanup(func() {
		cancel()
		for { // its events must not hold it up
			select {
			case <-c.events:
			case <-ended:
				return
			}
		}
	})
	return c
}

// await returns the next event that fits.
func (c *connection) await(t *testing.T, fits func(client.Event) bool) client.Event {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case event := <-c.events:
			if fits(event) {
				return event
			}
		case <-timeout:
			require.FailNow(t, "no such event")
		}
	}
}

func (c *connection) sendOne(t *testing.T) {
	t.Helper()
	_, err := c.Append(c.layout, time.Now(), wire.Value{Kind: wire.ValueNumber, Number: 21.5})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, c.WaitAcked(ctx))
}

func openAdmin(t *testing.T, a *App) *devices.Admin {
	t.Helper()
	admin, err := devices.OpenAdmin(t.Context(), a.DatabaseURL())
	require.NoError(t, err)
	t.Cleanup(admin.Close)
	return admin
}

func connected(event client.Event) bool { return event.Kind == client.EventConnected }

// What an operator changes in another process reaches the connection.
func TestOperatorEndsSessions(t *testing.T) {
	t.Parallel()
	a := startApp(t, Config{Location: Location{DatabaseURL: pgtest.URL(t)}})
	admin := openAdmin(t, a)
	_, token, err := admin.Add(t.Context(), devices.NewDevice{Name: "boiler-7"})
	require.NoError(t, err)

	device := connect(t, client.Config{URL: a.URL(), Token: token})
	device.sendOne(t)
	require.Eventually(t, func() bool { return a.Stats().RowsCommitted == 1 }, time.Minute, 10*time.Millisecond)

	require.NoError(t, admin.Disable(t.Context(), "boiler-7"))
	device.await(t, func(e client.Event) bool { return e.Kind == client.EventDisconnected && e.Code == wire.CloseDisabled })
	device.await(t, func(e client.Event) bool { return e.Status == 403 })
	require.NoError(t, admin.Enable(t.Context(), "boiler-7"))
	device.await(t, connected)
	device.sendOne(t)

	_, renewed, err := admin.Rotate(t.Context(), "boiler-7", devices.Rotation{Now: true})
	require.NoError(t, err)
	device.await(t, func(e client.Event) bool {
		return e.Kind == client.EventDisconnected && e.Code == wire.CloseUnauthenticated
	})
	device.await(t, func(e client.Event) bool { return e.Status == 401 })

	successor := connect(t, client.Config{URL: a.URL(), Token: renewed})
	successor.sendOne(t)
	reader, err := storage.OpenReader(t.Context(), a.DatabaseURL())
	require.NoError(t, err)
	defer reader.Close()
	_, rows, err := reader.Table(t.Context(), "SELECT count(*) FROM mooring.readings WHERE device = 'boiler-7'")
	require.NoError(t, err)
	require.Equal(t, [][]string{{"3"}}, rows)
}

// A second server on the same database takes the device over, and the first one
// ends its connection without waiting for a heartbeat.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	first := startApp(t, Config{Location: Location{DatabaseURL: url}, Gateway: "first"})
	second := startApp(t, Config{Location: Location{DatabaseURL: url}, Gateway: "second"})
	admin := openAdmin(t, first)
	_, token, err := admin.Add(t.Context(), devices.NewDevice{Name: "pump"})
	require.NoError(t, err)
	stay := func(client.Retry) time.Duration { return time.Hour } // once it is closed, it stays away
	old := connect(t, client.Config{URL: first.URL(), Token: token, Backoff: stay})
	old.sendOne(t)
	connect(t, client.Config{URL: second.URL(), Token: token, Backoff: stay}).sendOne(t)
	old.await(t, func(e client.Event) bool { return e.Kind == client.EventDisconnected && e.Code == wire.CloseReplaced })
	require.Eventually(t, func() bool { return first.Stats().Connections == 0 }, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, 1, second.Stats().Connections)
	detail, err := admin.Show(t.Context(), "pump")
	require.NoError(t, err)
	require.Equal(t, int64(2), detail.Sessions)
	require.Equal(t, "second", detail.Last.Gateway)
}

// authority signs certificates for the test.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{t: t}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	require.NoError(t, err)
	a.certificate, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	return a
}

// issue makes a certificate and its key as PEM.
func (a authority) issue(name string) (certificate, key []byte) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a.certificate, private.Public(), a.key)
	require.NoError(a.t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(a.t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

func TestTLSAndCertificates(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(directory, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	trusted, stranger := newAuthority(t), newAuthority(t)
	certificate, key := trusted.issue("localhost")
	a := startApp(t, Config{
		Location: Location{DatabaseURL: pgtest.URL(t)},
		TLSCert:  file("cert.pem", certificate), TLSKey: file("key.pem", key),
		TLSClientCA: file("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: trusted.certificate.Raw})),
	})
	admin := openAdmin(t, a)
	_, token, err := admin.Add(t.Context(), devices.NewDevice{Name: "valve"})
	require.NoError(t, err)
	require.Contains(t, a.URL(), "wss://127.0.0.1:")

	roots := x509.NewCertPool()
	roots.AddCert(trusted.certificate)
	withToken := connect(t, client.Config{URL: a.URL(), Token: token, TLS: &tls.Config{RootCAs: roots}})
	withToken.sendOne(t)

	identity := func(by authority, name string) *tls.Config {
		pair, err := tls.X509KeyPair(by.issue(name))
		require.NoError(t, err)
		return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}
	}
	withCertificate := connect(t, client.Config{URL: a.URL(), TLS: identity(trusted, "valve")})
	withCertificate.sendOne(t)
	unknown := connect(t, client.Config{URL: a.URL(), TLS: identity(trusted, "nobody")})
	unknown.await(t, func(e client.Event) bool { return e.Status == 401 })
	forged := connect(t, client.Config{URL: a.URL(), TLS: identity(stranger, "valve")})
	forged.await(t, func(e client.Event) bool { return e.Kind == client.EventDisconnected && e.Status != 101 })
	require.Zero(t, forged.Stats().Connects)
}

// While devices are still connected, a stopping server answers /readyz with the
// reason, and takes nobody new. This device ignores that it is told to go.
func TestReadyzWhileDraining(t *testing.T) {
	t.Parallel()
	a := startApp(t, Config{Location: Location{DatabaseURL: pgtest.URL(t)}, Grace: Span(3 * time.Second)})
	_, token, err := openAdmin(t, a).Add(t.Context(), devices.NewDevice{Name: "stubborn"})
	require.NoError(t, err)
	line, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", a.Addr())
	require.NoError(t, err)
	defer line.Close()
	_, err = fmt.Fprintf(line, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer %s\r\n\r\n", streamPath, token)
	require.NoError(t, err)
	// A session begins with the first frame, here an empty HELLO: [1].
	_, err = line.Write([]byte{0x82, 0x82, 0, 0, 0, 0, 0x91, 1})
	require.NoError(t, err)
	reader := bufio.NewReader(line)
	answer, err := http.ReadResponse(reader, nil)
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
	_, err = reader.ReadByte() // of WELCOME: the session is there
	require.NoError(t, err)

	stopped := make(chan error, 1)
	go func() { stopped <- a.Stop(context.Background()) }()
	require.Eventually(t, a.stopping.Load, time.Minute, time.Millisecond)
	status, body := getAdmin(t, a, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, reasonStopping)
	status, body = get(t, a, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.JSONEq(t, `{"ready":false}`, body)
	status, _ = get(t, a, "/healthz")
	require.Equal(t, http.StatusOK, status)
	require.NoError(t, <-stopped)
	_, err = net.DialTimeout("tcp", a.Addr(), time.Second)
	require.Error(t, err, "nobody listens any more")
}
