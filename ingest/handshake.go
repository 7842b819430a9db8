package ingest

import (
	"context"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"mooring/ingest/door"
)

// From is the address that a request is from, by Config.Door: the peer's, or the
// one that a trusted proxy names. For others who serve on the same listener.
func (g *Gateway) From(r *http.Request) netip.Addr { return g.door.From(r) }

// Encrypted tells whether a trusted proxy of Config.Door says that a request came
// to it by HTTPS. For others who serve on the same listener.
func (g *Gateway) Encrypted(r *http.Request) bool { return g.door.Encrypted(r) }

// ServeHTTP is the WebSocket endpoint, to be mounted at wire.StreamPath. All
// checks come before the upgrade, so that a refusal is an HTTP status that any
// client library shows: 400, 401, 403, 405, 426, 429 and 503, with a line of
// text that names what is wrong.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		// It will be refused, and net/http would wait for the rest of the body.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(g.cfg.CloseTimeout))
	}
	var guest *guest
	bad := verdictOn(r.Context())
	if bad == nil {
		guest, bad = g.judge(r.Context(), r)
	}
	if bad != nil {
		g.refuse(w, bad)
		return
	}
	if !g.hijack(w, r, guest) {
		g.leave(guest.from)
		door.VisitOf(r.Context()).End() // the connection is no longer net/http's to close
	}
}

// guest is who may come in, and holds a connection's place, to be given back with
// leave.
type guest struct {
	device Device
	from   netip.Addr
	remote string // from with a port, if it is known
	key    string // Sec-WebSocket-Key
	speaks bool   // our subprotocol
	begun  int64  // by clock
}

// judge makes all the checks that come before the upgrade. The end of ctx ends
// them.
func (g *Gateway) judge(ctx context.Context, r *http.Request) (*guest, *refusal) {
	begun := g.clock.now()
	from := g.door.From(r)
	if g.door.ViaProxy(r) {
		r.RemoteAddr = from.String() // what is logged and recorded of this request from now on
	}
	if bad := g.admit(from); bad != nil {
		return nil, bad
	}
	device, speaks, bad := g.recognize(ctx, r, from)
	if bad != nil {
		g.leave(from)
		return nil, bad
	}
	return &guest{device, from, r.RemoteAddr, r.Header.Get("Sec-WebSocket-Key"), speaks, begun}, nil
}

// recognize checks a request and finds out whose it is.
func (g *Gateway) recognize(ctx context.Context, r *http.Request, from netip.Addr) (device Device, speaks bool, bad *refusal) {
	if speaks, bad = g.checkRequest(r); bad != nil {
		return device, speaks, bad
	}
	_, _, tokens := offered(r.Header)
	presented, bad := credential(r, tokens, g.cfg.RequireCertificate)
	if bad != nil {
		if bad.label == "bad_credential" {
			g.door.Failed(from)
		}
		return device, speaks, bad
	}
	presented.Remote = r.RemoteAddr
	device, bad = g.authenticate(ctx, from, presented)
	return device, speaks, bad
}

// admit takes a connection's place, which must be given back with leave.
func (g *Gateway) admit(from netip.Addr) *refusal {
	if g.state.Load() != stateRunning {
		return refuse(http.StatusServiceUnavailable, "stopping", "the server is stopping")
	}
	switch reason, wait := g.door.Handshake(from); reason {
	case door.Welcome:
	case door.AddressBusy:
		return refuse(http.StatusTooManyRequests, "address_rate", "too many handshakes from this address").later(wait)
	default:
		return refuse(http.StatusServiceUnavailable, "rate", "too many handshakes at once").later(wait)
	}
	if !g.door.Hold(from) {
		return refuse(http.StatusTooManyRequests, "address_connections", "this address has as many connections as it may")
	}
	if g.connections.Add(1) > int64(g.cfg.MaxConnections) {
		g.leave(from)
		return refuse(http.StatusServiceUnavailable, "full", "the server has as many connections as it takes")
	}
	return nil
}

// leave gives a connection's place back.
func (g *Gateway) leave(from netip.Addr) {
	g.door.Release(from)
	g.connections.Add(-1)
}

// checkRequest checks everything but the credential; speaks: the client offers
// our subprotocol.
func (g *Gateway) checkRequest(r *http.Request) (speaks bool, bad *refusal) {
	switch {
	case r.Method != http.MethodGet:
		return false, refuse(http.StatusMethodNotAllowed, "method", "the WebSocket handshake is a GET")
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return false, refuse(http.StatusBadRequest, "http_version", "the WebSocket handshake needs HTTP/1.1")
	case !headerHas(r.Header, "Upgrade", "websocket") || !headerHas(r.Header, "Connection", "upgrade"):
		return false, refuse(http.StatusUpgradeRequired, "no_upgrade",
			"this is a WebSocket endpoint: send Connection: Upgrade and Upgrade: websocket")
	case len(r.Header.Values("Sec-WebSocket-Key")) > 1 || len(r.Header.Values("Sec-WebSocket-Version")) > 1:
		return false, refuse(http.StatusBadRequest, "repeated", // RFC 6455 §11.3.1, §11.3.5
			"Sec-WebSocket-Key and Sec-WebSocket-Version may stand once only")
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return false, refuse(http.StatusUpgradeRequired, "ws_version", "Sec-WebSocket-Version must be 13")
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		// It would be read as frames here and as something else by a proxy.
		return false, refuse(http.StatusBadRequest, "body", "the WebSocket handshake has no body")
	}
	if key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key")); err != nil || len(key) != 16 {
		return false, refuse(http.StatusBadRequest, "ws_key", "Sec-WebSocket-Key must be base64 of 16 bytes")
	}
	if len(r.Header.Values("Origin")) > 0 && !g.cfg.CheckOrigin(r) {
		return false, refuse(http.StatusForbidden, "origin", "this origin may not connect")
	}
	speaks, others, tokens := offered(r.Header)
	if !speaks && (others || len(tokens) > 0) {
		return false, refuse(http.StatusBadRequest, "subprotocol", "offer the subprotocol mooring.v1")
	}
	return speaks, nil
}

// authenticate asks whose credential it is. An address that has tried too many
// wrong credentials gets in with one that is known to be good without asking the
// database: its neighbours behind the same address are not to suffer for it.
func (g *Gateway) authenticate(ctx context.Context, from netip.Addr, presented Credential) (Device, *refusal) {
	wait, mayFail := g.door.MayFail(from)
	presented.OnlyKnown = true // which needs no waiting, and so no context
	device, err := g.auth.Authenticate(ctx, presented)
	if mayFail && err != nil && !errors.Is(err, ErrUnauthenticated) && !errors.Is(err, ErrDisabled) {
		var busy bool
		if device, busy, err = g.ask(ctx, presented); busy {
			return Device{}, refuse(http.StatusServiceUnavailable, "busy", "too many handshakes at once")
		}
	}
	switch {
	case err == nil:
		return device, nil
	case errors.Is(ctx.Err(), context.Canceled): // by the client, which is gone
		return Device{}, refuse(http.StatusServiceUnavailable, "gone", "the connection was given up")
	case !mayFail:
		return Device{}, refuse(http.StatusTooManyRequests, "address_failures",
			"too many wrong credentials from this address").later(wait)
	case errors.Is(err, ErrUnauthenticated):
		g.door.Failed(from)
		return Device{}, refuse(http.StatusUnauthorized, "bad_credential", "the credential is not valid")
	case errors.Is(err, ErrDisabled):
		return Device{}, refuse(http.StatusForbidden, "disabled", "the device is disabled")
	default:
		if skipped, due := g.unchecked.due(g.clock.now()); due {
			g.cfg.Logger.Warn("credential not checked", "error", err, "others", skipped)
		}
		return Device{}, refuse(http.StatusServiceUnavailable, "registry", "credentials can't be checked right now")
	}
}

// ask is authenticate's look beyond memory. Only so many may ask at a time: a storm
// of those whom nobody knows is to wait outside, not in the registry, and to keep
// nobody out who is known.
func (g *Gateway) ask(ctx context.Context, presented Credential) (device Device, busy bool, err error) {
	select {
	case g.handshakes <- struct{}{}:
		defer func() { <-g.handshakes }()
	default:
		return Device{}, true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.HandshakeTimeout)
	defer cancel()
	presented.OnlyKnown = false
	device, err = g.auth.Authenticate(ctx, presented)
	return device, false, err
}

// refuse answers and closes the connection: a client that was refused has no
// business keeping it.
func (g *Gateway) refuse(w http.ResponseWriter, bad *refusal) {
	g.metrics.refusals.WithLabelValues(bad.label).Inc()
	header := w.Header()
	header.Set("Connection", "close")
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	switch bad.status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", `Bearer realm="mooring"`)
	case http.StatusMethodNotAllowed:
		header.Set("Allow", http.MethodGet)
	case http.StatusUpgradeRequired:
		header.Set("Upgrade", "websocket")
		header.Set("Sec-WebSocket-Version", "13")
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		header.Set("Retry-After", g.retryAfter(bad.after))
	}
	w.WriteHeader(bad.status)
	_, _ = w.Write([]byte(bad.text + "\n"))
}

// retryAfter spreads those who were turned away, in whole seconds, from after on.
func (g *Gateway) retryAfter(after time.Duration) string {
	spread := int(g.cfg.Spread / time.Second)
	return strconv.Itoa(int(after/time.Second) + 1 + rand.IntN(spread)) //nolint:gosec // jitter, no secret
}

// headerHas tells whether one of a header's comma-separated values is want.
func headerHas(header http.Header, name, want string) bool {
	for _, line := range header.Values(name) {
		for value := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(value), want) {
				return true
			}
		}
	}
	return false
}
