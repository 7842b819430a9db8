package storage

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

// writeHinted writes a batch of which devices are said to be sending again.
func (f *fixture) writeHinted(tb testing.TB, b *batch, resent ...int32) Outcome {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 60*time.Second)
	defer cancel()
	outcome, err := f.Write(ctx, 0, b.rows, b.count, resent)
	require.NoError(tb, err)
	return outcome
}

// paths tells how many batches took each way.
func (f *fixture) paths(tb testing.TB) map[string]int {
	tb.Helper()
	taken := make(map[string]int)
	for _, path := range []string{pathCopy, pathLookUp, pathConflict} {
		if n := int(counted(tb, f.metrics.batches.WithLabelValues(path))); n > 0 {
			taken[path] = n
		}
	}
	return taken
}

// A device that is said to be sending again and sends new rows.
func TestRowsSaidToBeResentAreNew(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	b.series(f.devices[0], f.numbers, 0, 100)
	b.series(f.devices[1], f.numbers, 0, 100)
	require.Empty(t, f.writeHinted(t, &b, f.devices[0], f.devices[2]))
	require.Equal(t, 200, f.stored(t))
	require.Equal(t, map[string]int{pathLookUp: 1}, f.paths(t))
	require.Zero(t, f.writers[0].wary, "nothing was found, nobody need be wary")
}

// A hint that is right spares the batch a COPY that fails.
func TestRowsSaidToBeResentAreStored(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var first, second batch
	first.series(f.devices[0], f.numbers, 0, 100)
	f.write(t, &first)
	second.series(f.devices[1], f.numbers, 0, 50)
	second.series(f.devices[0], f.numbers, 90, 20)
	require.Equal(t, Outcome{Duplicates: map[int32]int{f.devices[0]: 10}}, f.writeHinted(t, &second, f.devices[0]))
	require.Equal(t, 160, f.stored(t))
	require.Equal(t, map[string]int{pathCopy: 1, pathLookUp: 1}, f.paths(t))
	require.Zero(t, f.writers[0].wary, "no COPY has failed")
}

// Without a hint the first COPY fails, and then it is known; batches that
// follow are looked up first, until there were no duplicates for a while.
func TestDuplicatesThatNobodySaid(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var first batch
	first.series(f.devices[0], f.numbers, 0, 1000)
	f.write(t, &first)
	for round := range 3 {
		var b batch
		b.series(f.devices[1], f.numbers, uint64(round*100), 100)
		b.series(f.devices[0], f.numbers, uint64(round*100), 10)
		require.Equal(t, map[int32]int{f.devices[0]: 10}, f.write(t, &b).Duplicates)
	}
	require.Equal(t, map[string]int{pathCopy: 1, pathLookUp: 3}, f.paths(t))
	require.Equal(t, 1, one[int](t, f.url, "SELECT count(DISTINCT xmin::text) FROM mooring.samples WHERE device_id = $1", f.devices[0]))
	for round := range waryBatches + 2 {
		var b batch
		b.series(f.devices[2], f.numbers, uint64(round), 1)
		require.Empty(t, f.write(t, &b))
	}
	require.Equal(t, map[string]int{pathCopy: 3, pathLookUp: 3 + waryBatches}, f.paths(t))
	require.Equal(t, 1000+300+waryBatches+2, f.stored(t))
}

// Rows that are twice in a batch, with one of a device that is said to resend
// and one of another: the last way takes them.
func TestTwiceInOneBatchAndStored(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var first, b batch
	first.series(f.devices[0], f.numbers, 0, 10)
	first.series(f.devices[1], f.numbers, 0, 10)
	f.write(t, &first)
	b.series(f.devices[0], f.numbers, 5, 10) // five stored
	b.series(f.devices[1], f.numbers, 5, 10) // five stored, nobody said so
	b.series(f.devices[2], f.numbers, 0, 10) // new
	b.series(f.devices[2], f.numbers, 5, 10) // five of them twice
	require.Equal(t, Outcome{Duplicates: map[int32]int{f.devices[0]: 5, f.devices[1]: 5, f.devices[2]: 5}},
		f.writeHinted(t, &b, f.devices[0]))
	require.Equal(t, 20+5+5+15, f.stored(t))
	require.Equal(t, map[string]int{pathCopy: 1, pathConflict: 1}, f.paths(t))
}

// Everything at once: resent rows that are stored and that are new, duplicates
// that nobody said, poison rows, and times without a partition.
func TestEverythingInOneBatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	day := int64(24 * time.Hour / time.Microsecond)
	var first, b batch
	for _, device := range f.devices {
		first.series(device, f.numbers, 0, 100)
	}
	f.write(t, &first)
	b.series(f.devices[2], f.numbers, 100, 50)                                               // new
	b.series(f.devices[0], f.numbers, 80, 40)                                                // said: 20 stored, 20 new
	b.add(f.devices[0], f.mixed, 1000, base+7, number(1), boolean(true), text("nul \x00"))   // poison of a device that resends
	b.series(f.devices[1], f.numbers, 95, 10)                                                // not said: 5 stored, 5 new
	b.add(f.devices[2], f.mixed, 1001, base+8, number(1), boolean(true), text("\xff"))       // poison of another
	b.add(f.devices[2], f.numbers, 1002, base-400*day, number(1))                            // no partition
	b.add(f.devices[0], f.numbers, 1003, base-300*day, number(1))                            // no partition, resent
	b.add(f.devices[1], f.mixed, 1004, base-200*day, number(1), boolean(true), text("\x00")) // no partition, and poison
	outcome := f.writeHinted(t, &b, f.devices[0])
	require.Equal(t, map[int32]int{f.devices[0]: 20, f.devices[1]: 5}, outcome.Duplicates)
	require.ElementsMatch(t, []RejectedRow{
		{Device: f.devices[0], Seq: 1000, Time: base + 7},
		{Device: f.devices[2], Seq: 1001, Time: base + 8},
		{Device: f.devices[1], Seq: 1004, Time: base - 200*day},
	}, outcome.Rejected)
	require.Equal(t, 300+50+20+5+2, f.stored(t))
	require.Equal(t, 3, one[int](t, f.url, "SELECT count(*) FROM mooring.rejects"))

	again := f.writeHinted(t, &b) // the same once more, by a device that lost the answer
	require.Equal(t, map[int32]int{f.devices[0]: 41, f.devices[1]: 10, f.devices[2]: 51}, again.Duplicates)
	require.Len(t, again.Rejected, 3)
	require.Equal(t, 377, f.stored(t))
}

// The answer to the commit of what was left after the look-up is lost.
func TestAnswerToCommitIsLostAmongDuplicates(t *testing.T) {
	t.Parallel()
	for name, hinted := range map[string]bool{"said": true, "not said": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cutter, address := newCutter(t, pgtest.URL(t))
			f := newFixture(t, address)
			var first, b batch
			first.series(f.devices[0], f.numbers, 0, 100)
			f.write(t, &first)
			b.series(f.devices[0], f.numbers, 50, 100)
			b.series(f.devices[1], f.numbers, 0, 100)
			var resent []int32
			if hinted {
				resent = []int32{f.devices[0]}
			}
			cutter.armed.Store(1)
			outcome := f.writeHinted(t, &b, resent...)
			require.LessOrEqual(t, cutter.armed.Load(), int32(0), "the answer was lost")
			require.Empty(t, outcome.Rejected)
			require.Equal(t, map[int32]int{f.devices[0]: 50}, outcome.Duplicates, "the books know which were stored before")
			require.Equal(t, booked{150, 50}, f.booked(t, f.devices[0]))
			require.Equal(t, booked{100, 0}, f.booked(t, f.devices[1]))
			require.Equal(t, 250, f.stored(t))
		})
	}
}

// A row of a batch that is on its way over another connection is not seen by
// the look-up, and stored once all the same.
func TestRowsComeToBeStoredMeanwhile(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	b.series(f.devices[0], f.numbers, 0, 100)
	other := connect(t, f.url)
	transaction, err := other.Begin(t.Context())
	require.NoError(t, err)
	_, err = transaction.Exec(t.Context(), `INSERT INTO mooring.samples (ts, seq, device_id, layout_id, vals)
		VALUES (to_timestamp($1::float8 / 1e6), 3, $2, $3, '{1,2,3,4,5}')`, base+3000, f.devices[0], f.numbers)
	require.NoError(t, err)
	written := make(chan Outcome, 1)
	go func() { written <- f.writeHinted(t, &b, f.devices[0]) }()
	require.Eventually(t, func() bool {
		return one[bool](t, f.url, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'transactionid')")
	}, patience, 5*time.Millisecond, "the COPY waits for the other's transaction")
	require.NoError(t, transaction.Commit(t.Context()))
	require.Equal(t, Outcome{Duplicates: map[int32]int{f.devices[0]: 1}}, <-written)
	require.Equal(t, 100, f.stored(t))
}

// Two rows of a device may span a time in which very much is stored; the answer
// is not read to its end.
func TestMuchIsStoredInTheTimeOfABatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var much, b batch
	much.series(f.devices[0], f.numbers, 1, 3000)
	f.write(t, &much)
	b.series(f.devices[0], f.numbers, 0, 1)
	b.series(f.devices[0], f.numbers, 3000, 2)
	require.Equal(t, Outcome{Duplicates: map[int32]int{f.devices[0]: 1}}, f.writeHinted(t, &b, f.devices[0]))
	require.Equal(t, 3002, f.stored(t))
	require.Equal(t, map[string]int{pathCopy: 1, pathConflict: 1}, f.paths(t))
}

// What was left out has been checked by nobody: its values must not reach
// latest, where an unfit text would hold up those of other devices.
func TestValuesOfKnownRowsAreNotLatest(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var first, b batch
	first.add(f.devices[0], f.mixed, 1, base, number(21.5), boolean(true), text("good"))
	f.write(t, &first)
	b.add(f.devices[0], f.mixed, 1, base, number(99), boolean(false), text("nul \x00"))
	b.add(f.devices[1], f.mixed, 1, base, number(3), boolean(true), text("good too"))
	require.Equal(t, Outcome{Duplicates: map[int32]int{f.devices[0]: 1}}, f.writeHinted(t, &b, f.devices[0]))
	require.NoError(t, f.tracker.settle(t.Context(), f.pool, time.Now(), true))
	require.InDelta(t, 21.5, one[float64](t, f.url, "SELECT value FROM mooring.latest WHERE device = 'dev-1' AND metric = 'temperature'"), 0)
	require.Equal(t, "good too", one[string](t, f.url, "SELECT text FROM mooring.latest WHERE device = 'dev-2' AND metric = 'state'"))
}

// The first moment of Postgres' own count is a time as good as any.
func TestRowOfTheYear2000(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	zero := int64(postgresEpoch)
	var first, b batch
	first.add(f.devices[0], f.numbers, 1, zero+1, number(1))
	f.write(t, &first)
	b.add(f.devices[0], f.numbers, 0, zero, number(1))
	b.add(f.devices[0], f.numbers, 1, zero+1, number(1))
	require.Equal(t, Outcome{Duplicates: map[int32]int{f.devices[0]: 1}}, f.writeHinted(t, &b, f.devices[0]))
	require.Equal(t, 2, f.stored(t))
}

// An arrangement holds every row once, devices rising, those of one device as
// they came, and its runs say what is in them.
func TestArrangement(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	var a arrangement
	for range 200 {
		var b batch
		var want []identity
		for seq := range uint64(random.IntN(60)) {
			device, layout := int32(1+random.IntN(5)), int32(1+random.IntN(2))
			for i := range uint64(1 + random.IntN(3)) {
				b.add(device, layout, seq*10+i, base+int64(random.IntN(50)), number(1), wire.Value{})
				want = append(want, identity{device: device, seq: seq*10 + i})
			}
		}
		require.NoError(t, a.arrange(b.rows, b.count))
		slices.SortStableFunc(want, func(x, y identity) int { return int(x.device - y.device) })
		require.Equal(t, want, identities(t, a.pieces()))

		known := &storedRows{devices: make(map[int32]bool), rows: make(map[identity]bool)}
		var kept []identity
		for rest := b.rows; len(rest) > 0; {
			row, after, err := firstRow(rest)
			require.NoError(t, err)
			if rest = after; random.IntN(3) == 0 && row.device() != 2 {
				known.devices[row.device()] = true
				known.rows[identity{row.device(), uint64(row.time() - postgresEpoch), row.seq()}] = true
			}
		}
		left := a.leaveOut(known)
		for _, id := range want {
			if !slices.ContainsFunc(keysOf(known.rows), func(k identity) bool { return k.device == id.device && k.seq == id.seq }) {
				kept = append(kept, id)
			} else {
				left[id.device]--
			}
		}
		for device, n := range left {
			require.Zero(t, n, device)
		}
		require.Equal(t, kept, identities(t, a.pieces()))
		total := 0
		for i := range a.runs {
			r := &a.runs[i]
			total += r.count
			for _, s := range r.stretches {
				require.Equal(t, r.pair, s.pair)
				rest := s.rows
				for range s.count {
					row, after, err := firstRow(rest)
					require.NoError(t, err)
					rest = after
					require.Equal(t, r.pair, pair{row.device(), row.layout()})
					require.LessOrEqual(t, r.oldest, row.time())
					require.GreaterOrEqual(t, r.newest, row.time())
				}
				require.Empty(t, rest)
			}
			require.Equal(t, r.newest, r.last.time())
		}
		require.Len(t, kept, total)
		a.release()
	}
}

func keysOf(m map[identity]bool) (keys []identity) {
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

// identities reads what is to be sent; without times.
func identities(t *testing.T, pieces [][]byte) (list []identity) {
	t.Helper()
	require.Equal(t, copyHeader, pieces[0])
	require.Equal(t, copyTrailer, pieces[len(pieces)-1])
	for rest := slices.Concat(pieces[1 : len(pieces)-1]...); len(rest) > 0; {
		row, after, err := firstRow(rest)
		require.NoError(t, err)
		list = append(list, identity{device: row.device(), seq: row.seq()})
		rest = after
	}
	return list
}
