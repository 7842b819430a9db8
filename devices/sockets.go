package devices

import (
	"context"
	"net"
	"sync"
	"time"
)

// sockets are the connections to Postgres that a pool and a listener opened.
// A driver that gives up a connection tries to cancel its query and to take
// leave, which lasts 15 s when Postgres is frozen or the network swallows
// everything. cut is for those who have no such time.
type sockets struct {
	dialer net.Dialer

	mu   sync.Mutex
	open map[*socket]struct{}
	down bool
}

type socket struct {
	net.Conn
	of *sockets
}

func newSockets() *sockets {
	return &sockets{dialer: net.Dialer{Timeout: 3 * time.Second}, open: make(map[*socket]struct{})}
}

func (s *sockets) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := s.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		_ = conn.Close() // nothing was sent on it
		return nil, net.ErrClosed
	}
	sock := &socket{conn, s}
	s.open[sock] = struct{}{}
	return sock, nil
}

// Close closes the connection and forgets it.
func (c *socket) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// cut closes all connections without a word and opens no more.
func (s *sockets) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = true
	for sock := range s.open {
		_ = sock.Conn.Close() // whoever uses it will see
	}
}
