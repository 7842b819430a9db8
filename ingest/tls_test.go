package ingest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// authority makes a certificate that signs itself and may sign others, or one
// that parent signed.
func authority(t *testing.T, name string, parent *tls.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, IsCA: parent == nil, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	signer, signerKey := template, any(key)
	if parent != nil {
		signer, signerKey = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, &key.PublicKey, signerKey)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Over TLS: a device known by its certificate, a farewell that arrives, and a
// peer that reads nothing, whose end must not wait for tls.Conn's own farewell.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca := authority(t, "ca", nil)
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	serverConfig := &tls.Config{
		Certificates: []tls.Certificate{*authority(t, "gateway.test", ca)},
		ClientCAs:    pool, ClientAuth: tls.VerifyClientCertIfGiven, NextProtos: []string{"http/1.1"},
	}
	cfg := quick()
	cfg.WriteTimeout = 2 * time.Second
	sv := serve(t, cfg, newFakeStore())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	watched := &watchedListener{Listener: listener, accepted: make(chan *watchedConn, 2)}
	mux := http.NewServeMux()
	mux.Handle(wire.StreamPath, sv.gateway)
	httpServer := NewServer(mux, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = httpServer.Serve(tls.NewListener(watched, serverConfig))
	}()
	t.Cleanup(func() {
		httpServer.Close()
		<-done
	})

	dial := func() *device {
		raw, err := net.Dial("tcp", listener.Addr().String())
		require.NoError(t, err)
		conn := tls.Client(raw, &tls.Config{
			RootCAs: pool, ServerName: "gateway.test", Certificates: []tls.Certificate{*authority(t, "device-7", ca)},
		})
		t.Cleanup(func() { raw.Close() })
		_, err = conn.Write([]byte("GET " + wire.StreamPath + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
		require.NoError(t, err)
		in := bufio.NewReader(conn)
		response, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
		d := newDevice(t, conn, in, nil)
		d.send(d.encoder.Hello(wire.Hello{}))
		d.welcome()
		return d
	}
	d := dial()
	d.send(d.encoder.Layout(twoNumbers()))
	d.data(0, 4)
	d.ackUpTo(4)
	require.Len(t, sv.store.stored(7), 4)
	d.raw(masked(0x81, []byte("text")))
	d.closesWith(wire.CloseText, true)
	eventually(t, func() bool { return len(sv.registry.endings()) == 1 }, "the end is recorded")

	<-watched.accepted
	dial() // and reads nothing any more
	conn := <-watched.accepted
	conn.longest.Store(0)
	s := sv.gateway.hub.current(7)
	name := string(make([]byte, 900))
	for range 200_000 { // the kernel takes some megabytes
		_ = sv.gateway.SendCommand(7, wire.Command{ID: 1, Name: name})
		if s.lifetime().Err() != nil {
			break
		}
		time.Sleep(10 * time.Microsecond)
	}
	eventually(t, func() bool { return len(sv.registry.endings()) == 2 }, "it is cut")
	require.LessOrEqual(t, time.Duration(conn.longest.Load()), cfg.WriteTimeout, "tls.Conn.Close would wait 5 s for room")
	require.Equal(t, wire.CloseSlowReader, sv.registry.endings()[1].Code)
}

// watchedListener hands out the connections that it accepts to the test too.
type watchedListener struct {
	net.Listener
	accepted chan *watchedConn
}

func (l *watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	watched := &watchedConn{Conn: conn}
	l.accepted <- watched
	return watched, nil
}

// watchedConn notes for how long its writers meant to wait for room at most.
type watchedConn struct {
	net.Conn
	longest atomic.Int64
}

func (c *watchedConn) SetWriteDeadline(at time.Time) error {
	err := c.Conn.SetWriteDeadline(at)
	if wait := int64(time.Until(at)); err == nil && !at.IsZero() && wait > c.longest.Load() {
		c.longest.Store(wait) // once it is closed, nobody waits
	}
	return err
}

func (c *watchedConn) NetConn() net.Conn { return c.Conn }
