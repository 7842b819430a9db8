package storage

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

// guideQueries are the queries of docs/SQL.md, by number.
func guideQueries(t *testing.T) map[string]string {
	t.Helper()
	guide, err := os.ReadFile("../docs/SQL.md")
	require.NoError(t, err)
	queries := make(map[string]string)
	for _, match := range regexp.MustCompile(`(?s)\*\*(\d+)\. .*?`+"```sql\n(.*?)```").FindAllStringSubmatch(string(guide), -1) {
		queries[match[1]] = strings.TrimSuffix(strings.TrimSpace(match[2]), ";")
	}
	return queries
}

// fillGuide makes the world that the guide speaks of.
func fillGuide(t *testing.T, f *fixture) {
	t.Helper()
	execute(t, f.url,
		`INSERT INTO mooring.devices (name, model, labels) VALUES ('boiler-7', 'B2', '{"site": "north"}'),
			('station-1', 'S', '{"site": "north"}'), ('station-2', 'S', '{"site": "south"}')`,
		`INSERT INTO mooring.gateways (name, lease_until) VALUES ('gw', now() + interval '1 hour')`,
		`INSERT INTO mooring.sessions (id, device_id, gateway, incarnation, connected_at, last_seen_at, disconnected_at, close_code, reason, rows_committed)
			SELECT nextval('mooring.session_number'), d.id, 'gw', g.incarnation, now() - interval '2 hours', now() - interval '1 hour', now() - interval '1 hour', 4002, 'silent for 46 s', 10
			FROM mooring.devices d, mooring.gateways g WHERE d.name LIKE 'station%'`,
		`INSERT INTO mooring.sessions (id, device_id, gateway, incarnation, connected_at, last_seen_at)
			SELECT nextval('mooring.session_number'), d.id, 'gw', g.incarnation, now() - interval '3 hours', now()
			FROM mooring.devices d, mooring.gateways g WHERE d.name = 'boiler-7'`)
	device := func(name string) int32 {
		return one[int32](t, f.url, "SELECT id FROM mooring.devices WHERE name = $1", name)
	}
	boiler := device("boiler-7")
	layout, err := f.ResolveLayout(t.Context(), boiler, &mixedLayout)
	require.NoError(t, err)
	env := wire.Layout{Name: "env", Channels: []wire.Channel{{Name: "temperature", Unit: "°C"}, {Name: "humidity", Unit: "%"}, {Name: "rain"}}}
	envID, err := f.ResolveLayout(t.Context(), device("station-1"), &env)
	require.NoError(t, err)
	stations := []int32{device("station-1"), device("station-2")}
	now := time.Now().UnixMicro()
	minute := int64(time.Minute / time.Microsecond)
	var b batch
	for back := int64(25 * 60); back >= 0; back-- {
		seq := uint64(25*60 - back)
		if seq >= 1000 {
			seq -= 900 // a reboot
		}
		if back%600 == 7 {
			continue // gaps
		}
		b.add(boiler, layout, seq, now-back*minute, number(20+float64(back%7)), boolean(back%3 == 0), text([]string{"idle", "heating"}[back/30%2]))
		for _, station := range stations {
			rain := wire.Value{}
			if back == 20*60 {
				rain = number(1)
			}
			b.add(station, envID, uint64(25*60-back), now-back*minute, number(15+float64(back%5)), number(60-float64(back%5)), rain)
		}
	}
	require.Empty(t, f.write(t, &b))
	f.RecordRejects(boiler, []wire.Reject{
		{Seq: 1500 - 607, N: 1, Channel: wire.WholeRow, Code: wire.CodeMalformed}, {Seq: 12, N: 3, Channel: 0, Code: wire.CodeNotFinite},
	}, &mixedLayout, []byte{0x93, 3})
	f.view(t, "boiler", 1)
	f.view(t, "env", 2)
	require.Eventually(t, func() bool { return one[int](t, f.url, "SELECT count(*) FROM mooring.rejects") == 2 }, time.Minute, 10*time.Millisecond)
}

func TestGuideQueries(t *testing.T) {
	url := pgtest.URL(t)
	f := newFixture(t, url)
	fillGuide(t, f)
	queries := guideQueries(t)
	require.Len(t, queries, 24)
	reader, err := OpenReader(t.Context(), pgtest.ReaderURL(t, url))
	require.NoError(t, err)
	defer reader.Close()

	// What a query must give: the number of rows, and something of their text.
	expected := map[string]struct {
		rows     int // -1: any, but some
		contains []string
	}{
		"1":  {60, []string{"20", "26"}},
		"2":  {3, []string{"burning", "temperature", "°C"}},
		"3":  {-1, nil},
		"4":  {37, nil},
		"5":  {5, []string{"station-1", "humidity"}},
		"6":  {60, nil},
		"7":  {2, []string{"heating", "idle"}},
		"8":  {-1, []string{"33.3"}},
		"9":  {20, []string{"boiler-7"}},
		"10": {60, nil},
		"11": {9, []string{"rain"}},
		"12": {0, nil},
		"13": {-1, []string{"silent for 46 s", "4002"}},
		"14": {2, []string{"north", "south"}},
		"15": {10, []string{"idle"}},
		"16": {2, []string{"-1.000"}},
		"17": {2, []string{"none"}},
		"18": {2, nil},
		"19": {2, []string{"NOT_FINITE", "send nil for no reading"}},
		"20": {-1, []string{"station-2"}},
		"21": {-1, nil},
		"22": {3, []string{"station-1", "boiler-7"}},
		"23": {-1, []string{"link", "silent for 46 s"}},
		"24": {2, []string{"silent for 46 s", "4002"}},
	}
	for name, sql := range queries {
		want, known := expected[name]
		require.True(t, known, name)
		columns, rows, err := reader.Table(t.Context(), sql)
		require.NoError(t, err, "query %s", name)
		require.NotEmpty(t, columns)
		everything := fmt.Sprint(rows)
		switch {
		case want.rows < 0:
			require.NotEmpty(t, rows, "query %s", name)
		default:
			require.InDelta(t, want.rows, len(rows), 1, "query %s: %s", name, everything) // a minute may begin in between
		}
		for _, part := range want.contains {
			require.Contains(t, everything, part, "query %s", name)
		}
	}
}
