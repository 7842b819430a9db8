package loopback

import (
	"context"
	"net"
	"os"
	"strconv"
	"sync/atomic"
)

// FreeAddress finds a port on loopback that nobody listens on, below those that
// the kernel gives to outgoing connections and to listeners that take any, so
// that it stays free while its server is down.
func FreeAddress(tb interface {
	Helper()
	Fatalf(format string, arguments ...any)
},
) string {
	tb.Helper()
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(15_000+int(nextPort.Add(1))%15_000))
		listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
		if err != nil {
			continue
		}
		_ = listener.Close()
		return address
	}
	tb.Fatalf("loopback: no free port")
	return ""
}

// nextPort begins at another place in each test process.
var nextPort = func() *atomic.Uint32 {
	n := new(atomic.Uint32)
	n.Store(uint32(os.Getpid()) * 37)
	return n
}()
