package main

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHangUpWhileStarting: SIGHUP, by which certificates are read again, ends no
// server that is still starting, and SIGTERM ends it in good order.
func TestHangUpWhileStarting(t *testing.T) {
	t.Parallel()
	database, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	require.NoError(t, err)
	defer database.Close()
	server := start(t, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "none", "--database-url", "postgres://mooring@"+database.Addr().String()+"/mooring?sslmode=disable")
	require.NoError(t, database.(*net.TCPListener).SetDeadline(time.Now().Add(patience)))
	conn, err := database.Accept()
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, server.cmd.Process.Signal(syscall.SIGHUP))
	require.NoError(t, server.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, exitFailed, server.wait(), server.output.String())
}
