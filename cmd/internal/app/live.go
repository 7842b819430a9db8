package app

import (
	"context"
	"net/http"
	"slices"
	"time"

	"mooring/console"
	"mooring/console/live"
	"mooring/devices"
	"mooring/ingest"
	"mooring/ingest/door"
	"mooring/storage"
)

// startLive opens what viewers look through, with connections of its own: a
// crowd of viewers is not to keep operators waiting.
func (a *App) startLive(ctx context.Context, reader *storage.Reader) error {
	admin, err := devices.OpenAdmin(ctx, a.database.URL)
	if err != nil {
		return err
	}
	a.onStop("viewers' registry", func(context.Context) error { admin.Close(); return nil })
	a.live, err = live.New(live.Config{
		Devices: admin, Readings: reader, Committed: a.store.Follower(), Gateway: a.cfg.Gateway,
		Figures: a.figures, Command: console.EncodeCommand,
		MaxViewers: a.cfg.LiveViewers, MaxOfUser: a.cfg.LiveUserViewers, MaxDevices: a.cfg.LiveDevices, MaxValues: a.cfg.LiveValues,
		Heartbeat: time.Duration(a.cfg.LiveHeartbeat), Timeout: time.Duration(a.cfg.LiveTimeout), Resume: time.Duration(a.cfg.LiveResume),
		Logger: a.logger, Registerer: a.registerer,
	})
	if err != nil {
		return err
	}
	a.live.Start()
	a.onStop("live push", a.live.Stop)
	return nil
}

// figures are those of the gateway. It is started after the hub, and before
// anybody can look.
func (a *App) figures() live.Figures {
	stats := a.gateway.Stats()
	return live.Figures{
		RowsCommitted: stats.RowsCommitted, RowsRejected: stats.RowsRejected, BytesWaiting: stats.BytesWaiting,
		AckP50: stats.AckP50, AckP99: stats.AckP99,
	}
}

// liveOrigins tells which pages may look on.
func (a *App) liveOrigins() (func(*http.Request) bool, error) {
	if a.cfg.AllowedOrigins == nil {
		return nil, nil //nolint:nilnil // those of the same host
	}
	return ingest.AllowOrigins(a.cfg.AllowedOrigins)
}

// admitted takes a viewer's connection off the list of those that are unfinished.
func admitted(r *http.Request) { door.VisitOf(r.Context()).End() }

// stopLiveBeforeHTTP has viewers sent away before the HTTP server is shut down,
// and after devices have been drained: they see the last readings.
func (a *App) stopLiveBeforeHTTP() {
	for i, s := range a.steps {
		if s.name == "live push" {
			a.steps = slices.Insert(slices.Delete(a.steps, i, i+1), len(a.steps)-2, s)
			return
		}
	}
}
