package storage

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

// truth is what latest ought to say, found by reading everything.
const truth = `SELECT DISTINCT ON (device, metric) device, metric, ts, value, text, unit
	FROM mooring.readings ORDER BY device, metric, ts DESC, seq DESC`

// requireLatest compares the view with the truth, and returns the number of rows.
func (f *fixture) requireLatest(t *testing.T, when string) int {
	t.Helper()
	type line struct {
		Device, Metric string
		At             time.Time
		Value          *float64
		Text, Unit     *string
	}
	read := func(sql string) []line {
		rows, err := connect(t, f.url).Query(t.Context(), sql)
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowToStructByPos[line])
		require.NoError(t, err)
		return lines
	}
	want, got := read(truth), read("SELECT * FROM mooring.latest ORDER BY device, metric")
	require.Equal(t, want, got, when)
	return len(got)
}

// settle does at once what the bookkeeping does after half a minute, or after
// closeAfter when closing.
func (f *fixture) settle(t *testing.T, closing bool) {
	t.Helper()
	require.NoError(t, f.tracker.settle(t.Context(), f.pool, time.Now(), closing))
}

func (f *fixture) marks(t *testing.T) int {
	t.Helper()
	return one[int](t, f.url, "SELECT count(*) FROM mooring.latest_pending")
}

func TestLatestIsRightAtOnceAndAfterSettling(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	write := func(seq uint64, at int64, values ...wire.Value) {
		var b batch
		b.add(f.devices[0], f.mixed, seq, base+at, values...)
		require.Empty(t, f.write(t, &b))
	}
	write(1, 0, number(1), wire.Value{}, text("on"))
	require.Equal(t, 2, f.requireLatest(t, "first row"))
	write(2, 1000, wire.Value{}, boolean(true), wire.Value{})
	require.Equal(t, 3, f.requireLatest(t, "another channel"))
	require.Equal(t, 1, f.marks(t), "rows in order need no mark of their own")
	write(9, -1000, wire.Value{}, wire.Value{}, text("before the mark; not the newest, though"))
	write(10, -100, wire.Value{}, wire.Value{}, wire.Value{})
	f.requireLatest(t, "a row before the mark")
	require.Equal(t, 2, f.marks(t), "the second late row is in the stretch of the first")
	require.Equal(t, 1, one[int](t, f.url, "SELECT count(*) FROM mooring.latest_pending WHERE until < now() + interval '1 day'"),
		"a late row opens a stretch with an end")
	f.settle(t, true)
	require.Zero(t, f.marks(t))
	require.Equal(t, 3, f.requireLatest(t, "settled"))

	write(3, 500, wire.Value{}, wire.Value{}, text("late, and newer than what is known"))
	f.requireLatest(t, "late row")
	require.Equal(t, 1, f.marks(t))
	write(4, -5000, number(9), boolean(false), text("late, and older"))
	f.requireLatest(t, "older row")
	f.settle(t, true)
	f.requireLatest(t, "late rows settled")
	require.Zero(t, f.marks(t))

	write(5, 500, text("same time, higher number, another type of value altogether"))
	f.requireLatest(t, "same time")
}

// The process dies between commit and settling: another one finds the values,
// at once through the marks, and clears the marks up after ten minutes.
func TestLatestAfterCrash(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	b.add(f.devices[0], f.mixed, 1, base, number(1), boolean(true), text("on"))
	b.add(f.devices[0], f.mixed, 2, base+1, number(2), wire.Value{}, wire.Value{})
	b.series(f.devices[1], f.numbers, 0, 10)
	f.write(t, &b)
	f.tracker.pairs = make(map[pair]*pairState) // as if it had died
	require.Equal(t, 8, f.requireLatest(t, "after the crash"))

	require.Equal(t, 0, one[int](t, f.url, "SELECT mooring.recover_latest(100)"), "the owner may still live")
	execute(t, f.url, "UPDATE mooring.latest_pending SET marked_at = now() - interval '11 minutes'")
	require.Equal(t, 2, one[int](t, f.url, "SELECT mooring.recover_latest(100)"))
	require.Zero(t, f.marks(t))
	require.Equal(t, 8, f.requireLatest(t, "recovered"))
}

// A late row that alone has a channel's reading is not missed while the mark of
// the newer rows is there.
func TestLatestFindsLateRowBeforeMark(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	for seq, at := range []int64{1000, 2000, 500} {
		var b batch
		b.add(f.devices[0], f.mixed, uint64(seq), base+at, number(1), wire.Value{}, map[int64]wire.Value{500: text("only here")}[at])
		f.write(t, &b)
	}
	require.Equal(t, 2, f.requireLatest(t, "before settling"))
}

// Rows of random age, over two gateways, with settling at random times: the
// view never misses one.
func TestLatestAgainstTruth(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	gateways := []*fixture{newFixture(t, url), newFixture(t, url)}
	random := rand.New(rand.NewPCG(3, 4))
	value := func(v wire.Value) wire.Value {
		if random.IntN(4) == 0 {
			return v
		}
		return wire.Value{}
	}
	at := base
	for round := range 150 {
		f := gateways[random.IntN(2)]
		var b batch
		for range 1 + random.IntN(5) {
			at += 1000
			when := at
			if random.IntN(3) == 0 {
				when -= int64(random.IntN(200_000))
			}
			device := f.devices[random.IntN(3)]
			b.add(device, f.mixed, uint64(round), when,
				value(number(float64(round))), value(boolean(random.IntN(2) == 0)), value(text("state")))
			if random.IntN(4) == 0 {
				b.add(device, f.numbers, uint64(round), when+1, value(number(1)), value(number(2)))
			}
		}
		f.write(t, &b)
		if random.IntN(6) == 0 {
			f.settle(t, random.IntN(2) == 0)
		}
		if round%10 == 0 {
			f.requireLatest(t, "in between")
		}
	}
	gateways[0].settle(t, true)
	gateways[0].requireLatest(t, "one gateway settled")
	gateways[1].settle(t, true)
	gateways[0].requireLatest(t, "both settled")
	require.Zero(t, gateways[0].marks(t))
}

// A pair that keeps sending keeps one mark, which moves on.
func TestMarksMoveOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	for i := range 5 {
		var b batch
		b.series(f.devices[0], f.numbers, uint64(i*100), 100)
		f.write(t, &b)
		require.NoError(t, f.tracker.settle(t.Context(), f.pool, time.Now().Add(settleEvery), false))
		require.Equal(t, 1, f.marks(t))
	}
	require.Equal(t, time.UnixMicro(base+499_000).UTC(),
		one[time.Time](t, f.url, "SELECT since FROM mooring.latest_pending").UTC())
	require.NoError(t, f.tracker.settle(t.Context(), f.pool, time.Now().Add(closeAfter), false))
	require.Zero(t, f.marks(t))
	f.requireLatest(t, "closed")
	require.NoError(t, f.tracker.settle(t.Context(), f.pool, time.Now().Add(forgetAfter), false))
	require.Empty(t, f.tracker.pairs, "what is silent for long leaves memory")
}

// When settling fails, nothing is forgotten.
func TestSettlingFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	b.add(f.devices[0], f.mixed, 1, base, number(1), boolean(true), text("on"))
	f.write(t, &b)
	execute(t, f.url, "ALTER TABLE mooring.device_layouts RENAME TO gone")
	require.Error(t, f.tracker.settle(t.Context(), f.pool, time.Now(), true))
	execute(t, f.url, "ALTER TABLE mooring.gone RENAME TO device_layouts")
	b = batch{}
	b.add(f.devices[0], f.mixed, 2, base+1, number(2), wire.Value{}, wire.Value{})
	f.write(t, &b)
	f.settle(t, true)
	require.Zero(t, f.marks(t))
	require.Equal(t, 3, f.requireLatest(t, "settled at the second try"))
}
