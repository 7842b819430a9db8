package app

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"mooring/console"
	"mooring/console/page"
	"mooring/wire"
)

const streamPath = wire.StreamPath

// The reasons that /readyz gives.
const (
	reasonStopping = "the server is stopping"
	reasonDatabase = "the database can't be reached; rows wait in the server and on the devices"
)

func (a *App) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(streamPath, a.gateway)
	mux.Handle(console.Prefix+"/", a.console)
	mux.HandleFunc(console.LivePath, a.console.ServeLive)
	mux.HandleFunc("GET /healthz", a.healthz)
	mux.HandleFunc("GET /readyz", a.readyz)
	handler := page.Handler()
	for _, route := range page.Routes() {
		mux.Handle(route, handler)
	}
	return withoutBody(mux)
}

// withoutBody refuses requests with a body, which only the gateway, to say so
// itself, and the console may look at: reading it would be somebody's way to
// keep a connection busy.
func withoutBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		theirs := r.URL.Path == streamPath || strings.HasPrefix(r.URL.Path, console.Prefix+"/")
		if !theirs && (r.ContentLength != 0 || len(r.TransferEncoding) > 0) {
			w.Header().Set("Connection", "close")
			http.Error(w, "no body is taken here", http.StatusRequestEntityTooLarge)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// healthz answers as long as the process does anything at all.
func (a *App) healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"alive": true})
}

// readyz tells whether devices should come here. Why not is for the operator,
// see readyzWithReasons.
func (a *App) readyz(w http.ResponseWriter, _ *http.Request) {
	if len(a.notReady()) > 0 {
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"ready": false})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"ready": true})
}

// readyzWithReasons tells why devices should not come here, too.
func (a *App) readyzWithReasons(w http.ResponseWriter, _ *http.Request) {
	reasons := a.notReady()
	status := http.StatusOK
	if len(reasons) > 0 {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, map[string]any{"ready": len(reasons) == 0, "reasons": reasons})
}

// notReady lists the reasons why devices should not come here.
func (a *App) notReady() []string {
	reasons := []string{}
	if a.stopping.Load() {
		reasons = append(reasons, reasonStopping)
	}
	if !a.store.Available() {
		reasons = append(reasons, reasonDatabase)
	}
	return reasons
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // whoever asked may be gone
}

// buildMetric tells which program runs, the way Prometheus' own programs do.
func buildMetric() prometheus.Collector {
	build := ReadBuild()
	metric := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mooring_build_info",
		Help: "Always 1; the labels tell which program runs.",
		ConstLabels: prometheus.Labels{
			"version": build.Version, "revision": build.Revision, "goversion": build.Go,
		},
	})
	metric.Set(1)
	return metric
}
