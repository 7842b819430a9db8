package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"syscall"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mooring/ingest"
)

// noAdmin is the setting that leaves the operator's pages out.
const noAdmin = "none"

// adminRoutes are the pages for the operator alone: they tell what devices and
// passers-by need not know, and profiles cost time.
func (a *App) adminRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", a.healthz)
	mux.HandleFunc("GET /readyz", a.readyzWithReasons)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{
		Registry: a.registry,
		// Collecting is cheap, but nobody needs it from many at once.
		MaxRequestsInFlight: 4,
	}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("Mooring, for its operator\n\n" +
			"/metrics        for Prometheus\n/readyz         ready for devices, or why not\n/debug/pprof/   profiles\n"))
	})
	return mux
}

// startAdmin serves the operator's pages on an address of their own. If that is
// the default and another program has it, a second server say, this one does
// without and says so; an address that somebody chose must be free.
func (a *App) startAdmin(ctx context.Context) error {
	if a.cfg.AdminListen == noAdmin {
		return nil
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", a.cfg.AdminListen)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) && a.cfg.AdminListen == defaultAdmin {
			a.logger.Warn("metrics and profiles are not served: another program has the address; choose one with --admin-listen", "address", defaultAdmin)
			return nil
		}
		return fmt.Errorf("--admin-listen: %w", err)
	}
	a.admin = listener.Addr().String()
	if host, _, err := net.SplitHostPort(a.admin); err == nil && !net.ParseIP(host).IsLoopback() {
		a.logger.Warn("metrics and profiles are served to everybody who can reach the address", "address", a.admin)
	}
	server := ingest.NewServer(a.adminRoutes(), a.logger)
	server.WriteTimeout = 0 // a profile lasts as long as somebody asks for
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.logger.Error("metrics and profiles are no longer served", "error", err)
		}
	}()
	a.onStop("admin pages", func(context.Context) error {
		err := server.Close() // nobody's answer is worth waiting for
		<-ended
		return err
	})
	return nil
}

// AdminAddr is where the operator's pages are served, as host:port; empty: nowhere.
func (a *App) AdminAddr() string { return a.admin }
