package fleet

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// linkFault is what happens to a connection.
type linkFault int

// The faults of connections.
const (
	linkSound    linkFault = iota
	linkCut                // dropped in the middle of a WebSocket frame
	linkHalfOpen           // nothing passes any more, and nobody is told
	linkTrickle            // bytes go out a few at a time
	linkSlow               // what comes in is read a few bytes at a time
	linkFaults
)

func (f linkFault) String() string {
	return [...]string{"sound", "dropped mid-frame", "half-open link", "trickled bytes", "slow reader"}[f]
}

var errCut = errors.New("the link was cut on purpose")

// How a trickle and a slow reader behave, and for how long.
const (
	trickleBytes = 7
	trickleFor   = 300 // pieces
	slowBytes    = 16
	slowFor      = 300 // reads
	pieceDelay   = 3 * time.Millisecond
)

// faultyConn is a connection that goes wrong at a given time.
type faultyConn struct {
	net.Conn

	fault  linkFault
	at     time.Time    // when it goes wrong
	calm   *atomic.Bool // set: not any more
	report func(linkFault)
	state  atomic.Int32

	closing sync.Once
	closed  chan struct{}
	left    atomic.Int64 // pieces that still trickle, or slow reads
}

// States of a fault.
const (
	faultPending int32 = iota
	faultBegun
	faultCalledOff
)

func newFaultyConn(conn net.Conn, fault linkFault, at time.Time, calm *atomic.Bool, report func(linkFault)) *faultyConn {
	c := &faultyConn{Conn: conn, fault: fault, at: at, calm: calm, report: report, closed: make(chan struct{})}
	c.left.Store(slowFor)
	if fault == linkTrickle {
		c.left.Store(trickleFor)
	}
	return c
}

// active reports whether this fault has begun. One that has not begun when the
// run calms down does not begin any more; a half-open link stays so.
func (c *faultyConn) active(fault linkFault) bool {
	if c.fault != fault {
		return false
	}
	if c.state.Load() == faultPending && !time.Now().Before(c.at) {
		next := faultBegun
		if c.calm.Load() {
			next = faultCalledOff
		}
		if c.state.CompareAndSwap(faultPending, next) && next == faultBegun {
			c.report(fault)
		}
	}
	return c.state.Load() == faultBegun
}

func (c *faultyConn) Write(p []byte) (int, error) {
	switch {
	case c.active(linkCut):
		n, _ := c.Conn.Write(p[:len(p)/2])
		if tcp, ok := c.Conn.(*net.TCPConn); ok && len(p)%2 == 0 {
			_ = tcp.SetLinger(0) // half of them by a reset
		}
		_ = c.Close()
		return n, errCut
	case c.active(linkHalfOpen):
		return len(p), nil
	case c.active(linkTrickle):
		return c.trickle(p)
	}
	return c.Conn.Write(p)
}

func (c *faultyConn) trickle(p []byte) (written int, err error) {
	for written < len(p) {
		piece := p[written:]
		if c.left.Add(-1) > 0 && len(piece) > trickleBytes {
			piece = piece[:1+rand.IntN(trickleBytes)] //nolint:gosec // the pieces' sizes guard nothing
		}
		n, err := c.Conn.Write(piece)
		written += n
		if err != nil {
			return written, err
		}
		if c.left.Load() > 0 && !c.delay() {
			return written, net.ErrClosed
		}
	}
	return written, nil
}

func (c *faultyConn) Read(p []byte) (int, error) {
	switch {
	case c.active(linkHalfOpen):
		<-c.closed
		return 0, net.ErrClosed
	case c.active(linkSlow) && c.left.Add(-1) > 0:
		if !c.delay() {
			return 0, net.ErrClosed
		}
		p = p[:min(len(p), slowBytes)]
	}
	n, err := c.Conn.Read(p)
	if err == nil && c.active(linkHalfOpen) {
		// It was waiting when the link went; what came is lost.
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

// delay waits a little; false: the connection was closed.
func (c *faultyConn) delay() bool {
	timer := time.NewTimer(pieceDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.closed:
		return false
	}
}

func (c *faultyConn) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
