package conform

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// memory is a network within a process, of connections that lose and delay nothing.
// Unlike the kernel's, a clock that a test turns knows who waits for it.
type memory struct {
	mu        sync.Mutex
	listeners map[string]*memoryListener
}

func (m *memory) listen(context.Context) (net.Listener, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listeners == nil {
		m.listeners = map[string]*memoryListener{}
	}
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1 + len(m.listeners)}
	l := &memoryListener{at: at, waiting: make(chan net.Conn), closed: make(chan struct{})}
	m.listeners[at.String()] = l
	return l, nil
}

func (m *memory) dial(ctx context.Context, address string) (net.Conn, error) {
	m.mu.Lock()
	l := m.listeners[address]
	m.mu.Unlock()
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	there, back := newStream(), newStream()
	select {
	case l.waiting <- &memoryConn{in: there, out: back, at: l.at}:
		return &memoryConn{in: back, out: there, at: l.at}, nil
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// memoryListener is where dial finds who accepts.
type memoryListener struct {
	at      net.Addr
	waiting chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.waiting:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return l.at }

// memoryConn is one end of a connection.
type memoryConn struct {
	in, out *stream
	at      net.Addr // of the server
}

func (c *memoryConn) Read(to []byte) (int, error)    { return c.in.read(to) }
func (c *memoryConn) Write(from []byte) (int, error) { return c.out.write(from) }

func (c *memoryConn) Close() error {
	c.in.change(func(s *stream) { s.abandoned = true })
	c.out.change(func(s *stream) { s.ended = true })
	return nil
}

func (c *memoryConn) LocalAddr() net.Addr  { return c.at }
func (c *memoryConn) RemoteAddr() net.Addr { return c.at }

func (c *memoryConn) SetDeadline(at time.Time) error { return c.SetReadDeadline(at) }

func (c *memoryConn) SetReadDeadline(at time.Time) error {
	c.in.change(func(s *stream) { s.deadline = at })
	return nil
}

func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil } // no write waits

// stream is one direction. What is not read stays: scenarios are short.
type stream struct {
	mu        sync.Mutex
	changed   chan struct{} // closed and replaced whenever something below changes
	bytes     []byte
	ended     bool      // by who writes
	abandoned bool      // by who reads
	deadline  time.Time // of reading
}

func newStream() *stream { return &stream{changed: make(chan struct{})} }

func (s *stream) change(what func(*stream)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what(s)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stream) write(from []byte) (n int, err error) {
	s.change(func(s *stream) {
		switch {
		case s.ended:
			err = net.ErrClosed
		case s.abandoned:
			err = syscall.EPIPE
		default:
			s.bytes = append(s.bytes, from...)
			n = len(from)
		}
	})
	return n, err
}

func (s *stream) read(to []byte) (int, error) {
	for {
		s.mu.Lock()
		changed, deadline := s.changed, s.deadline
		n, err := s.take(to)
		s.mu.Unlock()
		if n > 0 || err != nil || len(to) == 0 {
			return n, err
		}
		var late <-chan time.Time
		if !deadline.IsZero() {
			late = time.After(time.Until(deadline))
		}
		select {
		case <-changed:
		case <-late:
		}
	}
}

// take gives what is there without waiting. mu is held.
func (s *stream) take(to []byte) (int, error) {
	switch {
	case s.abandoned:
		return 0, net.ErrClosed
	case !s.deadline.IsZero() && !time.Now().Before(s.deadline):
		return 0, os.ErrDeadlineExceeded
	case len(s.bytes) > 0:
		n := copy(to, s.bytes)
		s.bytes = s.bytes[n:]
		return n, nil
	case s.ended:
		return 0, io.EOF
	default:
		return 0, nil
	}
}
