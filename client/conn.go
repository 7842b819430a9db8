package client

import (
	"net"
	"sync"
)

// patientConn keeps a failed write from gws, which would close the connection at
// once, and with it lose the close frame that says why the server did not take
// what was written. The writer looks at failure after each write.
type patientConn struct {
	net.Conn

	mu  sync.Mutex
	err error
}

// Write never fails. After one write did, nothing more is written.
func (c *patientConn) Write(p []byte) (int, error) {
	if c.failure() == nil {
		_, err := c.Conn.Write(p)
		c.fail(err)
	}
	return len(p), nil
}

func (c *patientConn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// failure is why a write failed; nil: none did.
func (c *patientConn) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
