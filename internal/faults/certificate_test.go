//go:build linux

package faults_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
	"mooring/internal/faults/proxy"
)

// authority signs certificates for 127.0.0.1.
type authority struct {
	t     *testing.T
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	roots *x509.CertPool
	file  string
}

func newAuthority(t *testing.T, folder string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	a := &authority{t: t, cert: cert, key: key, roots: x509.NewCertPool(), file: filepath.Join(folder, "authority.pem")}
	a.roots.AddCert(cert)
	replaceFile(t, a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// issue puts a new certificate and its key into the files.
func (a *authority) issue(serial int64, certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.cert, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(a.t, err)
	// One after the other: in between they do not fit together.
	replaceFile(a.t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	replaceFile(a.t, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func replaceFile(t *testing.T, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", content, 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

func TestFaultOperatorCertificate(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "certificate files replaced under load hold for new connections within 15 s, broken ones change nothing; " +
			"open connections stay, and handshakes that go on all the time succeed throughout",
		NoServer: true,
	})
	folder := s.Dir()
	certFile, keyFile := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	ca := newAuthority(t, folder)
	ca.issue(100, certFile, keyFile)
	s.Server = s.NewServer(faults.ServerOptions{Flags: []string{"--tls-cert", certFile, "--tls-key", keyFile}})
	serial := func() (int64, error) {
		conn, err := tls.Dial("tcp", s.Server.Addr(), &tls.Config{RootCAs: ca.roots, MinVersion: tls.VersionTLS12})
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
	}
	got, err := serial()
	require.NoError(t, err)
	require.EqualValues(t, 100, got)

	p := startTrouble(t, s, func(_ int, random *mathrand.Rand) proxy.Plan {
		return proxy.Plan{Action: proxy.Cut, At: proxy.Point{Offset: 2000 + random.Int64N(8000)}} // within TLS there are no parts
	})
	flags := []string{"--ca", ca.file}
	steady := s.Load(faults.LoadOptions{Devices: 10, Rate: 500, URL: "wss://" + s.Server.Addr() + "/v1/stream", Flags: flags})
	restless := s.Load(faults.LoadOptions{Devices: 10, Rate: 1000, URL: "wss://" + p.Addr() + "/v1/stream", Flags: flags})
	steady.AwaitConnected(10)
	restless.AwaitAcked(1000)

	replaced := time.Now()
	ca.issue(200, certFile, keyFile)
	s.Injected("certificate replaced")
	s.Await("the new certificate", func() error {
		got, err := serial()
		require.NoError(t, err, "every handshake succeeds")
		if got != 200 {
			return fmt.Errorf("serial %d", got)
		}
		return nil
	})
	took := time.Since(replaced)
	require.Less(t, took, 15*time.Second)
	replaceFile(t, certFile, []byte("nonsense"))
	s.Injected("certificate broken, SIGHUP")
	s.Server.Signal(syscall.SIGHUP) // so that it looks at once
	s.Await("a complaint", func() error {
		failed, err := s.Server.Metric("mooring_tls_reloads_total", `result="failed"`)
		if err == nil && failed == 0 {
			err = errors.New("none")
		}
		return err
	})
	got, err = serial()
	require.NoError(t, err)
	require.EqualValues(t, 200, got)
	restless.AwaitAcked(1000)
	p.calm()
	require.EqualValues(t, 10, steady.Stop().Connects, "open connections stay")
	s.Figure(fmt.Sprintf("the new certificate held after %.1f s", took.Seconds()))
	s.Verdict()
}
