package app

import (
	"context"
	"net/http"
	"net/netip"

	"mooring/console"
	"mooring/devices"
	"mooring/storage"
)

// consoleReaders is how many answers of the API may read readings at once.
const consoleReaders = 8

// startConsole opens what the HTTP API works with: the registry as operators
// see it, and the stored readings with the reader's rights.
func (a *App) startConsole(ctx context.Context) error {
	admin, err := devices.OpenAdmin(ctx, a.database.URL)
	if err != nil {
		return err
	}
	a.onStop("HTTP API's registry", func(context.Context) error { admin.Close(); return nil })
	url, limited, err := a.database.Reader(ctx)
	if err != nil {
		return err
	}
	if !limited {
		a.logger.Warn("the HTTP API reads with the rights of --database-url: its role may not become mooring_reader")
	}
	reader, err := storage.OpenReaders(ctx, url, consoleReaders+4) // two for short questions, two for viewers'
	if err != nil {
		return err
	}
	a.onStop("HTTP API's reader", func(context.Context) error { reader.Close(); return nil })
	if err := a.startLive(ctx, reader); err != nil {
		return err
	}
	origins, err := a.liveOrigins()
	if err != nil {
		return err
	}
	a.console, err = console.New(console.Config{
		Live: a.live, CheckOrigin: origins, Admitted: admitted,
		Devices: admin, Reader: reader, Version: ReadBuild().Version, Secure: a.secure,
		Streams: consoleReaders, Logger: a.logger, Gateway: a.cfg.Gateway, Gauges: a.gauges,
		From: func(r *http.Request) netip.Addr { return a.gateway.From(r) },
	})
	return err
}

// gauges are what the console shows of the gateway.
func (a *App) gauges() console.Gauges {
	stats := a.gateway.Stats()
	return console.Gauges{
		RowsSettled: stats.RowsCommitted + stats.RowsDuplicate, RowsRefused: stats.RowsRejected,
		BytesWaiting: stats.BytesWaiting, AckP50: stats.AckP50, AckP99: stats.AckP99,
	}
}
