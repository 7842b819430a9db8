package storage

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

func plan(t *testing.T, url, sql string) string {
	t.Helper()
	rows, err := connect(t, url).Query(t.Context(), "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) "+sql)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return strings.Join(lines, "\n")
}

// The filters of the view reach the index, and the partitions that can't hold
// the time are left out.
func TestReadingsReachesTheIndex(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	day := int64(24 * time.Hour / time.Microsecond)
	for back := range int64(20) {
		for device := range 3 {
			for i := range int64(300) {
				b.add(f.devices[device], f.numbers, uint64(i), time.Now().UnixMicro()-back*day-i*60_000_000, number(1), number(2), number(3), number(4), number(5))
			}
		}
	}
	f.write(t, &b)
	execute(t, f.url, "ANALYZE mooring.samples")
	for _, query := range []string{
		"SELECT ts, value FROM mooring.readings WHERE device = 'dev-2' AND metric = 'c1' AND ts > now() - interval '1 hour'",
		"SELECT ts, c1 FROM mooring_layout.env WHERE device = 'dev-2' AND ts > now() - interval '1 hour'",
	} {
		f.view(t, "env", 1)
		text := plan(t, f.url, query)
		require.Contains(t, text, "Subplans Removed", text)
		require.Regexp(t, `(?s)Index Scan.*Index Cond: \(\(device_id = d.id\) AND \(ts > `, text)
		require.NotRegexp(t, `Seq Scan on samples_\d+ \w+ +\(cost.*rows=[1-9]\d* loops`, text)
	}
	require.NotContains(t, plan(t, f.url, "SELECT * FROM mooring.latest WHERE device = 'dev-2'"), "samples")
}

func TestGaps(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	at := base
	for _, seq := range []uint64{5, 6, 7, 10, 11, 20 /* reboot */, 0, 1, 3 /* reboot */, 3, 4} {
		at += 1000
		b.add(f.devices[0], f.numbers, seq, at, number(1))
	}
	f.write(t, &b)
	execute(t, f.url, `INSERT INTO mooring.rejects (device_id, seq, n, code, detail) SELECT id, 12, 3, 'MALFORMED', '' FROM mooring.devices WHERE name = 'dev-1'`,
		`INSERT INTO mooring.rejects (device_id, seq, n, channel, code, detail) SELECT id, 8, 1, 'c1', 'TYPE', '' FROM mooring.devices WHERE name = 'dev-1'`)
	rows, err := connect(t, f.url).Query(t.Context(), "SELECT boot, first_missing, last_missing, missing, refused FROM mooring.gaps WHERE device = 'dev-1' ORDER BY after_ts")
	require.NoError(t, err)
	type gap struct{ Boot, First, Last, Missing, Refused int }
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[gap])
	require.NoError(t, err)
	require.Equal(t, []gap{{1, 8, 9, 2, 0}, {1, 12, 19, 8, 3}, {2, 2, 2, 1, 0}}, got)
	require.Zero(t, one[int](t, f.url, "SELECT count(*) FROM mooring.gaps WHERE device = 'dev-2'"))
}

func TestDeviceStatus(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	execute(t, f.url,
		"INSERT INTO mooring.gateways (name, lease_until) VALUES ('lives', now() + interval '1 hour'), ('dead', now() - interval '1 minute')",
		`INSERT INTO mooring.sessions (id, device_id, gateway, incarnation, connected_at, last_seen_at, disconnected_at, close_code, reason)
			SELECT 1, id, 'lives', 1, now() - interval '3 hours', now(), now() - interval '2 hours', 4101, 'a newer connection' FROM mooring.devices WHERE name = 'dev-1'`,
		`INSERT INTO mooring.sessions (id, device_id, gateway, incarnation, connected_at, last_seen_at)
			SELECT 2, id, 'lives', 1, now() - interval '1 hour', now() FROM mooring.devices WHERE name = 'dev-1'`,
		`INSERT INTO mooring.sessions (id, device_id, gateway, incarnation, connected_at, last_seen_at)
			SELECT 3, id, 'dead', 2, now() - interval '1 hour', now() FROM mooring.devices WHERE name = 'dev-2'`)
	require.Equal(t, "dev-1 t 60 4101|dev-2 f 1|dev-3 f", one[string](t, f.url, `SELECT string_agg(concat_ws(' ', device,
		online, round(extract(epoch FROM now() - since) / 60), last_close_code), '|' ORDER BY device) FROM mooring.device_status`))
}

// The reader may read what the guide speaks of, and neither tokens nor write.
func TestReaderRights(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	f := newFixture(t, url)
	f.view(t, "env", 1)
	var b batch
	b.series(f.devices[0], f.numbers, 0, 3)
	f.write(t, &b)
	reader := connect(t, pgtest.ReaderURL(t, url))
	for _, relation := range []string{"readings", "latest", "gaps", "device_status", "refusals", "layout_views", "samples", "devices", "sessions"} {
		_, err := reader.Exec(t.Context(), "SELECT * FROM mooring."+relation)
		require.NoError(t, err, relation)
	}
	var n int
	require.NoError(t, reader.QueryRow(t.Context(), "SELECT count(*) FROM mooring_layout.env").Scan(&n))
	require.Equal(t, 3, n)
	require.NoError(t, reader.QueryRow(t.Context(), "SELECT count(*) FROM mooring.latest").Scan(&n))
	require.Equal(t, 5, n)
	_, err := reader.Exec(t.Context(), "SET default_transaction_read_only = off") // the role's habit, not its right
	require.NoError(t, err)
	for _, forbidden := range []string{
		"SELECT * FROM mooring.tokens", "DELETE FROM mooring.samples", "UPDATE mooring.devices SET disabled = true",
		"SELECT mooring.recover_latest(1)", "CREATE TABLE mooring.mine (x int)",
	} {
		_, err := reader.Exec(t.Context(), forbidden)
		require.ErrorContains(t, err, "42501", forbidden)
	}
}

func TestOpenChecks(t *testing.T) {
	t.Parallel()
	_, err := Open(t.Context(), Config{URL: pgtest.EmptyURL(t)})
	require.ErrorContains(t, err, "run the migrations")
	_, err = Open(t.Context(), Config{})
	require.ErrorContains(t, err, "URL")
	_, err = Open(t.Context(), Config{URL: "postgres://x", Partition: "year"})
	require.ErrorContains(t, err, "Partition")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = Open(ctx, Config{URL: "postgres://nobody@127.0.0.1:1/x"})
	require.Error(t, err)
}

func TestCloseIsIdempotent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	require.NoError(t, f.Close(t.Context()))
	require.NoError(t, f.Close(t.Context()))
	_, err := f.Write(t.Context(), 0, nil, 0, nil)
	require.ErrorIs(t, err, errClosed)
}
