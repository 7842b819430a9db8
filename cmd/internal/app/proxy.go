package app

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
	"github.com/prometheus/client_golang/prometheus"

	"mooring/ingest/door"
)

// proxyListener takes the PROXY protocol, version 2, from trusted proxies, who
// must speak it, and from nobody else: a header of others ends the connection,
// for whoever sends one wants to seem to be somebody.
type proxyListener struct {
	net.Listener
	refused prometheus.Counter
}

var errProxyVersion = errors.New("only version 2 of the PROXY protocol is spoken here")

func newProxyListener(inner net.Listener, trusted []netip.Prefix, timeout time.Duration, refused prometheus.Counter) net.Listener {
	policy := func(options proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
		if door.Within(door.AddressOf(options.Upstream.String()), trusted) {
			return proxyproto.REQUIRE, nil
		}
		return proxyproto.REJECT, nil
	}
	validate := func(header *proxyproto.Header) error {
		if header.Version != 2 {
			return errProxyVersion
		}
		return nil
	}
	return &proxyListener{&proxyproto.Listener{
		Listener: inner, ConnPolicy: policy, ValidateHeader: validate, ReadHeaderTimeout: timeout,
	}, refused}
}

// Accept does not wait for the header; the first Read does.
func (l *proxyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &proxiedConn{Conn: conn, refused: l.refused}, nil
}

// proxiedConn counts a header that was refused.
type proxiedConn struct {
	net.Conn
	refused prometheus.Counter
	once    sync.Once
}

func (c *proxiedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && n == 0 && c.isRefusal(err) {
		c.once.Do(c.refused.Inc)
	}
	return n, err
}

func (c *proxiedConn) isRefusal(err error) bool {
	for _, refusal := range []error{
		errProxyVersion, proxyproto.ErrNoProxyProtocol, proxyproto.ErrSuperfluousProxyHeader,
		proxyproto.ErrCantReadVersion1Header, proxyproto.ErrVersion1HeaderTooLong, proxyproto.ErrLineMustEndWithCrlf,
		proxyproto.ErrCantReadProtocolVersionAndCommand, proxyproto.ErrCantReadAddressFamilyAndProtocol,
		proxyproto.ErrCantReadLength, proxyproto.ErrCantResolveSourceUnixAddress, proxyproto.ErrUnknownProxyProtocolVersion,
		proxyproto.ErrUnsupportedProtocolVersionAndCommand, proxyproto.ErrUnsupportedAddressFamilyAndProtocol,
		proxyproto.ErrInvalidLength, proxyproto.ErrInvalidAddress, proxyproto.ErrInvalidPortNumber,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// encrypted tells whether the header said that the client spoke TLS to the proxy.
func (c *proxiedConn) encrypted() bool {
	conn, ok := c.Conn.(*proxyproto.Conn)
	if !ok {
		return false
	}
	header := conn.ProxyHeader()
	if header == nil {
		return false
	}
	list, err := header.TLVs()
	if err != nil {
		return false
	}
	said, ok := tlvparse.FindSSL(list)
	return ok && said.ClientSSL()
}

type proxiedKey struct{}

// withProxied lets secure find what a trusted proxy said of a connection; for
// http.Server.ConnContext.
func withProxied(ctx context.Context, conn net.Conn) context.Context {
	for {
		if proxied, ok := conn.(*proxiedConn); ok {
			return context.WithValue(ctx, proxiedKey{}, proxied)
		}
		outer, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return ctx
		}
		conn = outer.NetConn()
	}
}

// secure tells whether a request came from its client by TLS: to this server, or to
// a trusted proxy that says so, by the header or by the PROXY protocol.
func (a *App) secure(r *http.Request) bool {
	if r.TLS != nil || a.gateway.Encrypted(r) {
		return true
	}
	proxied, ok := r.Context().Value(proxiedKey{}).(*proxiedConn)
	return ok && proxied.encrypted()
}

// CloseWrite shuts down the writing side of the socket.
func (c *proxiedConn) CloseWrite() error {
	if half, ok := door.Innermost(c.Conn).(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// NetConn is the connection within.
func (c *proxiedConn) NetConn() net.Conn { return c.Conn }
