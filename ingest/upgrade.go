package ingest

import (
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/lxzan/gws"

	"mooring/ingest/door"
	"mooring/wire"
)

// noStorage is gws's per-connection map, which nobody here needs.
type noStorage struct{}

func (noStorage) Len() int                     { return 0 }
func (noStorage) Load(string) (any, bool)      { return nil, false }
func (noStorage) Delete(string)                {}
func (noStorage) Store(string, any)            {}
func (noStorage) Range(func(string, any) bool) {}

// newUpgrader makes a gws upgrader. There are two, because one with subprotocols
// refuses clients that offer none.
func newUpgrader(cfg *Config, subprotocols ...string) *gws.Upgrader {
	return gws.NewUpgrader(events{}, &gws.ServerOption{
		SubProtocols: subprotocols,
		// One goroutine a connection, in order; blocking there is backpressure.
		ParallelEnabled: false,
		ParallelGolimit: 1, // the channel is made in any case
		// gws allocates what a header announces.
		ReadMaxPayloadSize: cfg.MaxFrame,
		ReadBufferSize:     cfg.ReadBuffer,
		HandshakeTimeout:   cfg.HandshakeTimeout,
		CheckUtf8Enabled:   true, // of the reason in a close frame; text is refused anyway
		// Compression stays off: memory per connection, and little to gain for
		// numbers.
		NewSession: func() gws.SessionStorage { return noStorage{} },
		// A panic shall reach the session, which closes and cleans up.
		Recovery: func(gws.Logger) {},
	})
}

// hijack takes the connection from net/http and upgrades it; false: it did not come
// to that. The handler returns at once, so that net/http lets go of the buffers
// of a connection that may last for months.
func (g *Gateway) hijack(w http.ResponseWriter, r *http.Request, guest *guest) bool {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		g.cfg.Logger.Error("the HTTP server does not hand over connections", "error", err)
		g.refuse(w, refuse(http.StatusServiceUnavailable, "hijack", "connections can't be upgraded"))
		return false
	}
	// Bytes that came right behind the handshake are in net/http's buffer; gws
	// would throw them away.
	var ahead []byte
	if n := buffered.Reader.Buffered(); n > 0 {
		ahead = make([]byte, n)
		_, _ = buffered.Read(ahead)
	}
	if a, ok := conn.(*arrival); ok {
		conn = a.Conn
	}
	return g.upgrade(door.Bare(conn), ahead, door.VisitOf(r.Context()), guest) //nolint:contextcheck // the session outlives the request
}

// upgrade answers 101 and starts the session's goroutine; false: it did not come
// to that. ahead are bytes that came behind the handshake.
func (g *Gateway) upgrade(conn net.Conn, ahead []byte, visit *door.Visit, guest *guest) bool {
	if socket, ok := door.Innermost(conn).(interface{ SetWriteBuffer(bytes int) error }); ok {
		_ = socket.SetWriteBuffer(g.cfg.WriteBuffer) // without it, memory is the kernel's to bound
	}
	raw := newLink(conn, ahead, g.clock)
	raw.visit = visit
	upgrader := g.plainUpgrader
	if guest.speaks {
		upgrader = g.upgrader
	}
	socket, err := g.adopt(raw, upgrader, handshakeRequest(guest.key, guest.speaks))
	if err != nil {
		g.metrics.refusals.WithLabelValues("lost").Inc()
		return false
	}
	raw.upgraded = true
	return g.begin(socket, raw, guest)
}

// handshakeRequest is a handshake as gws understands it: it looks at the first
// of repeated headers only, and knows no extensions.
func handshakeRequest(key string, speaks bool) *http.Request {
	header := http.Header{
		"Connection":            {"Upgrade"},
		"Upgrade":               {"websocket"},
		"Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key":     {key},
	}
	if speaks {
		header.Set("Sec-WebSocket-Protocol", wire.Subprotocol)
	}
	return &http.Request{Method: http.MethodGet, Header: header}
}

// begin makes an upgraded connection a session and starts its goroutine.
func (g *Gateway) begin(socket *gws.Conn, raw *link, guest *guest) bool {
	device := &guest.device
	s := &session{
		gateway:    g,
		device:     *device,
		remote:     guest.remote,
		link:       raw,
		shard:      g.shards[uint32(device.ID)%uint32(len(g.shards))],
		begun:      guest.begun,
		reported:   -1,
		maxReceive: maxServerMessage,
		quota:      g.quotaOf(device),
	}
	s.heartbeat.Store(int64(g.cfg.Heartbeat))
	raw.session = s
	if !g.enter(s) {
		// Stop began while the handshake was under way.
		_ = raw.SetWriteDeadline(time.Now().Add(g.cfg.CloseTimeout))
		_ = raw.send(appendClose(nil, closeDrain))
		_ = raw.Conn.Close()
		g.owe(device.ID, s.quota)
		g.metrics.refusals.WithLabelValues("stopping").Inc()
		return false
	}
	g.metrics.opened.Inc()
	go s.run(socket)
	return true
}

// Listener counts the connections of a listener that are not finished yet, see
// door.Config.Unfinished. TLS goes around it.
func (g *Gateway) Listener(inner net.Listener) net.Listener { return g.door.Listener(inner) }

// NewServer makes the HTTP server that the gateway's handler should run under:
// HTTP/1.1 alone, with limits on headers, which gws's own server lacks. TLS and
// the address are the caller's.
func NewServer(handler http.Handler, logger *slog.Logger) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &http.Server{
		Handler:           handler,
		Protocols:         &protocols,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // ends with the upgrade
		WriteTimeout:      30 * time.Second, // ends with the upgrade
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ConnContext:       withArrival,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}
