package door

import (
	"context"
	"net"
	"sync"
)

// Listener counts the connections of inner as visits. It goes below TLS, so that
// a TLS handshake that does not come to an end counts too.
func (d *Door) Listener(inner net.Listener) net.Listener { return &listener{inner, d} }

type listener struct {
	net.Listener
	door *Door
}

// Accept never waits for what a connection has to say: its address, which a
// proxy's header may tell, is asked for when somebody reads.
func (l *listener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn := &Conn{Conn: inner}
	conn.visit = l.door.arrive(inner)
	return conn, nil
}

// Conn is a connection that counts as a visit until Visit.End or its Close.
type Conn struct {
	net.Conn
	visit *Visit
	once  sync.Once
}

// Read tells the door the visitor's address first.
func (c *Conn) Read(p []byte) (int, error) {
	c.once.Do(func() { c.visit.from(addressOf(c.RemoteAddr())) })
	return c.Conn.Read(p)
}

// CloseWrite shuts down the writing side, if the connection can.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close ends the visit too.
func (c *Conn) Close() error {
	c.visit.End()
	return c.Conn.Close()
}

// NetConn is the connection within.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// wrapped are connections around others: tls.Conn, Conn.
type wrapped interface{ NetConn() net.Conn }

type visitKey struct{}

// VisitOn is the visit of a connection, which may be a TLS one; nil: nobody counts it.
func VisitOn(conn net.Conn) *Visit {
	for {
		if visitor, ok := conn.(*Conn); ok {
			return visitor.visit
		}
		outer, ok := conn.(wrapped)
		if !ok {
			return nil
		}
		conn = outer.NetConn()
	}
}

// WithVisit puts the visit of a connection into a context; it is for
// http.Server.ConnContext.
func WithVisit(ctx context.Context, conn net.Conn) context.Context {
	if visit := VisitOn(conn); visit != nil {
		return context.WithValue(ctx, visitKey{}, visit)
	}
	return ctx
}

// VisitOf is the visit that a request came on; nil: nobody counts it.
func VisitOf(ctx context.Context) *Visit {
	visit, _ := ctx.Value(visitKey{}).(*Visit)
	return visit
}

// Bare takes a Conn off that has done its work: a connection that lives for
// months need not pass through it. Its visit goes on.
func Bare(conn net.Conn) net.Conn {
	if visitor, ok := conn.(*Conn); ok {
		return visitor.Conn
	}
	return conn
}

// Innermost is the connection that others are wrapped around, down to the socket.
func Innermost(conn net.Conn) net.Conn {
	for {
		switch outer := conn.(type) {
		case wrapped:
			conn = outer.NetConn()
		case interface{ Raw() net.Conn }: // of a PROXY protocol library
			conn = outer.Raw()
		default:
			return conn
		}
	}
}
