package devices

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// neighbours are devices with a session each, about whose next one the trigger of
// mooring.sessions has something to say; times are seconds ago, 0: not.
var neighbours = []struct {
	name         string
	began, ended float64 // the session before
	begins       float64 // the next, as its server says
	begun        float64 // as it is on record
	endedThen    float64 // the session before, as it is on record then
	code         int
}{
	{name: "first", begins: 10, begun: 10},
	{name: "ended", began: 50, ended: 40, begins: 10, begun: 10, endedThen: 40},
	{name: "ended-later", began: 50, ended: 5, begins: 10, begun: 5, endedThen: 5},
	{name: "open", began: 50, begins: 10, begun: 10, endedThen: 10, code: 4101},
	{name: "began-later", began: 7, begins: 10, begun: 7, endedThen: 7, code: 4101},
}

// The next sessions of all of them are opened by one statement: alone, and with
// something in it that is seldom so, which is gone about in another way
// (decision 153). The outcome is the same.
func TestOpeningsKeepTheirNeighboursInOrder(t *testing.T) {
	t.Parallel()
	for name, odd := range map[string]string{
		"alone":                     ``,
		"a device twice":            `, (2001, (SELECT id FROM mooring.devices WHERE name = 'odd'), now() - interval '3 s'), (2002, (SELECT id FROM mooring.devices WHERE name = 'odd'), now() - interval '2 s')`,
		"before one that was there": `, (5, (SELECT id FROM mooring.devices WHERE name = 'odd'), now() - interval '3 s')`,
		"in the future":             `, (2003, (SELECT id FROM mooring.devices WHERE name = 'odd'), now() + interval '1 hour')`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			admin, conn := openAdmin(t, url), sql(t, url)
			other := add(t, admin, "odd").Device
			exec(t, conn, `CREATE FUNCTION ago(seconds float8) RETURNS timestamptz LANGUAGE sql AS $$
				SELECT '2026-01-01 12:00:00+00'::timestamptz - make_interval(secs => nullif(seconds, 0)) $$`)
			for i, n := range neighbours {
				d := add(t, admin, n.name).Device
				if n.began != 0 {
					exec(t, conn, `INSERT INTO mooring.sessions (id, device_id, gateway, incarnation, connected_at, last_seen_at, disconnected_at)
						VALUES ($1, $2, 'a', 1, ago($3), ago($3), ago($4))`, 100+i, d.ID, n.began, n.ended)
				}
			}
			exec(t, conn, `INSERT INTO mooring.sessions (id, device_id, gateway, incarnation, connected_at, last_seen_at)
				VALUES (10, $1, 'a', 1, now() - interval '4 s', now())`, other.ID)
			values := make([]string, len(neighbours))
			for i, n := range neighbours {
				values[i] = valueList(t, conn, 1000+i, n.name, n.begins)
			}
			exec(t, conn, `INSERT INTO mooring.sessions (id, device_id, gateway, incarnation, connected_at, last_seen_at)
				SELECT id, device, 'b', 2, connected, connected FROM (VALUES `+strings.Join(values, ", ")+odd+`) AS v (id, device, connected)`)

			requireOrder(t, conn)
			for i, n := range neighbours {
				require.True(t, scan[bool](t, conn, `SELECT connected_at = ago($2) AND replaced_at IS NULL AND disconnected_at IS NULL
					FROM mooring.sessions WHERE id = $1`, 1000+i, n.begun), "%s: the new session", n.name)
				if n.began != 0 {
					require.True(t, scan[bool](t, conn, `SELECT connected_at = ago($2) AND disconnected_at = ago($3) AND replaced_at = ago($4)
						AND COALESCE(close_code, 0) = $5 FROM mooring.sessions WHERE id = $1`,
						100+i, n.began, n.endedThen, n.begun, n.code), "%s: the session before", n.name)
				}
			}
			require.Zero(t, scan[int](t, conn, `SELECT count(*) FROM mooring.sessions WHERE connected_at > now()`))
		})
	}
}

// valueList is a row of the statement that opens the sessions.
func valueList(t *testing.T, conn *pgx.Conn, id int, device string, begins float64) string {
	t.Helper()
	return scan[string](t, conn, `SELECT format('(%s, %s, %L::timestamptz)', $1::int, (SELECT id FROM mooring.devices WHERE name = $2), ago($3))`, id, device, begins)
}

// The end of the session before is on its way, in a transaction of its server,
// when the next one is opened: it counts all the same.
func TestAnOpeningWaitsForTheEndOfTheSessionBefore(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, conn, other := openAdmin(t, url), sql(t, url), sql(t, url)
	d := add(t, admin, "a").Device
	exec(t, conn, `INSERT INTO mooring.sessions (id, device_id, gateway, incarnation, connected_at, last_seen_at)
		VALUES (1, $1, 'a', 1, '2026-01-01 12:00:00Z', now())`, d.ID)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `UPDATE mooring.sessions SET disconnected_at = '2026-01-01 12:00:05Z', close_code = 1006 WHERE id = 1`)
	require.NoError(t, err)

	opened := make(chan error, 1)
	go func() {
		_, err := other.Exec(t.Context(), `INSERT INTO mooring.sessions (id, device_id, gateway, incarnation, connected_at, last_seen_at)
			VALUES (2, $1, 'b', 2, '2026-01-01 12:00:03Z', now())`, d.ID)
		opened <- err
	}()
	watching := sql(t, url)
	eventually(t, func() bool {
		return scan[int](t, watching, `SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted`, other.PgConn().PID()) == 1
	}, "the opening waits for the row of the session before")
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-opened)
	requireOrder(t, conn)
	require.True(t, scan[bool](t, conn, `SELECT a.disconnected_at = '2026-01-01 12:00:05Z' AND a.replaced_at = a.disconnected_at AND b.connected_at = a.disconnected_at AND a.close_code = 1006
		FROM mooring.sessions a, mooring.sessions b WHERE a.id = 1 AND b.id = 2`))
}

// A server whose clock is ahead opens sessions at the database's time.
func TestASessionDoesNotBeginInTheFuture(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, r, conn := openAdmin(t, url), openRegistry(t, url, nil), sql(t, url)
	start := startOf(add(t, admin, "a").Device)
	start.Connected = start.Connected.Add(time.Hour)
	info, err := r.OpenSession(t.Context(), start)
	require.NoError(t, err)
	require.True(t, scan[bool](t, conn, `SELECT connected_at BETWEEN now() - interval '10 min' AND now() FROM mooring.sessions WHERE id = $1`, info.Session))
}
