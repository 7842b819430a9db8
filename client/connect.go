package client

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/lxzan/gws"

	"mooring/wire"
)

// gws starts a goroutine for the request that is stuck for ever if gws's own
// time limit strikes first. So that limit is out of reach, and the handshake is
// ended by closing the connection.
const gwsHandshakeTimeout = 24 * time.Hour

// connect dials and upgrades; false: it failed, and the ending says how.
func (l *link) connect(ctx context.Context) (ending, bool) {
	c := l.client
	ctx, cancel := context.WithTimeout(ctx, c.cfg.HandshakeTimeout)
	defer cancel()
	conn, err := c.cfg.Dial(ctx, "tcp", hostPort(c))
	if err != nil {
		return ending{class: wire.ClassRetry, code: 1006, err: fmt.Errorf("dial: %w", err)}, false
	}

	closed := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = conn.Close()
	})
	end, ok := l.upgrade(ctx, conn)
	if !release() {
		<-closed // too late: the connection is closed
		if ok {
			end, ok = ending{class: wire.ClassRetry, code: 1006, err: context.Cause(ctx)}, false
		}
	}
	if !ok {
		_ = conn.Close()
	}
	return end, ok
}

func (l *link) upgrade(ctx context.Context, conn net.Conn) (ending, bool) {
	c := l.client
	if c.address.Scheme == "wss" {
		secured, err := secure(ctx, c, conn)
		if err != nil {
			return ending{class: wire.ClassRetry, code: 1006, err: fmt.Errorf("TLS: %w", err)}, false
		}
		conn = secured
	}
	l.conn = &patientConn{Conn: conn}
	header := http.Header{}
	switch {
	case c.cfg.Token == "": // a certificate says who this is
	case c.cfg.Name != "":
		both := base64.StdEncoding.EncodeToString([]byte(c.cfg.Name + ":" + c.cfg.Token))
		header.Set("Authorization", "Basic "+both)
	default:
		header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	header.Set("Sec-WebSocket-Protocol", wire.Subprotocol)
	header.Set("User-Agent", "mooring-go-client")
	socket, response, err := gws.NewClientFromConn(l, &gws.ClientOption{
		Addr:               c.cfg.URL,
		RequestHeader:      header,
		HandshakeTimeout:   gwsHandshakeTimeout,
		ReadMaxPayloadSize: c.cfg.MaxReceive,
		ReadBufferSize:     1024,
		ParallelGolimit:    1,
	}, l.conn)
	if err == nil {
		l.socket = socket
		return ending{}, true
	}
	end := ending{class: wire.ClassRetry, code: 1006, err: fmt.Errorf("upgrade: %w", err)}
	switch {
	case errors.Is(err, gws.ErrSubprotocolNegotiation):
		end.class = wire.ClassFault
	case response != nil:
		_ = response.Body.Close()
		end.status = response.StatusCode
		end.class = wire.HTTPStatusClass(response.StatusCode)
		end.after = retryAfter(response.Header.Get("Retry-After"))
	}
	return end, false
}

func secure(ctx context.Context, c *Client, conn net.Conn) (net.Conn, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.cfg.TLS != nil {
		config = c.cfg.TLS.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = c.address.Hostname()
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return secured, nil
}

func hostPort(c *Client) string {
	port := c.address.Port()
	switch {
	case port != "":
	case c.address.Scheme == "wss":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(c.address.Hostname(), port)
}

// retryAfter reads a Retry-After header, in seconds or as a date.
func retryAfter(header string) time.Duration {
	header = strings.TrimSpace(header)
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}
