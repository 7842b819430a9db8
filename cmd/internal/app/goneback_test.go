package app

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/client"
	"mooring/devices"
	"mooring/internal/loopback"
	"mooring/internal/pgtest"
	"mooring/storage"
	"mooring/wire"
)

// A server whose database has lost a layout ends itself; the next start stores
// what the device was not told of, once and under a layout that is there.
func TestServerEndsWhenItsDatabaseHasGoneBack(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	cfg := Config{
		Location: Location{DatabaseURL: url}, Listen: loopback.FreeAddress(t), Gateway: t.Name(),
		Grace: Span(50 * time.Millisecond), StopTimeout: Span(time.Second),
	}
	cfg.AdminListen = "127.0.0.1:0"
	first := New(cfg)
	require.NoError(t, first.Start(t.Context()))
	defer func() { _ = first.Stop(context.Background()) }() // says that rows were given back
	admin, err := devices.OpenAdmin(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(admin.Close)
	_, token, err := admin.Add(t.Context(), devices.NewDevice{Name: "boiler"})
	require.NoError(t, err)
	device := connect(t, client.Config{URL: first.URL(), Token: token})
	device.sendOne(t)

	sql, err := storage.OpenReader(t.Context(), url)
	require.NoError(t, err)
	defer sql.Close()
	for _, statement := range []string{`DELETE FROM mooring.layouts`, `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name LIKE 'mooring writer%'`} {
		_, _, err := sql.Table(t.Context(), statement)
		require.NoError(t, err)
	}
	_, err = device.Append(device.layout, time.Now(), wire.Value{Kind: wire.ValueNumber, Number: 22})
	require.NoError(t, err)
	select {
	case failure := <-first.Failed():
		require.ErrorIs(t, failure, storage.ErrGoneBack)
	case <-time.After(time.Minute):
		require.FailNow(t, "it goes on")
	}
	_ = first.Stop(t.Context())

	second := New(cfg)
	require.NoError(t, second.Start(t.Context()))
	t.Cleanup(func() { _ = second.Stop(context.Background()) })
	require.Eventually(t, func() bool {
		_, rows, err := sql.Table(t.Context(), `SELECT (SELECT count(*) FROM mooring.samples), (SELECT string_agg(value::text, ' ') FROM mooring.readings)`)
		return err == nil && rows[0][0] == "2" && rows[0][1] == "22"
	}, time.Minute, 20*time.Millisecond, "the second row is stored, and can be read")
}
