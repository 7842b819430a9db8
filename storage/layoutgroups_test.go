package storage

import (
	"context"
	"fmt"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

// layoutNamed is a layout of one channel.
func layoutNamed(name string) *wire.Layout {
	return &wire.Layout{Name: name, Channels: []wire.Channel{{Name: "c"}}}
}

// answered is what ResolveLayout said to one caller.
type answered struct {
	id  int32
	err error
}

// inOneGroup has all ask while the transaction before theirs is held up, and
// returns what each was told.
func (f *fixture) inOneGroup(t *testing.T, asks ...func() (int32, error)) []answered {
	t.Helper()
	holder := connect(t, f.url)
	tx, err := holder.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE mooring.device_layouts")
	require.NoError(t, err)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		_, err := f.ResolveLayout(t.Context(), 1_000_000, layoutNamed("before"))
		if err != nil {
			t.Errorf("the one before: %v", err)
		}
	})
	f.awaitLock(t)
	answers := make([]answered, len(asks))
	for i, ask := range asks {
		waiting.Go(func() { answers[i].id, answers[i].err = ask() })
		// In this order, so that it shows who is refused.
		require.Eventually(t, func() bool { return len(f.layouts.queue) == i+1 }, time.Minute, time.Millisecond)
	}
	require.NoError(t, tx.Commit(t.Context()))
	waiting.Wait()
	return answers
}

// awaitLock waits until the transaction of a group stands before the lock.
func (f *fixture) awaitLock(t *testing.T) {
	t.Helper()
	conn := connect(t, f.url)
	require.Eventually(t, func() bool {
		var waits bool
		err := conn.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'mooring.device_layouts'::regclass
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`).Scan(&waits)
		return err == nil && waits
	}, time.Minute, 5*time.Millisecond)
}

// A fleet that is new costs a few transactions, not one a device.
func TestNewDevicesAreCommittedInGroups(t *testing.T) {
	t.Parallel()
	const fleet = 1500
	f := newFixture(t, pgtest.URL(t))
	var asks []func() (int32, error)
	for i := range fleet {
		asks = append(asks, func() (int32, error) { return f.ResolveLayout(t.Context(), int32(100+i), &numbersLayout) })
	}
	for i, answer := range f.inOneGroup(t, asks...) {
		require.NoError(t, answer.err, i)
		require.Equal(t, f.numbers, answer.id)
	}
	require.Equal(t, fleet, one[int](t, f.url, "SELECT count(*) FROM mooring.device_layouts WHERE device_id BETWEEN 100 AND 99999"))
	require.Equal(t, 2, one[int](t, f.url, "SELECT count(DISTINCT xmin::text) FROM mooring.device_layouts WHERE device_id BETWEEN 100 AND 99999"),
		"1,024 in the first, the rest in the second")
}

// Each of a group is told what came of its own: limits count those before it,
// and what Postgres can't store fails nobody else's.
func TestEachOfAGroupHasItsOwnOutcome(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t), func(c *Config) { c.MaxLayouts, c.MaxLayoutsPerDevice = 6, 3 })
	resolve := func(device int32, layout *wire.Layout) func() (int32, error) {
		return func() (int32, error) { return f.ResolveLayout(t.Context(), device, layout) }
	}
	f.layouts.pairs.Purge()                                        // all are asked for
	full, other, third := f.devices[0], f.devices[1], f.devices[2] // the first has two
	got := f.inOneGroup(t,
		resolve(full, layoutNamed("a")),            // its third; the fourth of all
		resolve(full, layoutNamed("b")),            // too many for this device
		resolve(other, layoutNamed("bad\x00name")), // Postgres can't
		resolve(other, layoutNamed("a")),           // another's
		resolve(other, layoutNamed("a")),           // the same device twice
		resolve(full, &numbersLayout),              // it has that
		resolve(other, &wire.Layout{Name: "c", Channels: []wire.Channel{{Name: "x\x00"}}}), // Postgres can't
		resolve(other, layoutNamed("d")),                                             // the fifth, with "before"
		resolve(third, layoutNamed("e")),                                             // the sixth
		resolve(third, layoutNamed("f")),                                             // too many of all
		resolve(third, layoutNamed("d")),                                             // that is there
		resolve(other, &wire.Layout{Name: "none"}), resolve(other, layoutNamed("e")), // too many of all; its third
		resolve(other, &mixedLayout), // too many for this device
	)
	for i, refused := range []bool{false, true, true, false, false, false, true, false, false, true, false, true, false, true} {
		if refused {
			require.ErrorIs(t, got[i].err, ErrLayoutRefused, i)
		} else {
			require.NoError(t, got[i].err, i)
			require.NotZero(t, got[i].id, i)
		}
	}
	require.ErrorIs(t, got[1].err, errDeviceFull)
	require.NotErrorIs(t, got[9].err, errDeviceFull)
	require.ErrorIs(t, got[13].err, errDeviceFull)
	require.Equal(t, got[0].id, got[3].id)
	require.Equal(t, got[3].id, got[4].id)
	require.Equal(t, f.numbers, got[5].id)
	require.Equal(t, got[7].id, got[10].id)
	require.Equal(t, "a before boiler d e env", one[string](t, f.url, "SELECT string_agg(name, ' ' ORDER BY name) FROM mooring.layouts"),
		"what is refused leaves nothing behind")
	require.Equal(t, "3 3 2", one[string](t, f.url, `SELECT string_agg(n::text, ' ' ORDER BY device_id) FROM (
		SELECT device_id, count(*) AS n FROM mooring.device_layouts WHERE device_id < 1000000 GROUP BY device_id) d`))
	require.NotEmpty(t, f.view(t, "e", 1))
	// What it was told, it is told from memory.
	unasked, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.ResolveLayout(unasked, full, layoutNamed("b"))
	require.ErrorIs(t, err, errDeviceFull)
	id, err := f.ResolveLayout(unasked, third, layoutNamed("e"))
	require.NoError(t, err)
	require.Equal(t, got[8].id, id)
}

// Two servers that store the same layouts at the same time both get their numbers.
func TestServersStoreTheSameLayoutsAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	g := newFixture(t, f.url)
	const layouts = 200
	var ids [2][layouts]int32
	var running sync.WaitGroup
	for server, store := range []*fixture{f, g} {
		for i := range layouts {
			running.Go(func() {
				n := i
				if server == 1 {
					n = layouts - 1 - i
				}
				id, err := store.ResolveLayout(t.Context(), int32(100+n), layoutNamed(fmt.Sprint("l", n)))
				if err != nil {
					t.Errorf("server %d, layout %d: %v", server, n, err)
				}
				ids[server][n] = id
			})
		}
	}
	running.Wait()
	require.Equal(t, ids[0], ids[1])
	require.Equal(t, layouts+2, one[int](t, f.url, "SELECT count(*) FROM mooring.layouts"))
	require.Equal(t, layouts, one[int](t, f.url, "SELECT count(*) FROM mooring.channels WHERE layout_id NOT IN ($1, $2)", f.mixed, f.numbers))
}

// Whoever waits leaves when its context ends, in the queue, before it, and with
// its transaction under way; nothing is asked for it then. Close frees the rest.
func TestWaitingForALayoutEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t), func(c *Config) { c.LayoutsWaiting = 1 })
	holder := connect(t, f.url)
	tx, err := holder.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE mooring.device_layouts")
	require.NoError(t, err)

	leaving, leave := context.WithCancel(t.Context())
	told := make(chan error, 3)
	ask := func(ctx context.Context, device int32) {
		go func() {
			_, err := f.ResolveLayout(ctx, device, &numbersLayout)
			told <- err
		}()
	}
	ask(leaving, 100)
	f.awaitLock(t) // under way
	ask(leaving, 101)
	require.Eventually(t, func() bool { return len(f.layouts.queue) == 1 }, time.Minute, time.Millisecond)
	ask(leaving, 102) // the queue is full
	leave()
	for range 3 {
		require.ErrorIs(t, <-told, context.Canceled)
	}
	require.Len(t, f.layouts.queue, 1, "the third never came in")
	ask(t.Context(), 103)
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-told)
	require.Equal(t, "100 103", one[string](t, f.url, `SELECT string_agg(device_id::text, ' ' ORDER BY device_id)
		FROM mooring.device_layouts WHERE device_id >= 100`), "whoever left the queue is not asked for")

	tx, err = holder.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE mooring.device_layouts")
	require.NoError(t, err)
	ask(t.Context(), 104)
	f.awaitLock(t)
	ask(t.Context(), 105)
	closing, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_ = f.Close(closing) // what it writes at the end waits for the lock
	for range 2 {
		require.Error(t, <-told)
	}
	require.NoError(t, tx.Rollback(t.Context()))
	_, err = f.ResolveLayout(t.Context(), 106, &numbersLayout)
	require.ErrorIs(t, err, errLayoutsClosed)
}

// A database that hangs is noticed, also with layouts only.
func TestLayoutsWhileTheDatabaseHangs(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t), func(c *Config) { c.AttemptTimeout = 5 * time.Second })
	holder := connect(t, f.url)
	tx, err := holder.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE mooring.device_layouts")
	require.NoError(t, err)
	_, err = f.ResolveLayout(t.Context(), 100, &numbersLayout)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, ErrLayoutRefused, "it may pass")
	require.NoError(t, tx.Commit(t.Context()))
	id, err := f.ResolveLayout(t.Context(), 100, &numbersLayout)
	require.NoError(t, err)
	require.Equal(t, f.numbers, id)
}

// The answer to the commit of a group is lost: all may ask again, get what was
// stored, and the view that nobody asked for is made.
func TestAnswerToCommitOfLayoutsIsLost(t *testing.T) {
	t.Parallel()
	cutter, address := newCutter(t, pgtest.URL(t))
	f := newFixture(t, address)
	cutter.losing.Store(regexp.MustCompile(`COMMIT\x00`))
	var running sync.WaitGroup
	for i := range 50 {
		running.Go(func() {
			layout := layoutNamed(fmt.Sprint("lost", i%5))
			if i == 0 {
				cutter.armed.Store(1)
			}
			var id int32
			var err error
			for range 20 {
				if id, err = f.ResolveLayout(t.Context(), int32(100+i), layout); err == nil {
					break
				}
				if class := classify(err); class != failureConnection {
					t.Errorf("%v", err)
				}
			}
			if err != nil || id == 0 {
				t.Errorf("%d: %v", id, err)
			}
		})
	}
	running.Wait()
	require.LessOrEqual(t, cutter.armed.Load(), int32(0), "an answer was lost")
	require.Equal(t, 5, one[int](t, f.url, "SELECT count(*) FROM mooring.layouts WHERE name LIKE 'lost%'"))
	require.Equal(t, 5, one[int](t, f.url, "SELECT count(*) FROM mooring.channels c JOIN mooring.layouts l ON l.id = c.layout_id WHERE l.name LIKE 'lost%'"))
	require.Equal(t, 50, one[int](t, f.url, "SELECT count(*) FROM mooring.device_layouts WHERE device_id >= 100"))
	for i := range 5 {
		require.NotEmpty(t, f.view(t, fmt.Sprint("lost", i), 1))
	}
}

// New devices on record, a second: as many callers at once as a server checks
// credentials for.
func BenchmarkNewDevices(b *testing.B) {
	f := newFixture(b, pgtest.URL(b))
	next := int32(1000)
	b.ResetTimer()
	devices := make(chan int32)
	var running sync.WaitGroup
	for range 256 {
		running.Go(func() {
			for device := range devices {
				if _, err := f.ResolveLayout(b.Context(), device, &numbersLayout); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for range b.N {
		devices <- next
		next++
	}
	close(devices)
	running.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "devices/s")
}
