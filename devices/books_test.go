package devices

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// bookRow is a row of mooring.books.
type bookRow struct {
	Received, Committed, Duplicate, Refused, Returned, Waiting, Difference, Unreported int64
}

func booksOf(t *testing.T, conn *pgx.Conn, device string) bookRow {
	t.Helper()
	rows, err := conn.Query(t.Context(), `SELECT received::int8, committed::int8, duplicate::int8, refused::int8,
		returned::int8, waiting::int8, difference::int8, unreported::int8 FROM mooring.books WHERE device = $1`, device)
	require.NoError(t, err)
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[bookRow])
	require.NoError(t, err)
	return row
}

// store says in the books what a writer would have said.
func store(t *testing.T, conn *pgx.Conn, device int32, rows, committed int) {
	t.Helper()
	_, err := conn.Exec(t.Context(), `INSERT INTO mooring.batches (owner, number, devices, rows, committed)
		SELECT 1, count(*), ARRAY[$1::int4], ARRAY[$2::int4], ARRAY[$3::int4] FROM mooring.batches`, device, rows, committed)
	require.NoError(t, err)
}

// The books balance at every moment of a session's life, whichever of the two
// parties that count has written already; and say so when they don't.
func TestBooks(t *testing.T) {
	t.Parallel()
	type step struct {
		name string
		do   func(t *testing.T, r *Registry, conn *pgx.Conn, d Device, session int64)
		want bookRow
	}
	report := func(in, committed, waiting uint64) func(*testing.T, *Registry, *pgx.Conn, Device, int64) {
		return func(t *testing.T, r *Registry, _ *pgx.Conn, _ Device, session int64) {
			t.Helper()
			r.Progress(SessionProgress{Session: session, Counts: SessionCounts{RowsIn: in, RowsCommitted: committed, RowsWaiting: waiting}})
			require.NoError(t, r.flush(t.Context(), true))
		}
	}
	end := func(incomplete bool, counts SessionCounts) func(*testing.T, *Registry, *pgx.Conn, Device, int64) {
		return func(t *testing.T, r *Registry, _ *pgx.Conn, _ Device, session int64) {
			t.Helper()
			r.EndSession(SessionEnd{
				SessionProgress: SessionProgress{Session: session, Counts: counts}, Disconnected: time.Now(), Incomplete: incomplete,
			})
			eventually(t, func() bool { open, ended := r.book.size(); return open+ended == 0 }, "the end is written")
		}
	}
	stored := func(rows, committed int) func(*testing.T, *Registry, *pgx.Conn, Device, int64) {
		return func(t *testing.T, _ *Registry, conn *pgx.Conn, d Device, _ int64) {
			t.Helper()
			store(t, conn, d.ID, rows, committed)
		}
	}
	die := func(t *testing.T, _ *Registry, conn *pgx.Conn, _ Device, _ int64) {
		t.Helper()
		_, err := conn.Exec(t.Context(), `UPDATE mooring.gateways SET lease_until = now() - interval '1 s'`)
		require.NoError(t, err)
		openRegistry(t, conn.Config().ConnString(), nil) // closes what the dead one left
	}
	for name, steps := range map[string][]step{
		"a quiet life": {
			{"stored", stored(100, 90), bookRow{Received: 100, Committed: 90, Duplicate: 10, Unreported: 100}},
			{
				"ended", end(false, SessionCounts{RowsIn: 105, RowsCommitted: 90, RowsDuplicate: 10, RowsRejected: 5}),
				bookRow{Received: 105, Committed: 90, Duplicate: 10, Refused: 5},
			},
			{"tidied", func(t *testing.T, r *Registry, conn *pgx.Conn, d Device, _ int64) {
				t.Helper()
				id := openSession(t, r, d)
				end(false, SessionCounts{})(t, r, conn, d, id)
				_, err := conn.Exec(t.Context(), `UPDATE mooring.sessions SET
					connected_at = connected_at - y, disconnected_at = disconnected_at - y, replaced_at = replaced_at - y FROM (VALUES (interval '1 year')) AS v (y)`)
				require.NoError(t, err)
				require.NoError(t, r.tidy(t.Context()))
				require.Equal(t, 1, scan[int](t, conn, `SELECT count(*) FROM mooring.sessions`))
			}, bookRow{Received: 105, Committed: 90, Duplicate: 10, Refused: 5}},
		},
		"rows wait": {
			{"reported", report(30, 0, 30), bookRow{Received: 30, Waiting: 30}},
			{"some stored", stored(20, 20), bookRow{Received: 30, Committed: 20, Waiting: 10, Unreported: 20}},
			{"more than was reported", stored(20, 20), bookRow{Received: 40, Committed: 40, Unreported: 40}},
			{"reported again", report(40, 40, 0), bookRow{Received: 40, Committed: 40}},
			{
				"ended with some returned", end(false, SessionCounts{RowsIn: 50, RowsCommitted: 40, RowsReturned: 10}),
				bookRow{Received: 50, Committed: 40, Returned: 10},
			},
		},
		"the server dies": {
			{"reported", report(30, 0, 30), bookRow{Received: 30, Waiting: 30}},
			{"some stored", stored(20, 20), bookRow{Received: 30, Committed: 20, Waiting: 10, Unreported: 20}},
			{"dead", die, bookRow{Received: 30, Committed: 20, Returned: 10, Unreported: 20}},
			{"its last commit", stored(50, 50), bookRow{Received: 70, Committed: 70, Unreported: 70}},
		},
		"a batch given up": {
			{"stored", stored(10, 10), bookRow{Received: 10, Committed: 10, Unreported: 10}},
			{
				"ended", end(true, SessionCounts{RowsIn: 50, RowsCommitted: 10, RowsReturned: 40}),
				bookRow{Received: 50, Committed: 10, Returned: 40},
			},
			{"stored in part", stored(15, 15), bookRow{Received: 50, Committed: 25, Returned: 25, Unreported: 15}},
		},
		"called stored and not stored": {
			{"stored", stored(90, 90), bookRow{Received: 90, Committed: 90, Unreported: 90}},
			{"ended", end(false, SessionCounts{RowsIn: 100, RowsCommitted: 100}), bookRow{Received: 100, Committed: 90, Difference: 10}},
		},
		"stored and never received": {
			{"ended", end(false, SessionCounts{RowsIn: 100, RowsCommitted: 100}), bookRow{Received: 100, Difference: 100}},
			{"stored", stored(101, 101), bookRow{Received: 100, Committed: 101, Difference: -1}},
		},
		"received and gone": {
			{"stored", stored(90, 90), bookRow{Received: 90, Committed: 90, Unreported: 90}},
			{"ended", end(false, SessionCounts{RowsIn: 100, RowsCommitted: 90}), bookRow{Received: 100, Committed: 90, Difference: 10}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			d := add(t, openAdmin(t, url), "a").Device
			conn := sql(t, url)
			r := openRegistry(t, url, func(c *Config) { c.FlushEvery, c.Lease = time.Hour, time.Hour })
			session := openSession(t, r, d)
			for _, step := range steps {
				step.do(t, r, conn, d, session)
				require.Equal(t, step.want, booksOf(t, conn, "a"), step.name)
			}
		})
	}
}
