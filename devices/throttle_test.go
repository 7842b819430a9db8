package devices

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// However often a device is told to slow down, its session says so once, and why
// gives the latest.
func TestWhyThrottled(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	r := openRegistry(t, url, nil)
	d := add(t, admin, "a")
	first := openSession(t, r, d.Device)
	session := openSession(t, r, d.Device)
	why := func() Why {
		t.Helper()
		why, err := admin.Why(t.Context(), "a", 5)
		require.NoError(t, err)
		return why
	}
	require.Empty(t, why().Throttles)
	at := time.Now().Truncate(time.Second)
	told := func(session int64, times uint64) {
		t.Helper()
		r.Progress(SessionProgress{Session: session, LastSeen: at, Throttle: Throttling{
			Times: times, Last: at.Add(time.Duration(times) * time.Second), MinGapMillis: 500, ForSeconds: 12,
		}})
	}
	told(first, 1)
	for times := range uint64(1000) {
		told(session, times+1)
	}
	r.Progress(SessionProgress{Session: session, LastSeen: at}) // taken before, told afterwards
	require.NoError(t, r.flush(t.Context(), true))
	got := why().Throttles
	require.Len(t, got, 2)
	require.Equal(t, session, got[0].Session)
	require.Equal(t, int64(1000), got[0].Times)
	require.WithinDuration(t, at.Add(1000*time.Second), got[0].Last, 0)
	require.Equal(t, 500*time.Millisecond, got[0].Gap)
	require.Equal(t, 12*time.Second, got[0].For)
	require.Equal(t, int64(1), got[1].Times)

	now := why()
	sentence, advice := now.Verdict()
	require.Contains(t, sentence, "told to slow down")
	require.Contains(t, sentence, "a gap of 500ms for 12s")
	require.Contains(t, advice, "mooring device quota a")
	var rows int
	require.NoError(t, sql(t, url).QueryRow(t.Context(), `SELECT count(*) FROM mooring.sessions WHERE throttles IS NOT NULL`).Scan(&rows))
	require.Equal(t, 2, rows, "not a row for each notice")
}
