package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"mooring/console"
	"mooring/console/live"
	"mooring/console/page"
	"mooring/devices"
	"mooring/ingest"
	"mooring/migrations"
	"mooring/storage"
	"mooring/storage/embedded"
	"mooring/wire"
)

// App is a whole server. Its methods may be called from any goroutine.
type App struct {
	cfg      Config
	logger   *slog.Logger
	registry *prometheus.Registry
	// registerer is the registry, save for a test that watches what is registered.
	registerer prometheus.Registerer

	database Database
	cluster  *embedded.Cluster
	store    *storage.Store
	devices  *devices.Registry
	gateway  *ingest.Gateway
	console  *console.API
	live     *live.Hub
	address  string
	admin    string // address of the operator's pages

	certificates  *certificates // nil: no TLS
	reloadEvery   time.Duration
	tlsFailures   prometheus.Counter
	proxyRefusals prometheus.Counter

	stopping atomic.Bool
	failed   chan error // the first reason why the server can't go on
	mu       sync.Mutex // one Start or Stop at a time
	steps    []step     // what Stop undoes, last first
	stopErr  error
}

// step undoes one part of Start.
type step struct {
	name string
	undo func(context.Context) error
}

// New notes the configuration; fields that hold their zero value get their
// defaults.
func New(cfg Config) *App {
	cfg.setDefaults()
	registry := prometheus.NewRegistry()
	return &App{
		cfg: cfg, logger: cfg.Logger, registry: registry, registerer: registry, failed: make(chan error, 1),
		reloadEvery: certificatesEvery,
		tlsFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mooring_tls_handshakes_failed_total", Help: "TLS handshakes that came to no good end.",
		}),
		proxyRefusals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mooring_proxy_headers_refused_total",
			Help: "Connections closed because of the PROXY protocol: a header from an address that is not trusted, or none or a bad one from a trusted one.",
		}),
	}
}

// Start returns when devices can connect. If it fails, nothing is left behind.
// It is called once.
func (a *App) Start(ctx context.Context) (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.cfg.Validate(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.unwind(context.WithoutCancel(ctx)))
		}
	}()
	// What is wrong in itself before what is so here: a port that is taken. And the
	// address before the database: that is found before PostgreSQL is started.
	if a.database, err = a.cfg.configured(); err != nil {
		return err
	}
	listener, err := a.listen(ctx)
	if err != nil {
		return err
	}
	a.registerer.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildMetric(),
		a.tlsFailures,
		a.proxyRefusals,
	)
	for _, start := range []func(context.Context) error{
		a.startDatabase, a.startStorage, a.startDevices, a.startConsole, a.startAdmin, a.startCertificates, a.startGateway,
	} {
		if err := start(ctx); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	a.serve(listener)
	return nil
}

func (a *App) listen(ctx context.Context) (net.Listener, error) {
	certificates, err := openCertificates(&a.cfg)
	if err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", a.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	a.address = listener.Addr().String()
	a.certificates = certificates
	return listener, nil
}

func (a *App) startDatabase(ctx context.Context) error {
	if a.database.URL != "" {
		a.logger.Info("using the configured database", "url", Redact(a.database.URL))
	} else {
		cluster, err := embedded.Start(ctx, embedded.Config{
			DataDir: a.cfg.DataDir, Throwaway: a.cfg.Throwaway, Logger: a.logger,
		})
		if err != nil {
			return err
		}
		a.onStop("embedded PostgreSQL", cluster.Stop)
		info := cluster.Info()
		a.cluster = cluster
		a.database = Database{URL: info.URL, Embedded: &info}
	}
	applied, err := migrations.Up(ctx, a.database.URL, a.logger)
	if err != nil {
		return err
	}
	if applied > 0 {
		a.logger.Info("schema brought up to date", "migrations", applied)
	}
	return nil
}

func (a *App) startStorage(ctx context.Context) error {
	store, err := storage.Open(ctx, storage.Config{
		URL:        a.database.URL,
		Writers:    a.cfg.Writers,
		Partition:  storage.PartitionWidth(a.cfg.Partition),
		Retention:  time.Duration(a.cfg.Retention),
		Logger:     a.logger,
		Registerer: a.registerer,
		OnGoneBack: a.fail,
	})
	if err != nil {
		return err
	}
	a.store = store
	a.onStop("storage", store.Close)
	return nil
}

func (a *App) startDevices(ctx context.Context) error {
	registry, err := devices.Open(ctx, devices.Config{
		URL:        a.database.URL,
		Gateway:    a.cfg.Gateway,
		Logger:     a.logger,
		Registerer: a.registerer,
	})
	if err != nil {
		return err
	}
	a.devices = registry
	a.onStop("devices", registry.Close)
	return nil
}

func (a *App) startGateway(ctx context.Context) error {
	connections, err := connectionLimit(a.cfg.MaxConnections, a.cfg.Writers, fileLimit())
	if err != nil {
		return err
	}
	if connections < a.cfg.MaxConnections {
		a.logger.Info("the limit of open files bounds the number of devices", "devices", connections, "files", fileLimit())
	}
	cfg := ingest.Config{
		MaxConnections: connections,
		Heartbeat:      time.Duration(a.cfg.Heartbeat),
		Spread:         time.Duration(a.cfg.Spread),
		MaxFrame:       int(a.cfg.MaxFrame),
		MaxFragments:   a.cfg.MaxFragments,
		MessageTimeout: time.Duration(a.cfg.MessageTimeout),
		ControlRate:    a.cfg.MaxControlRate,
		Window:         a.cfg.Window,
		Oldest:         a.cfg.Oldest.At,
		OldestAge:      a.cfg.oldestAge(),
		NewestAhead:    time.Duration(a.cfg.Newest),
		Writers:        a.cfg.Writers,
		// A writer has one batch under way and one that gathers.
		MaxBatchBytes: int(a.cfg.MaxWaitingBytes) / (2 * a.cfg.Writers),
		Linger:        time.Duration(a.cfg.Linger),
		DrainGrace:    time.Duration(a.cfg.Grace),
		OnWelcomed:    func(device ingest.Device) { a.devices.Welcomed(device.ID) },
		OnResult:      func(device ingest.Device, result wire.Result) { a.devices.CommandResult(device.ID, result) },
		Logger:        a.logger,
		Registerer:    a.registerer,
	}
	if err := a.cfg.limitHandshakes(&cfg); err != nil {
		return err
	}
	gateway, err := ingest.New(cfg, authenticator{a.devices}, sessionLog{a.devices}, rowStore{a.store})
	if err != nil {
		return err
	}
	a.gateway = gateway
	if err := gateway.Start(ctx); err != nil {
		return err
	}
	a.onStop("keeper of memory", startKeeper(gateway.Renew, func() uint64 { return gateway.Stats().Frames }).stop)
	a.onStop("gateway", gateway.Stop)
	a.devices.DispatchCommands(commandSender(gateway))
	a.devices.OnRevoked(func(revocation devices.Revocation) { dropRevoked(gateway, revocation) })
	return nil
}

// serve starts the HTTP server on the listener. It goes on answering while the
// gateway drains, so that /readyz can say so, and is shut down after it.
func (a *App) serve(listener net.Listener) {
	server := ingest.NewServer(a.routes(), a.logger)
	server.ReadHeaderTimeout = time.Duration(a.cfg.HandshakeTimeout) // also the TLS handshake's
	server.MaxHeaderBytes = int(a.cfg.MaxHeader)
	server.ErrorLog = slog.NewLogLogger(newServerLog(a.logger.Handler(), a.tlsFailures), slog.LevelDebug)
	if a.cfg.ProxyProtocol == proxyV2 {
		listener = newProxyListener(listener, a.cfg.TrustedProxies, time.Duration(a.cfg.HandshakeTimeout), a.proxyRefusals)
		arrived := server.ConnContext
		server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
			return withProxied(arrived(ctx, conn), conn)
		}
	}
	listener = a.gateway.Listener(listener)
	if a.certificates == nil {
		listener = a.gateway.Handshakes(listener)
	} else {
		listener = a.certificates.listener(listener)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.fail(fmt.Errorf("HTTP server: %w", err))
		}
	}()
	stopHTTP := step{"HTTP server", func(ctx context.Context) error {
		err := server.Shutdown(ctx)
		if err != nil {
			err = errors.Join(err, server.Close())
		}
		<-ended
		return err
	}}
	// Undone after the gateway, which was started before it.
	last := len(a.steps) - 1
	a.steps = append(a.steps[:last:last], stopHTTP, a.steps[last])
	a.stopLiveBeforeHTTP()
}

func (a *App) onStop(name string, undo func(context.Context) error) {
	a.steps = append(a.steps, step{name, undo})
}

// Stop ends the server in good order, see the package comment. The end of ctx
// puts it in a hurry, and so does the end of Config.Grace and Config.StopTimeout:
// what is not committed then is not acknowledged, and devices send it again.
// Every part is stopped in any case. Further calls return what the first one did.
func (a *App) Stop(ctx context.Context) error {
	a.stopping.Store(true)
	a.mu.Lock()
	defer a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(a.cfg.Grace+a.cfg.StopTimeout))
	defer cancel()
	if err := a.unwind(ctx); err != nil {
		a.stopErr = err
	}
	return a.stopErr
}

func (a *App) unwind(ctx context.Context) error {
	var faults []error
	for len(a.steps) > 0 {
		last := len(a.steps) - 1
		part := a.steps[last]
		a.steps = a.steps[:last]
		begun := time.Now()
		if err := part.undo(ctx); err != nil {
			faults = append(faults, fmt.Errorf("stop %s: %w", part.name, err))
		}
		a.logger.Debug("stopped", "part", part.name, "took", time.Since(begun))
	}
	return errors.Join(faults...)
}

// fail says why the server can't go on; the first reason counts.
func (a *App) fail(err error) {
	select {
	case a.failed <- err:
	default:
	}
}

// Failed receives an error if the server can't go on; Stop is still to be
// called then.
func (a *App) Failed() <-chan error { return a.failed }

// Addr is the address listened on, as host:port.
func (a *App) Addr() string { return a.address }

// URL is where devices on this machine connect.
func (a *App) URL() string {
	scheme := "ws"
	if a.cfg.TLSCert != "" {
		scheme = "wss"
	}
	return scheme + "://" + reachable(a.address) + streamPath
}

// ConsoleURL is the address of the console for a browser on this machine.
func (a *App) ConsoleURL() string { return ServerURL(a.address, a.cfg.TLSCert != "") }

// ConsoleLink is the address that opens the console and logs in with a secret of
// devices.Admin.NewLink. The secret stands behind #, which browsers send to
// nobody: no log of a server or proxy has it.
func (a *App) ConsoleLink(secret string) string {
	return page.Link(a.ConsoleURL(), secret)
}

// ServerURL is the address for browsers on this machine of a server that listens on
// an address, which may name all interfaces.
func ServerURL(listen string, tls bool) string {
	scheme := "http"
	if tls {
		scheme = "https"
	}
	return scheme + "://" + reachable(listen)
}

// DatabaseURL is the connection URL of the role that owns everything.
func (a *App) DatabaseURL() string { return a.database.URL }

// Database tells all about the database.
func (a *App) Database() Database { return a.database }

// Stats is a snapshot of the gateway, for a live display.
func (a *App) Stats() ingest.Stats { return a.gateway.Stats() }

// reachable turns an address of all interfaces into one of this machine.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
