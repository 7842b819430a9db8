package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/client"
	"mooring/storage"
	"mooring/storage/embedded"
	"mooring/wire"
)

const patience = time.Minute

// freeAddress is an address that nobody listens on; it is found before the
// server starts, because the test must know it after a restart too.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

// dataDirectory is one that the unprivileged user which runs PostgreSQL can
// enter, also when the tests run as root: t.TempDir's parents may be closed.
func dataDirectory(t *testing.T) string {
	t.Helper()
	parent, err := os.MkdirTemp("", "mooring-test-") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(parent)) })
	require.NoError(t, os.Chmod(parent, 0o755))
	return filepath.Join(parent, "data")
}

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

// device is a client that runs until the test ends.
type device struct {
	*client.Client
	layout client.LayoutID
}

func connectDevice(t *testing.T, address, token string) device {
	t.Helper()
	c, err := client.New(client.Config{
		URL: "ws://" + address + "/v1/stream", Token: token, Model: "tester",
		Backoff: func(client.Retry) time.Duration { return 50 * time.Millisecond },
	})
	require.NoError(t, err)
	layout, err := c.Layout("env", []wire.Channel{{Name: "temperature", Unit: "°C"}, {Name: "door", Kind: wire.KindBool}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Run(ctx) // ends with ctx
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return device{c, layout}
}

// send appends n samples and waits until they are acknowledged.
func (d device) send(t *testing.T, n int) {
	t.Helper()
	d.append(t, n)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, d.WaitAcked(ctx))
}

func (d device) append(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		_, err := d.Append(d.layout, time.Now(), wire.Value{Kind: wire.ValueNumber, Number: 20 + float64(i)}, wire.Value{Kind: wire.ValueBool, Number: 1})
		require.NoError(t, err)
	}
}

// query runs SQL with the URL that mooring dsn prints.
func query(t *testing.T, dataDir, sql string) [][]string {
	t.Helper()
	dsn := mooring(t, "dsn", "--data-dir", dataDir)
	require.Equal(t, exitDone, dsn.code, dsn.stderr)
	reader, err := storage.OpenReader(t.Context(), strings.TrimSpace(dsn.stdout))
	require.NoError(t, err)
	defer reader.Close()
	_, rows, err := reader.Table(t.Context(), sql)
	require.NoError(t, err)
	return rows
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// A server on its own PostgreSQL: ready, a device, rows, SQL, a stop in good
// order that leaves no process.
func TestServe(t *testing.T) {
	t.Parallel()
	address, data := freeAddress(t), dataDirectory(t)
	admin := freeAddress(t)
	server := start(t, "serve", "--listen", address, "--admin-listen", admin, "--data-dir", data)
	server.says("mooring serves")

	status, body := fetch(t, "http://"+address+"/readyz")
	require.Equal(t, http.StatusOK, status, body)
	require.Equal(t, exitDone, mooring(t, "healthcheck", "--url", "http://"+address+"/readyz").code)

	added := mooring(t, "device", "add", "boiler-7", "--data-dir", data, "--label", "site=north")
	require.Equal(t, exitDone, added.code, added.stderr)
	token := strings.TrimSpace(added.stdout)
	require.NotContains(t, token, " ", "the token alone goes to stdout")

	boiler := connectDevice(t, address, token)
	boiler.send(t, 100)
	require.Equal(t, [][]string{{"100", "20", "119"}},
		query(t, data, "SELECT count(*), min(value), max(value) FROM readings WHERE device = 'boiler-7' AND metric = 'temperature'"))
	require.Eventually(t, func() bool { // the wide view is made in the background
		return len(query(t, data, "SELECT to_regclass('env') WHERE to_regclass('env') IS NOT NULL")) == 1
	}, patience, 50*time.Millisecond)
	require.Len(t, query(t, data, "SELECT ts, device, temperature, door FROM env"), 100)

	listed := mooring(t, "device", "list", "--data-dir", data, "--json")
	require.Equal(t, exitDone, listed.code, listed.stderr)
	var devices []deviceJSON
	require.NoError(t, json.Unmarshal([]byte(listed.stdout), &devices))
	require.Len(t, devices, 1)
	require.Equal(t, "online", devices[0].State)
	require.Equal(t, map[string]any{"site": "north"}, devices[0].Labels)

	_, metrics := fetch(t, "http://"+admin+"/metrics")
	require.Contains(t, metrics, `mooring_ingest_rows_total{outcome="committed"} 100`)

	info, err := embedded.Discover(data)
	require.NoError(t, err)
	require.NoError(t, server.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, exitDone, server.wait(), server.output)
	require.Contains(t, server.output.String(), "stopped")
	require.False(t, alive(info.PID), "PostgreSQL stops with the server")
	require.NotContains(t, server.output.String(), token)
	require.NotContains(t, server.output.String(), "password")

	gone := mooring(t, "dsn", "--data-dir", data)
	require.Equal(t, exitNoDatabase, gone.code)
	require.Contains(t, gone.stderr, "Start the server first")
}

// kill -9 loses nothing that was acknowledged, and the device's rows come
// through after the restart.
func TestServeSurvivesKill(t *testing.T) {
	t.Parallel()
	address, data := freeAddress(t), dataDirectory(t)
	arguments := []string{"serve", "--listen", address, "--data-dir", data, "--gateway", "killed"}
	server := start(t, arguments...)
	server.says("mooring serves")
	token := strings.TrimSpace(mooring(t, "device", "add", "pump", "--data-dir", data).stdout)
	pump := connectDevice(t, address, token)
	pump.send(t, 500)

	require.NoError(t, server.cmd.Process.Kill())
	require.NotEqual(t, exitDone, server.wait())
	pump.append(t, 500) // while nobody listens

	server = start(t, arguments...)
	server.says("mooring serves")
	pump.send(t, 1)
	require.Equal(t, [][]string{{"1001", "1001"}},
		query(t, data, "SELECT count(*), count(DISTINCT (ts, seq)) FROM readings WHERE device = 'pump' AND metric = 'temperature'"))
	require.Equal(t, [][]string{{"1"}},
		query(t, data, "SELECT count(*) FROM sessions WHERE disconnected_at IS NULL"), "the session of the killed server is closed")

	require.NoError(t, server.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, exitDone, server.wait(), server.output)
}

// Two servers can't share a data directory, and say so.
func TestServeOnDataDirectoryInUse(t *testing.T) {
	t.Parallel()
	data := dataDirectory(t)
	first := start(t, "serve", "--listen", "127.0.0.1:0", "--data-dir", data)
	first.says("mooring serves")
	second := mooring(t, "serve", "--listen", "127.0.0.1:0", "--data-dir", data)
	require.Equal(t, exitFailed, second.code)
	require.Contains(t, second.stderr, fmt.Sprintf("in use by the Mooring server with process id %d", first.cmd.Process.Pid))
	require.NoError(t, first.cmd.Process.Signal(os.Interrupt))
	require.Equal(t, exitDone, first.wait(), first.output)
}
