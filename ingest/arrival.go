package ingest

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"mooring/ingest/door"
	"mooring/wire"
)

// What nearly all devices send first is a handshake in one piece. Through
// net/http's server such a one costs its two buffers of 4 KiB, which go with the
// connection at Hijack, a goroutine that watches the line meanwhile, a response
// and three contexts (docs/decisions/103). So where net/http reads the first bytes
// of a connection, the gateway looks at them first. Is it a plain handshake, and a
// good one, then the gateway keeps the connection, and net/http is told that it
// ended without a word. Everything else is net/http's as before, from the first
// byte on, and so is every answer but 101: a handshake that is refused goes to
// ServeHTTP with the verdict on it.

// Handshakes looks at the first bytes of the connections of a listener on which
// NewServer's server is going to serve, with g at wire.StreamPath. Not for TLS:
// net/http wants to see a tls.Conn itself, and a handshake of TLS costs so much
// that this one does not matter.
func (g *Gateway) Handshakes(inner net.Listener) net.Listener { return &arrivals{inner, g} }

type arrivals struct {
	net.Listener
	gateway *Gateway
}

func (l *arrivals) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &arrival{Conn: conn, gateway: l.gateway}, nil
}

// arrival is a connection in net/http's hands. Its limits of time until the
// gateway takes it, and who closes it if they are exceeded, are net/http's.
type arrival struct {
	net.Conn
	gateway *Gateway
	heard   bool     // the first bytes are in; of the goroutine that reads
	verdict *refusal // of the handshake in them; nil: there is none
	// taken: the connection is a session's, and net/http may do what it likes to
	// this shell of it.
	taken atomic.Bool
}

// Read gives net/http the first bytes, unless they are a handshake that the
// gateway takes.
func (a *arrival) Read(p []byte) (int, error) {
	n, err := a.Conn.Read(p)
	if !a.heard && n > 0 {
		a.heard = true
		if a.gateway.greet(a, p[:n]) {
			return 0, io.EOF
		}
	}
	return n, err
}

// plainHandshake begins the requests that greet looks at: nothing after the path,
// nothing before it.
var plainHandshake = []byte(http.MethodGet + " " + wire.StreamPath + " HTTP/1.1\r\n")

// greet takes the connection if what has come in is a plain handshake, whole, and
// one that is to be answered with 101. If it is to be refused, the verdict is left
// with the connection.
func (g *Gateway) greet(a *arrival, came []byte) (taken bool) {
	if !bytes.HasPrefix(came, plainHandshake) {
		return false
	}
	unread := bytes.NewReader(came)
	reader := g.readers.Get().(*bufio.Reader)
	defer g.readers.Put(reader)
	reader.Reset(unread)
	request, err := http.ReadRequest(reader)
	if err != nil || !inOrder(request) {
		return false // half of it, or nonsense
	}
	request.RemoteAddr = a.RemoteAddr().String()
	guest, bad := g.judge(g.life, request)
	if bad != nil {
		a.verdict = bad
		return false
	}
	var ahead []byte
	if n := reader.Buffered() + unread.Len(); n > 0 {
		ahead = bytes.Clone(came[len(came)-n:])
	}
	a.taken.Store(true)
	if visit := door.VisitOn(a.Conn); !g.upgrade(door.Bare(a.Conn), ahead, visit, guest) {
		g.leave(guest.from)
		visit.End()
	}
	return true
}

// inOrder tells whether net/http's server would hand on a request that
// http.ReadRequest took: it is stricter with hosts and the names of headers. What
// is only perhaps good for it is not plain.
func inOrder(r *http.Request) bool {
	if r.Host == "" || strings.Trim(r.Host, hostBytes) != "" || r.Header.Get("Expect") != "" {
		return false
	}
	for name := range r.Header {
		if strings.Contains(name, " ") { // before the colon
			return false
		}
	}
	return true
}

// hostBytes are those of which names, addresses and ports are made.
const hostBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]"

type arrivalKey struct{}

// withArrival lets ServeHTTP find the connection of a request, and its visit; for
// http.Server.ConnContext.
func withArrival(ctx context.Context, conn net.Conn) context.Context {
	if a, ok := conn.(*arrival); ok {
		ctx = context.WithValue(ctx, arrivalKey{}, a)
	}
	return door.WithVisit(ctx, conn)
}

// verdictOn is what greet found of the request that came on this connection, once.
func verdictOn(ctx context.Context) *refusal {
	a, _ := ctx.Value(arrivalKey{}).(*arrival)
	if a == nil {
		return nil
	}
	verdict := a.verdict
	a.verdict = nil
	return verdict
}

// NetConn is the connection within.
func (a *arrival) NetConn() net.Conn { return a.Conn }

// Write is net/http's.
func (a *arrival) Write(p []byte) (int, error) {
	if a.taken.Load() {
		return 0, net.ErrClosed
	}
	return a.Conn.Write(p)
}

// Close is net/http's.
func (a *arrival) Close() error {
	if a.taken.Load() {
		return nil
	}
	return a.Conn.Close()
}

// CloseWrite shuts down the writing side, if the connection can.
func (a *arrival) CloseWrite() error {
	if half, ok := a.Conn.(interface{ CloseWrite() error }); ok && !a.taken.Load() {
		return half.CloseWrite()
	}
	return nil
}

// SetDeadline is net/http's.
func (a *arrival) SetDeadline(at time.Time) error {
	if a.taken.Load() {
		return nil
	}
	return a.Conn.SetDeadline(at)
}

// SetReadDeadline is net/http's.
func (a *arrival) SetReadDeadline(at time.Time) error {
	if a.taken.Load() {
		return nil
	}
	return a.Conn.SetReadDeadline(at)
}

// SetWriteDeadline is net/http's.
func (a *arrival) SetWriteDeadline(at time.Time) error {
	if a.taken.Load() {
		return nil
	}
	return a.Conn.SetWriteDeadline(at)
}
