package ingest

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/ingest/door"
)

// sendBuffer is what the kernel may keep for a connection, in bytes.
func sendBuffer(t *testing.T, conn net.Conn) (bytes int) {
	t.Helper()
	raw, err := door.Innermost(conn).(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		bytes, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
	}))
	require.NoError(t, err)
	return bytes
}

// The kernel keeps little of what a device leaves unread.
func TestWriteBufferIsBounded(t *testing.T) {
	t.Parallel()
	cfg := quick()
	sv := serve(t, cfg, newFakeStore())
	sv.join(t, 1)
	require.LessOrEqual(t, sendBuffer(t, sv.gateway.hub.current(1).link.Conn), 2*16<<10)
}
