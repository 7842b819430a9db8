package storage

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

func TestRowsAreStoredAsSent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	b.add(f.devices[0], f.mixed, 7, base, number(21.5), boolean(true), text("äöü ok"))
	b.add(f.devices[0], f.mixed, 8, base+1, wire.Value{}, boolean(false), wire.Value{})
	b.add(f.devices[0], f.mixed, 1<<53, base+2, number(math.MaxFloat64), wire.Value{}, text(""))
	outcome := f.write(t, &b)
	require.Empty(t, outcome)

	reader, err := OpenReader(t.Context(), f.url)
	require.NoError(t, err)
	defer reader.Close()
	var got []Sample
	require.NoError(t, reader.Samples(t.Context(), "dev-1", func(s Sample) error {
		got = append(got, s)
		s.Values = append([]wire.Value(nil), s.Values...)
		got[len(got)-1] = s
		return nil
	}))
	require.Len(t, got, 3)
	require.Equal(t, Sample{
		Time: base, Seq: 7, Layout: "boiler", Channels: mixedLayout.Channels,
		Values: []wire.Value{number(21.5), boolean(true), text("äöü ok")},
	}, got[0])
	require.Equal(t, []wire.Value{{}, boolean(false), {}}, got[1].Values)
	require.Equal(t, uint64(1<<53), got[2].Seq)
	require.Equal(t, wire.ValueText, got[2].Values[2].Kind, "an empty text is not no reading")
	require.Equal(t, 1, one[int](t, f.url, "SELECT count(*) FROM mooring.samples WHERE texts IS NULL"))
	require.Equal(t, 6, one[int](t, f.url, "SELECT count(*) FROM mooring.readings WHERE device = 'dev-1'"))
}

func TestPostgresTime(t *testing.T) {
	t.Parallel()
	require.Zero(t, postgresTime(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()))
	require.Equal(t, int64(1), postgresTime(time.Date(2000, 1, 1, 0, 0, 0, 1000, time.UTC).UnixMicro()))
	for _, early := range []int64{math.MinInt64, math.MinInt64 + postgresEpoch, math.MinInt64 + postgresEpoch + 1} {
		require.Equal(t, int64(math.MinInt64+1), postgresTime(early), "neither wrapped nor -infinity")
	}
}

func TestEmptyBatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	require.Empty(t, f.write(t, &batch{}))
}

func TestBatchThatIsNone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	b.series(f.devices[0], f.numbers, 0, 3)
	for name, broken := range map[string]struct {
		rows  []byte
		count int
	}{
		"cut":           {b.rows[:len(b.rows)-1], 3},
		"too few rows":  {b.rows, 4},
		"too many rows": {b.rows, 2},
		"garbage":       {[]byte("COPY me if you can, I am no row at all, not in the least so"), 1},
	} {
		_, err := f.Write(t.Context(), 0, broken.rows, broken.count, nil)
		require.ErrorIs(t, err, errBatch, name)
	}
	_, err := f.Write(t.Context(), 2, b.rows, 3, nil)
	require.ErrorContains(t, err, "no writer 2")
	require.Zero(t, f.stored(t))
}

// A retransmission in another grouping is stored once, and counted.
func TestRetransmissionInAnotherGrouping(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var first, second, third batch
	first.series(f.devices[0], f.numbers, 0, 100)
	require.Empty(t, f.write(t, &first))
	second.series(f.devices[0], f.numbers, 50, 100) // half old, half new
	second.series(f.devices[1], f.numbers, 0, 10)   // new
	require.Equal(t, Outcome{Duplicates: map[int32]int{f.devices[0]: 50}}, f.write(t, &second))
	for seq := range uint64(150) {
		third = batch{}
		third.series(f.devices[0], f.numbers, seq, 1)
		if seq%50 == 0 {
			require.Equal(t, Outcome{Duplicates: map[int32]int{f.devices[0]: 1}}, f.write(t, &third))
		}
	}
	require.Equal(t, 160, f.stored(t))
	require.Equal(t, 150, one[int](t, f.url, "SELECT count(DISTINCT (ts, seq)) FROM mooring.samples WHERE device_id = $1", f.devices[0]))
}

func TestDuplicatesInsideOneBatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	b.series(f.devices[0], f.numbers, 0, 10)
	b.series(f.devices[1], f.numbers, 0, 10)
	b.series(f.devices[0], f.numbers, 5, 10)
	require.Equal(t, Outcome{Duplicates: map[int32]int{f.devices[0]: 5}}, f.write(t, &b))
	require.Equal(t, 25, f.stored(t))
}

// Two genuine samples of one time are told apart by their sequence number.
func TestSameTimeDifferentSequence(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	b.add(f.devices[0], f.numbers, 1, base, number(1))
	b.add(f.devices[0], f.numbers, 2, base, number(2))
	b.add(f.devices[0], f.numbers, 2, base+1, number(3))
	require.Empty(t, f.write(t, &b))
	require.Equal(t, 3, f.stored(t))
}

// One row that Postgres refuses holds back none of the ten thousand others.
func TestPoisonRowAmongTenThousand(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	b.series(f.devices[0], f.numbers, 0, 6_000)
	b.add(f.devices[1], f.mixed, 77, base+5, number(1), boolean(true), text("nul \x00 inside"))
	b.series(f.devices[0], f.numbers, 6_000, 4_000)
	outcome := f.write(t, &b)
	require.Equal(t, Outcome{Rejected: []RejectedRow{{Device: f.devices[1], Seq: 77, Time: base + 5}}}, outcome)
	require.Equal(t, 10_000, f.stored(t))

	reader, err := OpenReader(t.Context(), f.url)
	require.NoError(t, err)
	defer reader.Close()
	var rejects []StoredReject
	require.NoError(t, reader.Rejects(t.Context(), "dev-2", func(r StoredReject) error {
		rejects = append(rejects, r)
		return nil
	}))
	require.Len(t, rejects, 1)
	require.Equal(t, uint64(77), rejects[0].Seq)
	require.Equal(t, uint64(1), rejects[0].N)
	require.Equal(t, "STORAGE", rejects[0].Code)
	require.Contains(t, rejects[0].Detail, "22021")
	require.NotEmpty(t, rejects[0].Raw)
}

func TestEveryKindOfPoison(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	f := newFixture(t, url)
	execute(t, url,
		"ALTER TABLE mooring.samples ADD CONSTRAINT sane CHECK (vals[1] < 1000)",
		`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not on my watch'; END $$`,
		"CREATE TRIGGER refuse BEFORE INSERT ON mooring.samples FOR EACH ROW WHEN (NEW.seq = 3) EXECUTE FUNCTION refuse()")
	device := f.devices[0]
	var b batch
	b.series(device, f.numbers, 100, 20)
	b.add(device, f.mixed, 1, base, number(1), boolean(true), text("\xff\xfe"))
	b.add(device, f.mixed, 2, base, number(5000), boolean(true), text("check"))
	b.add(device, f.mixed, 3, base, number(3), boolean(true), text("trigger"))
	b.add(device, f.mixed, 4, math.MinInt64, number(4), boolean(true), text("time"))
	b.add(device, f.mixed, 5, math.MaxInt64, number(5), boolean(true), text("time"))
	b.series(device, f.numbers, 200, 20)
	b.series(device, f.numbers, 100, 5) // and duplicates on top
	outcome := f.write(t, &b)
	refused := make(map[uint64]bool)
	for _, row := range outcome.Rejected {
		refused[row.Seq] = true
	}
	require.Equal(t, map[uint64]bool{1: true, 2: true, 3: true, 4: true, 5: true}, refused)
	require.Equal(t, map[int32]int{device: 5}, outcome.Duplicates)
	require.Equal(t, 40, f.stored(t))
	require.Equal(t, 5, one[int](t, url, "SELECT count(*) FROM mooring.rejects WHERE code = 'STORAGE' AND detail ~ 'SQLSTATE'"))
}

// Rows for a time without a partition get one.
func TestLateRows(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	day := int64(24 * time.Hour / time.Microsecond)
	b.series(f.devices[0], f.numbers, 0, 10)
	b.add(f.devices[0], f.numbers, 11, base-5*day, number(1))
	b.add(f.devices[0], f.numbers, 12, base-200*day, number(1))
	b.add(f.devices[0], f.numbers, 13, base-201*day, number(1))
	b.add(f.devices[0], f.numbers, 14, time.Date(1900, 2, 3, 4, 5, 6, 7000, time.UTC).UnixMicro(), number(1))
	require.Empty(t, f.write(t, &b))
	require.Equal(t, 14, f.stored(t))
	require.Zero(t, one[int](t, f.url, "SELECT count(*) FROM mooring.latest_pending WHERE since > until"))
}

func TestPermanentErrorWaits(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	f := newFixture(t, url)
	execute(t, url, "ALTER TABLE mooring.samples RENAME COLUMN texts TO hidden")
	var b batch
	b.series(f.devices[0], f.numbers, 0, 10)
	written := make(chan Outcome, 1)
	go func() { written <- f.write(t, &b) }()
	require.Eventually(t, func() bool { return !f.Available() }, time.Minute, 5*time.Millisecond)
	execute(t, url, "ALTER TABLE mooring.samples RENAME COLUMN hidden TO texts")
	require.Empty(t, <-written)
	require.True(t, f.Available())
	require.Equal(t, 10, f.stored(t))
}

// A backend that is terminated in the middle of a COPY costs nothing.
func TestBackendTerminated(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	f := newFixture(t, url)
	super := connect(t, pgtest.SuperuserURL(t, url))
	stop := make(chan struct{})
	killed := make(chan int, 1)
	go func() {
		n := 0
		defer func() { killed <- n }()
		for n < 8 { // then let it through
			select {
			case <-stop:
				return
			default:
			}
			var some int
			if err := super.QueryRow(context.Background(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE datname = current_database() AND application_name LIKE 'mooring writer%' AND state = 'active'`).Scan(&some); err != nil {
				return
			}
			n += some
		}
	}()
	total := 0
	for i := range 10 {
		var b batch
		b.series(f.devices[i%3], f.numbers, uint64(i*5000), 5000)
		f.write(t, &b)
		total += 5000
	}
	close(stop)
	require.Positive(t, <-killed)
	require.Equal(t, total, f.stored(t))
}

// Whatever is thrown at it, the table holds what a model says, and Write says
// how it got there.
func TestRandomBatchesAgainstModel(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	random := rand.New(rand.NewPCG(1, 2))
	type key struct {
		device int32
		time   int64
		seq    uint64
	}
	model := make(map[key]float64)
	for round := range 60 {
		var b batch
		wantDuplicates := make(map[int32]int)
		wantRejected := make(map[RejectedRow]int)
		for range random.IntN(200) {
			k := key{f.devices[random.IntN(3)], base + int64(random.IntN(300))*1000, uint64(random.IntN(4))}
			if random.IntN(50) == 0 {
				k.seq += 100 // what has the identity of a stored row is a duplicate
				b.add(k.device, f.mixed, k.seq, k.time, number(1), wire.Value{}, text("\x00"))
				wantRejected[RejectedRow{Device: k.device, Seq: k.seq, Time: k.time}]++
				continue
			}
			value, stored := model[k]
			if stored {
				wantDuplicates[k.device]++
			} else {
				value = float64(random.IntN(1000))
				model[k] = value
			}
			b.add(k.device, f.numbers, k.seq, k.time, number(value), number(2), wire.Value{}, number(4), number(5))
		}
		outcome := f.write(t, &b)
		gotRejected := make(map[RejectedRow]int)
		for _, row := range outcome.Rejected {
			gotRejected[row]++
		}
		require.Equal(t, wantRejected, gotRejected, round)
		if len(wantDuplicates) == 0 {
			require.Nil(t, outcome.Duplicates)
		} else {
			require.Equal(t, wantDuplicates, outcome.Duplicates, round)
		}
	}
	rows, err := connect(t, f.url).Query(t.Context(), "SELECT device_id, ts, seq, vals[1] FROM mooring.samples")
	require.NoError(t, err)
	stored := make(map[key]float64)
	var k key
	var at time.Time
	var value float64
	_, err = pgx.ForEachRow(rows, []any{&k.device, &at, &k.seq, &value}, func() error {
		k.time = at.UnixMicro()
		stored[k] = value
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, model, stored)
}

// An operator's own unique index is no reason to call a row a duplicate.
func TestRowThatAnotherUniqueIndexRefusesIsRejected(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var first, second batch
	first.add(f.devices[0], f.numbers, 1, base, number(1))
	f.write(t, &first)
	execute(t, f.url, "CREATE UNIQUE INDEX ON "+one[string](t, f.url, "SELECT tableoid::regclass::text FROM mooring.samples")+" (device_id, seq)")
	second.add(f.devices[0], f.numbers, 1, base+1, number(2))
	outcome := f.write(t, &second)
	require.Empty(t, outcome.Duplicates)
	require.Equal(t, []RejectedRow{{Device: f.devices[0], Seq: 1, Time: base + 1}}, outcome.Rejected)
	require.Equal(t, 1, f.stored(t))
}
