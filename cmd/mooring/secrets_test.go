package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/devices"
	"mooring/internal/pgtest"
)

// selfSigned writes a certificate and its key, and gives the key's text.
func selfSigned(t *testing.T, directory string) (key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: encoded},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(directory, name), pem.EncodeToMemory(block), 0o600))
	}
	return base64.StdEncoding.EncodeToString(encoded)
}

// A server that says all it can say, asked rightly and wrongly, gives none of
// its secrets away: not in its output, its answers, its metrics and profiles, nor
// in the list of processes.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	const password = "s3cret-of-the-database"
	base, err := url.Parse(pgtest.URL(t))
	require.NoError(t, err)
	base.User = url.UserPassword(base.User.Username(), password) // trusted, so that any is right
	if probe, err := devices.OpenAdmin(t.Context(), base.String()); err == nil {
		probe.Close()
	} else {
		base, err = url.Parse(pgtest.URL(t)) // the cluster wants the true one
		require.NoError(t, err)
	}
	secret, _ := base.User.Password()
	require.NotEmpty(t, secret)
	admin, err := devices.OpenAdmin(t.Context(), base.String())
	require.NoError(t, err)
	t.Cleanup(admin.Close)
	_, token, err := admin.Add(t.Context(), devices.NewDevice{Name: "boiler-7"})
	require.NoError(t, err)

	directory := t.TempDir()
	key := selfSigned(t, directory)
	file := filepath.Join(directory, "url")
	require.NoError(t, os.WriteFile(file, []byte(base.String()+"\n"), 0o600))
	address, adminAddress := freeAddress(t), freeAddress(t)
	server := start(t, "--log-level", "debug", "serve", "--listen", address, "--admin-listen", adminAddress, "--database-url-file", file,
		"--tls-cert", filepath.Join(directory, "cert.pem"), "--tls-key", filepath.Join(directory, "key.pem"), "--gateway", "secrets")
	server.says("mooring serves")

	const wrong = "wr0ng-but-not-to-be-told"
	var heard strings.Builder
	ask := func(head string) {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = io.WriteString(conn, head+"\r\n\r\n")
		require.NoError(t, err)
		if strings.Contains(head, "Upgrade") {
			_, _ = conn.Write([]byte{0x82, 0x82, 0, 0, 0, 0, 0x91, 1, 0x82, 0x81, 0, 0, 0, 0, 0x07}) // HELLO, then nonsense
		}
		n, _ := io.CopyN(&heard, conn, 1)
		require.Positive(t, n, "it answers")
		require.NoError(t, conn.SetDeadline(time.Now().Add(3*time.Second)))
		_, _ = io.Copy(&heard, conn) // until the server closes or the deadline
	}
	handshake := "GET /v1/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	ask(handshake + "Authorization: Bearer " + token)
	ask(handshake + "Authorization: Bearer " + wrong)
	ask(handshake + "Authorization: Bearer " + token[:len(token)-1] + "x")
	ask(handshake + "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("boiler-8:"+token)))
	ask(handshake + "Sec-WebSocket-Protocol: mooring.v1, mooring.token." + wrong)
	ask("GET /v1/stream?token=" + wrong + " HTTP/1.1\r\nHost: x")
	ask("GET /" + wrong + " HTTP/1.1\r\nHost: x")
	ask("NONSENSE " + wrong)
	require.NoError(t, os.WriteFile(filepath.Join(directory, "key.pem"), []byte("-----BEGIN PRIVATE KEY-----\n"+key[:60]+"\n-----END PRIVATE KEY-----\n"), 0o600))
	require.NoError(t, server.cmd.Process.Signal(syscall.SIGHUP))
	server.says("can't be used")
	for _, page := range []string{"/metrics", "/readyz", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2"} {
		_, body := fetch(t, "http://"+adminAddress+page)
		heard.WriteString(body)
	}
	if arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", server.cmd.Process.Pid)); err == nil {
		heard.Write(arguments)
	}
	require.NoError(t, server.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, exitDone, server.wait(), server.output)
	heard.WriteString(server.output.String())

	said := heard.String()
	require.Contains(t, said, "101 Switching Protocols", "it was driven at all")
	require.Contains(t, said, "401 Unauthorized")
	require.Contains(t, said, "session ended", "at debug level")
	require.Contains(t, said, "mooring_ingest_handshake_refusals_total")
	for what, secret := range map[string]string{
		"the token": token, "its random part": token[8:40], "a wrong token": wrong,
		"the database's password": secret, "the key": key[:60], "the key, further on": key[60:120],
	} {
		require.NotContains(t, said, secret, what)
	}

	// A database that refuses: the error names it and not its password.
	base.Host = freeAddress(t)
	require.NoError(t, os.WriteFile(file, []byte(base.String()), 0o600))
	refused := mooring(t, "--log-level", "debug", "serve", "--listen", "127.0.0.1:0", "--database-url-file", file)
	require.NotEqual(t, exitDone, refused.code)
	require.NotContains(t, refused.stdout+refused.stderr, secret)
	bad := mooring(t, "serve", "--listen", "127.0.0.1:0", "--database-url", "host=h password="+password)
	require.NotEqual(t, exitDone, bad.code)
	require.NotContains(t, bad.stdout+bad.stderr, password)
}
