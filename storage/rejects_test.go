package storage

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

func TestRejectsAreRecordedInWords(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	frame := make([]byte, 1000)
	frame[0] = 0x96
	f.RecordRejects(f.devices[0], []wire.Reject{
		{Seq: 5, N: 2, Channel: 0, Code: wire.CodeNotFinite},
		{Seq: 9, N: 1, Channel: wire.WholeRow, Code: wire.CodeTimePast},
		{Seq: 10, N: 1, Channel: 77, Code: wire.CodeType},
	}, &mixedLayout, frame)
	f.RecordRejects(f.devices[0], []wire.Reject{{Seq: 11, N: 4, Channel: wire.WholeRow, Code: wire.CodeUnknownLayout}}, nil, nil)

	reader, err := OpenReader(t.Context(), f.url)
	require.NoError(t, err)
	defer reader.Close()
	var got []StoredReject
	require.Eventually(t, func() bool {
		got = nil
		err := reader.Rejects(t.Context(), "dev-1", func(r StoredReject) error { got = append(got, r); return nil })
		return err == nil && len(got) == 4
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, "temperature", got[0].Channel)
	require.Equal(t, "NOT_FINITE", got[0].Code)
	require.Equal(t, "channel temperature of layout boiler: NaN or infinite; send nil for no reading", got[0].Detail)
	require.Equal(t, frame[:rawBytes], got[0].Raw)
	require.Empty(t, got[1].Channel)
	require.Equal(t, uint64(9), got[1].Seq)
	require.Equal(t, "#78", got[2].Channel)
	require.Equal(t, uint64(4), got[3].N)
	require.Equal(t, 4, one[int](t, f.url, "SELECT count(*) FROM mooring.refusals WHERE device = 'dev-1'"))
}

// A device that is refused without end fills no table, and still every refusal
// is counted.
func TestRejectsAreLimitedPerDevice(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t), func(c *Config) { c.RejectsPerMinute = 10 })
	for seq := range uint64(500) {
		f.RecordRejects(f.devices[0], []wire.Reject{{Seq: seq, N: 1, Channel: wire.WholeRow, Code: wire.CodeType}}, nil, nil)
	}
	f.RecordRejects(f.devices[1], []wire.Reject{{Seq: 1, N: 1, Channel: wire.WholeRow, Code: wire.CodeType}}, nil, nil)
	require.NoError(t, f.Close(t.Context()))
	require.Equal(t, 500, one[int](t, f.url, "SELECT sum(n)::int FROM mooring.rejects WHERE device_id = $1", f.devices[0]))
	recorded := one[int](t, f.url, "SELECT count(*) FROM mooring.rejects WHERE device_id = $1", f.devices[0])
	require.LessOrEqual(t, recorded, 22, "ten and a summary, twice if a minute began in between")
	require.Equal(t, 1, one[int](t, f.url, "SELECT count(*) FROM mooring.rejects WHERE device_id = $1", f.devices[1]))
}

// What Postgres refuses is under the same limit as what the codec refuses.
func TestPoisonRowsAreLimitedPerDevice(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t), func(c *Config) { c.RejectsPerMinute = 5 })
	var b batch
	for seq := range uint64(40) {
		b.add(f.devices[0], f.mixed, seq, base+int64(seq), number(1), boolean(true), text("nul \x00"))
	}
	outcome := f.write(t, &b)
	require.Len(t, outcome.Rejected, 40, "its device is told of each")
	require.NoError(t, f.Close(t.Context()))
	require.Equal(t, 40, one[int](t, f.url, "SELECT sum(n)::int FROM mooring.rejects"))
	require.LessOrEqual(t, one[int](t, f.url, "SELECT count(*) FROM mooring.rejects"), 12, "five and a summary, twice if a minute began in between")
	require.Equal(t, "NOT_RECORDED", one[string](t, f.url, "SELECT code FROM mooring.rejects ORDER BY id DESC LIMIT 1"))
}

// A queue that is full blocks nobody.
func TestRejectQueueIsFull(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	f := newFixture(t, url, func(c *Config) { c.RejectsPerMinute = 1_000_000 })
	tx, err := connect(t, url).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK mooring.rejects")
	require.NoError(t, err)
	rejects := make([]wire.Reject, 3*rejectQueue)
	ends(t, func() bool { f.RecordRejects(f.devices[0], rejects, nil, nil); return true })
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, f.Close(t.Context()))
	recorded := one[int](t, url, "SELECT count(*) FROM mooring.rejects")
	require.GreaterOrEqual(t, recorded, rejectQueue)
	require.Less(t, recorded, 3*rejectQueue)
}
