package app

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// startApp starts a server on a free port until the test ends.
func startApp(t *testing.T, cfg Config) *App {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Gateway == "" {
		cfg.Gateway = t.Name()
	}
	if cfg.AdminListen == "" {
		cfg.AdminListen = "127.0.0.1:0"
	}
	a := New(cfg)
	require.NoError(t, a.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, a.Stop(ctx))
	})
	return a
}

func get(t *testing.T, a *App, path string) (status int, body string) {
	t.Helper()
	return fetch(t, "http://"+a.Addr()+path)
}

// getAdmin asks for one of the operator's pages.
func getAdmin(t *testing.T, a *App, path string) (status int, body string) {
	t.Helper()
	return fetch(t, "http://"+a.AdminAddr()+path)
}

func fetch(t *testing.T, url string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

func TestPages(t *testing.T) {
	t.Parallel()
	a := startApp(t, Config{Location: Location{DatabaseURL: pgtest.URL(t)}})

	status, body := get(t, a, "/healthz")
	require.Equal(t, http.StatusOK, status, body)
	status, body = get(t, a, "/readyz")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"ready":true}`, body, "no details for everybody")
	status, body = getAdmin(t, a, "/readyz")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"ready":true,"reasons":[]}`, body)
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/profile"} {
		status, _ = get(t, a, path)
		require.Equal(t, http.StatusNotFound, status, "%s is for the operator", path)
	}
	status, body = getAdmin(t, a, "/debug/pprof/")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "goroutine")
	status, body = getAdmin(t, a, "/metrics")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "mooring_build_info{")
	require.Contains(t, body, "go_goroutines")
	status, body = get(t, a, "/")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "/v1/stream")
	status, _ = get(t, a, "/other")
	require.Equal(t, http.StatusNotFound, status)
	status, _ = get(t, a, "/v1/stream")
	require.NotEqual(t, http.StatusOK, status, "no upgrade, no session")
}

// While a server stops, /readyz says so.
func TestReadyzNamesReasons(t *testing.T) {
	t.Parallel()
	postgres := pgtest.Cluster(t)
	a := startApp(t, Config{Location: Location{DatabaseURL: postgres.URL()}})
	postgres.Stop(t)
	var answer struct {
		Ready   bool
		Reasons []string
	}
	require.Eventually(t, func() bool {
		status, body := getAdmin(t, a, "/readyz")
		require.NoError(t, json.Unmarshal([]byte(body), &answer))
		return status == http.StatusServiceUnavailable
	}, 30*time.Second, 100*time.Millisecond)
	require.False(t, answer.Ready)
	require.Equal(t, []string{reasonDatabase}, answer.Reasons)
	status, _ := get(t, a, "/healthz")
	require.Equal(t, http.StatusOK, status, "no reason to restart the server")

	postgres.Start(t)
	require.Eventually(t, func() bool {
		status, _ := get(t, a, "/readyz")
		return status == http.StatusOK
	}, 30*time.Second, 100*time.Millisecond)

	a.stopping.Store(true)
	_, body := getAdmin(t, a, "/readyz")
	require.Contains(t, body, reasonStopping)
}

// A throwaway server leaves neither directory nor process behind.
func TestThrowawayLeavesNothing(t *testing.T) {
	t.Parallel()
	a := New(Config{Listen: "127.0.0.1:0", Throwaway: true, Gateway: t.Name()})
	require.NoError(t, a.Start(t.Context()))
	info := a.Database().Embedded
	require.NotNil(t, info)
	require.DirExists(t, info.DataDir)
	require.NoError(t, a.Stop(t.Context()))
	require.NoError(t, a.Stop(t.Context()), "may be called again")
	require.NoDirExists(t, info.DataDir)
	process, err := os.FindProcess(info.PID)
	if err == nil {
		require.Error(t, process.Signal(nullSignal), "PostgreSQL must be gone")
	}
}

// A start that fails half way leaves nothing running.
func TestFailedStart(t *testing.T) {
	t.Parallel()
	taken := startApp(t, Config{Location: Location{DatabaseURL: pgtest.URL(t)}})
	for name, cfg := range map[string]Config{
		"port":     {Listen: taken.Addr(), Location: Location{DatabaseURL: pgtest.URL(t)}},
		"database": {Listen: "127.0.0.1:0", Location: Location{DatabaseURL: "postgres://nobody@127.0.0.1:1/none"}},
		"setting":  {Listen: "127.0.0.1:0", Window: 5000},
		"tls":      {Listen: "127.0.0.1:0", TLSCert: "/no/cert", TLSKey: "/no/key"},
	} {
		a := New(cfg)
		require.Error(t, a.Start(t.Context()), name)
		require.Empty(t, a.steps, name)
		require.NoError(t, a.Stop(t.Context()), name)
	}
}
