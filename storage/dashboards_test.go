package storage

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/deploy"
	"mooring/internal/pgtest"
)

// Grafana's macros for PostgreSQL, as its data source writes them out.
var grafanaMacro = regexp.MustCompile(`\$__(timeFilter|timeGroup|timeFrom|timeTo)\(([^()]*)\)`)

// asGrafanaSends fills in variables and macros.
func asGrafanaSends(t *testing.T, sql string, from, until time.Time, variables map[string]string) string {
	t.Helper()
	for name, value := range variables {
		sql = strings.ReplaceAll(sql, "${"+name+":sqlstring}", value)
	}
	sql = strings.ReplaceAll(sql, "$__interval", "1m")
	quoted := func(at time.Time) string { return "'" + at.UTC().Format(time.RFC3339Nano) + "'" }
	sql = grafanaMacro.ReplaceAllStringFunc(sql, func(found string) string {
		parts := grafanaMacro.FindStringSubmatch(found)
		switch arguments := strings.Split(parts[2], ", "); parts[1] {
		case "timeFilter":
			return arguments[0] + " BETWEEN " + quoted(from) + " AND " + quoted(until)
		case "timeGroup":
			require.Equal(t, "1m", arguments[1])
			return "floor(extract(epoch from " + arguments[0] + ")/60)*60"
		case "timeFrom":
			return quoted(from)
		default:
			return quoted(until)
		}
	})
	require.NotContains(t, sql, "$", "a macro or variable that this test does not know")
	return sql
}

// TestDashboardQueries runs what Grafana's dashboards ask, with the rights of
// their reader: every panel must have something to show.
func TestDashboardQueries(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	f := newFixture(t, url)
	fillGuide(t, f)
	execute(t, url,
		`INSERT INTO mooring.commands (device_id, name) SELECT id, 'identify' FROM mooring.devices`,
		`UPDATE mooring.sessions SET connected_at = now() - interval '5 minutes' WHERE disconnected_at IS NULL`,
		`INSERT INTO mooring.sessions (id, device_id, gateway, incarnation, connected_at, last_seen_at)
			SELECT nextval('mooring.session_number'), d.id, 'gw', g.incarnation, now() - interval '1 minute', now()
			FROM mooring.devices d, mooring.gateways g WHERE d.name = 'station-2'`) // whose rain gauge is quiet
	reader, err := OpenReader(t.Context(), pgtest.ReaderURL(t, url))
	require.NoError(t, err)
	defer reader.Close()
	queries, err := deploy.Queries()
	require.NoError(t, err)
	ran := 0
	for _, query := range queries {
		if query.Source != deploy.Postgres {
			continue
		}
		ran++
		sql := asGrafanaSends(t, query.Text, time.Now().Add(-24*time.Hour), time.Now().Add(time.Minute),
			map[string]string{"device": "'boiler-7'", "metric": "'temperature','burning'"})
		columns, rows, err := reader.Table(t.Context(), sql)
		require.NoError(t, err, "%s, %s: %s", query.Dashboard, query.Where, sql)
		require.NotEmpty(t, rows, "%s, %s", query.Dashboard, query.Where)
		if query.Series {
			require.Contains(t, columns, "time", "%s, %s", query.Dashboard, query.Where)
		}
	}
	require.Greater(t, ran, 15)
}
