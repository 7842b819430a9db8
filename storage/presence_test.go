package storage

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// session puts a session of dev-1 on record; nil ends: it is open.
func session(t *testing.T, url string, id int, began time.Time, ended *time.Time, code int, reason string) {
	t.Helper()
	_, err := connect(t, url).Exec(t.Context(), `
INSERT INTO mooring.sessions (id, device_id, gateway, incarnation, connected_at, last_seen_at, disconnected_at, close_code, reason)
SELECT $1, d.id, 'gw', (SELECT max(incarnation) FROM mooring.gateways), $2, $2, $3, nullif($4, 0), nullif($5, '') FROM mooring.devices d WHERE d.name = 'dev-1'`,
		id, began, ended, code, reason)
	require.NoError(t, err)
}

func TestUptime(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	newFixture(t, url)
	reader, err := OpenReader(t.Context(), pgtest.ReaderURL(t, url))
	require.NoError(t, err)
	defer reader.Close()
	execute(t, url, "INSERT INTO mooring.gateways (name, lease_until) VALUES ('gw', now() + interval '1 hour')")
	days, err := reader.Uptime(t.Context(), "dev-1", "", "", "UTC")
	require.NoError(t, err)
	require.Empty(t, days, "it never connected")
	days, err = reader.Uptime(t.Context(), "dev-1", "2026-03-01", "2026-03-02", "UTC")
	require.NoError(t, err)
	require.Empty(t, days, "it never connected")

	// In a zone whose clocks go forward in between: its 29 March has 23 hours.
	oslo, err := time.LoadLocation("Europe/Oslo")
	require.NoError(t, err)
	at := func(day, hour int) time.Time { return time.Date(2026, time.March, day, hour, 0, 0, 0, oslo) }
	until := func(day, hour int) *time.Time { moment := at(day, hour); return &moment }
	session(t, url, 1, at(28, 12), until(28, 18), 4002, "nothing was heard")
	session(t, url, 2, at(28, 20), until(29, 12), 4101, "a newer connection")
	session(t, url, 3, at(29, 12), until(29, 23), 0, "")
	session(t, url, 4, at(31, 0), until(31, 6), 4000, "")
	hours := func(n float64) time.Duration { return time.Duration(n * float64(time.Hour)) }
	days, err = reader.Uptime(t.Context(), "dev-1", "", "2026-04-01", "Europe/Oslo")
	require.NoError(t, err)
	require.Equal(t, []UptimeDay{
		{"2026-03-28", hours(10), hours(12), 83.333, 2, 1},
		{"2026-03-29", hours(22), hours(23), 95.652, 2, 1},
		{"2026-03-30", 0, hours(24), 0, 0, 0},
		{"2026-03-31", hours(6), hours(24), 25, 1, 1},
		{"2026-04-01", 0, hours(24), 0, 0, 0},
	}, days)
	days, err = reader.Uptime(t.Context(), "dev-1", "2026-03-29", "2026-03-29", "Europe/Oslo")
	require.NoError(t, err)
	require.Len(t, days, 1)
	require.Equal(t, hours(22), days[0].Online)
	_, err = reader.Uptime(t.Context(), "dev-1", "", "", "Middle/Earth")
	require.ErrorIs(t, err, ErrNoZone)

	// One that is open counts up to now, or until its server's lease ran out.
	session(t, url, 5, time.Now().Add(-time.Minute), nil, 0, "")
	today := func() UptimeDay {
		days, err := reader.Uptime(t.Context(), "dev-1", "", "", "UTC")
		require.NoError(t, err)
		return days[len(days)-1]
	}
	require.Zero(t, today().Losses)
	execute(t, url, "UPDATE mooring.gateways SET lease_until = now() - interval '30 s'")
	require.LessOrEqual(t, today().Online, 31*time.Second)
	require.Equal(t, int64(1), today().Losses)
}

// A gap in the link, and gaps in the data: nothing sent, rows given up, rows
// refused; and an absence of which the readings came later.
func TestInterruptions(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	f := newFixture(t, url)
	reader, err := OpenReader(t.Context(), pgtest.ReaderURL(t, url))
	require.NoError(t, err)
	defer reader.Close()
	start := time.UnixMicro(base).AddDate(0, 0, -1) // all of it is over, whatever the hour
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	until := func(minutes int) *time.Time { moment := at(minutes); return &moment }
	execute(t, url, "INSERT INTO mooring.gateways (name, lease_until) VALUES ('gw', now() + interval '1 hour')")
	session(t, url, 1, at(0), until(60), 4002, "nothing was heard")
	session(t, url, 2, at(80), until(100), 1001, "closed by the device")
	session(t, url, 3, at(120), until(120), 4101, "a newer connection")
	session(t, url, 4, at(120), until(240), 4000, "the server restarts")
	seq := uint64(0)
	var b batch
	rows := func(from, to int) { // one a minute, from included
		for minute := from; minute < to; minute++ {
			b.add(f.devices[0], f.numbers, seq, at(minute).UnixMicro(), number(1))
			seq++
		}
	}
	rows(0, 30)
	rows(45, 95) // silent for 15 minutes; the absence from 60 to 80 is made up for
	seq += 25
	rows(120, 150) // 25 rows are lost: from 95 to 120, in which it was away
	seq += 3
	rows(153, 200) // 3 are refused
	f.write(t, &b)
	execute(t, url, `INSERT INTO mooring.rejects (device_id, seq, n, code, detail)
		SELECT d.id, 30 + 50 + 25 + 30, 3, 'MALFORMED', '' FROM mooring.devices d WHERE d.name = 'dev-1'`)

	list, err := reader.Interruptions(t.Context(), "dev-1", at(-100), at(230), 5*time.Minute)
	require.NoError(t, err)
	type found struct {
		kind             string
		began, lasted    int
		samples, missing int64
		reason           string
	}
	var got []found
	for _, i := range list {
		got = append(got, found{i.Kind, int(i.Began.Sub(start).Minutes()), int(i.Lasted.Minutes()), i.Samples, i.Missing, i.Reason})
		if !i.Ended.IsZero() {
			require.Equal(t, i.Lasted, i.Ended.Sub(i.Began))
		}
	}
	require.Equal(t, []found{
		{"silent", 29, 16, 0, 0, "connected, but it sent nothing"},
		{"link", 60, 20, 19, 0, "nothing was heard"},
		{"lost", 94, 26, 0, 25, "the device gave the rows up before it could send them; it was away in that time"},
		{"link", 100, 20, 0, 0, "closed by the device"},
		{"refused", 149, 4, 0, 3, "rows were refused: the view refusals says why"},
		{"silent", 199, 31, 0, 0, "connected, but it sent nothing"},
	}, got)

	list, err = reader.Interruptions(t.Context(), "dev-1", at(200), time.Now(), time.Minute)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, "link", list[1].Kind)
	require.Equal(t, "the server restarts", list[1].Reason)
	require.Zero(t, list[1].Ended, "it is still away")
	list, err = reader.Interruptions(t.Context(), "dev-2", at(0), time.Now(), 0)
	require.NoError(t, err)
	require.Empty(t, list, "it never connected")
	columns, _, err := reader.Table(t.Context(), "SELECT * FROM interruptions CROSS JOIN uptime LIMIT 1")
	require.NoError(t, err)
	require.NotEmpty(t, columns)
}
