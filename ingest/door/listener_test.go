package door

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// guarded gives the server's side of connections, and dials.
type guarded struct {
	*Door
	net.Listener
}

func guard(t *testing.T, cfg Config) guarded {
	t.Helper()
	d, _ := open(t, cfg)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { inner.Close() })
	return guarded{d, d.Listener(inner)}
}

func (g guarded) connect(t *testing.T) (client, server net.Conn) {
	t.Helper()
	client, err := net.Dial("tcp", g.Addr().String())
	require.NoError(t, err)
	server, err = g.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// patience is how long tests wait for what must come, on a busy machine too.
const patience = time.Minute

// aWhile is how long they watch that something does not come.
const aWhile = 50 * time.Millisecond

// closed tells whether the door closes a client's connection within so long.
func closed(t *testing.T, client net.Conn, within time.Duration) bool {
	t.Helper()
	require.NoError(t, client.SetReadDeadline(time.Now().Add(within)))
	_, err := client.Read(make([]byte, 1))
	var timeout net.Error
	return err != nil && (!asNetError(err, &timeout) || !timeout.Timeout())
}

func asNetError(err error, target *net.Error) bool {
	found, ok := err.(net.Error) //nolint:errorlint // straight from the socket
	*target = found
	return ok
}

// When too many do nothing, those go that have done nothing for longest; who
// comes now gets in.
func TestTheOldestUnfinishedGoes(t *testing.T) {
	t.Parallel()
	g := guard(t, Config{Unfinished: 2})
	first, _ := g.connect(t)
	second, secondServer := g.connect(t)
	third, _ := g.connect(t)
	require.True(t, closed(t, first, patience))
	require.False(t, closed(t, second, aWhile))
	require.Equal(t, Evictions{All: 1}, g.Evicted())

	visitOf(secondServer).End() // its first frame is in
	fourth, _ := g.connect(t)
	require.False(t, closed(t, second, aWhile), "finished, and out of danger")
	require.False(t, closed(t, third, aWhile))
	require.False(t, closed(t, fourth, aWhile))
	require.Equal(t, 2, g.Visits())
}

func visitOf(server net.Conn) *Visit { return server.(*Conn).visit }

func TestUnfinishedOfOneAddress(t *testing.T) {
	t.Parallel()
	g := guard(t, Config{AddressUnfinished: 1})
	_, server := g.connect(t)
	g.connect(t)
	read := func(server net.Conn, from string) {
		visitOf(server).from(address(t, from)) // as Read does
	}
	read(server, "192.0.2.1")
	other, otherServer := g.connect(t)
	read(otherServer, "192.0.2.2")
	again, againServer := g.connect(t)
	read(againServer, "192.0.2.1")
	require.Equal(t, Evictions{Address: 1}, g.Evicted())
	require.False(t, closed(t, other, aWhile))
	require.False(t, closed(t, again, aWhile))
	_, err := server.Read(make([]byte, 1))
	require.Error(t, err)

	require.NoError(t, otherServer.Close())
	require.NoError(t, againServer.Close())
	_ = againServer.Close() // twice does no harm
	require.Empty(t, g.byAddress)
}

// The address comes with the first Read, which may have to read a proxy's header.
func TestLoopbackHasNoLimitOfItsOwn(t *testing.T) {
	t.Parallel()
	g := guard(t, Config{AddressUnfinished: 1})
	for range 3 {
		client, server := g.connect(t)
		_, err := client.Write([]byte("x"))
		require.NoError(t, err)
		_, err = server.Read(make([]byte, 1))
		require.NoError(t, err)
	}
	require.Equal(t, Evictions{}, g.Evicted())
	require.Equal(t, 3, g.Visits())
}

func TestVisitIsFoundThroughTLS(t *testing.T) {
	t.Parallel()
	g := guard(t, Config{})
	_, server := g.connect(t)
	secure := tls.Server(server, &tls.Config{MinVersion: tls.VersionTLS12})
	visit := VisitOf(WithVisit(context.Background(), secure))
	require.NotNil(t, visit)
	require.Nil(t, VisitOf(WithVisit(context.Background(), server.(*Conn).Conn)))
	require.Equal(t, server.(*Conn).Conn, Bare(server))
	require.IsType(t, &net.TCPConn{}, Innermost(secure))
	visit.End()
	visit.End()
	(*Visit)(nil).End()
	require.Zero(t, g.Visits())
}
