package console

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"mooring/console/live"
	"mooring/devices"
	"mooring/storage"
)

// Prefix is where the API lives.
const Prefix = "/api/v1"

// Config is what the API works with.
type Config struct {
	// Devices is the registry. Required.
	Devices *devices.Admin
	// Reader reads what was stored, with the rights of mooring_reader. Required.
	Reader *storage.Reader
	// Version of the program, for the OpenAPI document.
	Version string
	// Gateway is the name of the server.
	Gateway string
	// Gauges tells how the server does. Defaults to one that knows nothing.
	Gauges func() Gauges
	// From is where a request is from: its peer, or whom a trusted proxy names.
	// Wrong tokens are counted by it. Defaults to the peer.
	From func(*http.Request) netip.Addr
	// Secure tells whether a request came from its browser by TLS, to this server or
	// to a trusted proxy, so that the cookie may travel by nothing else. Defaults to
	// what the connection is.
	Secure func(*http.Request) bool
	// Live shows people what happens. Defaults to nothing: LivePath answers 404.
	Live *live.Hub
	// CheckOrigin tells whether a page may look on that has another origin than
	// this server; it is asked only about requests that bring an Origin and a
	// cookie. Defaults to pages of the same host.
	CheckOrigin func(r *http.Request) bool
	// Admitted is called with a request that has become a viewer, whose connection
	// goes on. Defaults to nothing.
	Admitted func(r *http.Request)
	// Streams is the number of answers with readings that may be under way at
	// once; more wait. Defaults to 8.
	Streams int
	// Logger defaults to one that discards.
	Logger *slog.Logger
}

// API is the handler of everything under Prefix.
type API struct {
	cfg     Config
	huma    huma.API
	handler http.Handler
	streams chan struct{} // one token an answer under way
	limits  *limits
	figures figures
	now     func() time.Time // time.Now; a test's, which stands still
}

// maxBody bounds what a request may bring, in bytes.
const maxBody = 64 << 10

// New makes the API.
func New(cfg Config) (*API, error) {
	if cfg.Devices == nil || cfg.Reader == nil {
		return nil, errors.New("console: a registry and a reader are needed")
	}
	if cfg.Streams == 0 {
		cfg.Streams = 8
	}
	if cfg.Gauges == nil {
		cfg.Gauges = func() Gauges { return Gauges{} }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.CheckOrigin == nil {
		cfg.CheckOrigin = sameOrigin
	}
	if cfg.From == nil {
		cfg.From = peerOf
	}
	if cfg.Secure == nil {
		cfg.Secure = func(r *http.Request) bool { return r.TLS != nil }
	}
	a := &API{cfg: cfg, streams: make(chan struct{}, cfg.Streams), limits: newLimits(), now: time.Now}
	a.figures.points = []figurePoint{{at: time.Now()}}

	mux := http.NewServeMux()
	config := huma.DefaultConfig("Mooring", cfg.Version)
	config.Info.Description = "Devices, their readings, and commands to them. Every error is a problem detail (RFC 9457)."
	config.DocsPath = "" // its page would load scripts from elsewhere; ours does not
	config.CreateHooks = nil
	config.RejectUnknownQueryParameters = true
	config.Servers = []*huma.Server{{URL: Prefix}}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":   {Type: "http", Scheme: "bearer", Description: "A user's token, as mooring user add prints it."},
		"session": {Type: "apiKey", In: "cookie", Name: cookieName, Description: "A browser's session, set by POST /login."},
	}
	a.huma = humago.NewWithPrefix(mux, Prefix, config)
	a.huma.UseMiddleware(a.identify)
	a.addLogin()
	a.addUsers()
	a.addDevices()
	a.addReadings()
	a.addCommands()
	a.addFleet()
	a.addSparklines()
	a.addWhy()
	a.addPresence()
	a.addAudit()
	mux.HandleFunc("GET "+Prefix+"/docs", serveDocs)
	mux.HandleFunc(Prefix+"/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusNotFound, "no such operation: "+r.Method+" "+r.URL.Path+"; see "+Prefix+"/docs")
	})

	texts := onlyText(mux)
	// A browser adds its cookie to requests that another site's page makes it
	// send. It also says so, and then they are refused.
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problem(w, http.StatusForbidden, "a page of another site may not do this")
	}))
	a.handler = crossOrigin.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		header := w.Header()
		header.Set("Cache-Control", "no-store")
		header.Set("X-Content-Type-Options", "nosniff")
		texts.ServeHTTP(w, r)
	}))
	return a, nil
}

// ServeHTTP answers.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// OpenAPI is the document that describes the API.
func (a *API) OpenAPI() *huma.OpenAPI { return a.huma.OpenAPI() }

// operation describes one; the role is what it needs, "" that anybody may.
func operation(method, path, id, tag, summary string, role devices.Role) huma.Operation {
	op := huma.Operation{
		OperationID: id, Method: method, Path: path, Tags: []string{tag}, Summary: summary,
		Metadata: map[string]any{roleKey: role}, MaxBodyBytes: maxBody,
	}
	if role == "" {
		return op
	}
	op.Description = "Needs the role " + string(role) + "."
	op.Security = []map[string][]string{{"token": {}}, {"session": {}}}
	op.Errors = []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable}
	if strings.Contains(path, "{") {
		op.Errors = append(op.Errors, http.StatusNotFound)
	}
	if method != http.MethodGet {
		op.Errors = append(op.Errors, http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge)
	}
	return op
}

// explain turns the registry's and the reader's errors into problems.
func (a *API) explain(ctx context.Context, err error) error {
	var field *devices.FieldError
	var known huma.StatusError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case errors.As(err, &field):
		return huma.Error422UnprocessableEntity(field.Error(), &huma.ErrorDetail{Message: field.Problem, Location: field.Field})
	case errors.Is(err, devices.ErrNotFound), errors.Is(err, devices.ErrNoCommand), errors.Is(err, devices.ErrNoUser):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, devices.ErrExists), errors.Is(err, devices.ErrUserExists), errors.Is(err, devices.ErrHasReadings):
		return huma.Error409Conflict(err.Error())
	case ctx.Err() != nil:
		return huma.Error503ServiceUnavailable("the request ended before the database answered")
	}
	// What the database says may hold more than a stranger should see.
	a.cfg.Logger.Warn("an API request failed", "error", err)
	return huma.Error503ServiceUnavailable("the database does not answer; try again")
}
