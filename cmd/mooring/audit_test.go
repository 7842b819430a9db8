package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/storage"
)

func TestAuditAndWhy(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	do := func(args ...string) result {
		t.Helper()
		return mooring(t, append(args, "--database-url", url)...)
	}
	reader, err := storage.OpenReader(t.Context(), url)
	require.NoError(t, err)
	defer reader.Close()
	sql := func(text string) {
		t.Helper()
		_, _, err := reader.Table(t.Context(), text)
		require.NoError(t, err)
	}
	require.Equal(t, exitDone, do("device", "add", "--count", "2", "--prefix", "pump-", "--out", t.TempDir()+"/tokens").code)
	sql(`INSERT INTO mooring.sessions (id, device_id, gateway, incarnation, connected_at, last_seen_at, disconnected_at, close_code, reason,
			booked, rows_in, rows_committed, rows_rejected, rows_returned)
		SELECT id, id, 'g', 1, now(), now(), now(), 4002, 'silent for 45 s', true, 100, 90, 7, 3 FROM mooring.devices`)
	sql(`INSERT INTO mooring.device_counts (device_id, committed) SELECT id, 90 FROM mooring.devices`)

	good := do("audit")
	require.Equal(t, exitDone, good.code, good.stderr)
	require.Regexp(t, `all devices\s+200\s+180\s+0\s+14\s+6\s+0\s+0\s`, good.stdout)
	require.Contains(t, good.stdout, "the books balance")
	counted := do("audit", "pump-1", "--recount")
	require.Equal(t, exitFailed, counted.code, "none of the ninety is stored")
	require.Contains(t, counted.stdout, "DO NOT BALANCE")

	sql(`UPDATE mooring.device_counts SET committed = 89 WHERE device_id = (SELECT min(id) FROM mooring.devices)`)
	bad := do("audit", "--json")
	require.Equal(t, exitFailed, bad.code)
	var report auditJSON
	require.NoError(t, json.Unmarshal([]byte(bad.stdout), &report))
	require.False(t, report.Balanced)
	require.EqualValues(t, 1, report.All.Difference)
	require.False(t, report.Devices[0].Balanced)
	require.True(t, report.Devices[1].Balanced)
	require.Equal(t, exitDone, do("audit", "pump-2").code)
	require.Equal(t, exitNoDevice, do("audit", "pump-3").code)

	why := do("device", "why", "pump-1")
	require.Equal(t, exitDone, why.code, why.stderr)
	require.Contains(t, why.stdout, "pump-1: offline; last closed at")
	require.Contains(t, why.stdout, "4002 HEARTBEAT: silent for 45 s\nWhat to do: ")
	var told whyJSON
	require.NoError(t, json.Unmarshal([]byte(do("device", "why", "pump-1", "--json").stdout), &told))
	require.Equal(t, "HEARTBEAT", told.Sessions[0].CodeName)
	require.NotEmpty(t, told.Advice)
	require.Equal(t, exitNoDevice, do("device", "why", "pump-3").code)
}
