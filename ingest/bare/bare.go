// Package bare is a WebSocket server of gws that does nothing: no credential,
// no session, no heartbeat. Benchmarks hold the gateway against it, to tell what
// connections cost from what the gateway adds.
//
// Serve runs in its caller; each connection has a goroutine, which ends with it.
// Closing the listener ends Serve, not the connections: it is for a process that
// ends then.
package bare

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/lxzan/gws"
)

// silent answers pings, as gws does, and forgets what it reads.
type silent struct{ gws.BuiltinEventHandler }

func (silent) OnMessage(_ *gws.Conn, message *gws.Message) { _ = message.Close() }

// Serve upgrades every connection of listener and reads from it until it ends,
// the way gws's own server does, which would not end with its listener.
// readBuffer is the size of a connection's buffer in bytes.
func Serve(listener net.Listener, readBuffer int) error {
	upgrader := gws.NewUpgrader(silent{}, &gws.ServerOption{
		ParallelGolimit:  1, // as the gateway's: the channel is made in any case
		ReadBufferSize:   readBuffer,
		HandshakeTimeout: 10 * time.Second,
		Recovery:         func(gws.Logger) {},
	})
	for {
		conn, err := listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		go serve(upgrader, conn, readBuffer)
	}
}

func serve(upgrader *gws.Upgrader, conn net.Conn, readBuffer int) {
	reader := bufio.NewReaderSize(conn, readBuffer)
	request, err := http.ReadRequest(reader)
	if err != nil {
		_ = conn.Close()
		return
	}
	socket, err := upgrader.UpgradeFromConn(conn, reader, request)
	if err != nil {
		return // closed by gws
	}
	socket.ReadLoop()
}
