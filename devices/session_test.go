package devices

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

func TestASessionFromBeginningToEnd(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	r := openRegistry(t, url, func(c *Config) { c.FlushEvery = 50 * time.Millisecond })
	conn := sql(t, url)
	d := add(t, admin, "a").Device
	connected := time.Now().Add(-time.Second).Truncate(time.Microsecond)
	info, err := r.OpenSession(t.Context(), SessionStart{
		Device: d, Remote: "192.0.2.7:4711", BootID: 0xfedcba98, Model: "M\x001", Firmware: "1.2\xff", Connected: connected,
	})
	require.NoError(t, err)
	require.False(t, info.HasNext)

	detail, err := admin.Show(t.Context(), "a")
	require.NoError(t, err)
	require.True(t, detail.Online)
	require.Equal(t, "M\uFFFD1", detail.Model)
	require.Equal(t, "1.2\uFFFD", detail.Last.Firmware)
	require.Equal(t, d.TokenID, detail.Last.TokenID)
	require.WithinDuration(t, connected, detail.Last.Connected, 0)
	require.Equal(t, int64(0xfedcba98), scan[int64](t, conn, `SELECT boot_id FROM mooring.sessions`))

	seen := connected.Add(500 * time.Millisecond)
	for i := range 100 {
		r.Progress(SessionProgress{
			Session: info.Session, LastSeen: seen, Next: uint64(i + 1), HasNext: true,
			Counts: SessionCounts{RowsIn: uint64(i + 1), RowsCommitted: uint64(i), RowsLost: 3},
		})
	}
	eventually(t, func() bool { return scan[int64](t, conn, `SELECT rows_in FROM mooring.sessions`) == 100 }, "progress is written")
	require.Equal(t, int64(100), scan[int64](t, conn, `SELECT next_seq FROM mooring.sessions`))

	r.EndSession(SessionEnd{
		SessionProgress: SessionProgress{
			Session: info.Session, LastSeen: seen,
			Counts: SessionCounts{RowsIn: 101, RowsCommitted: 100, RowsDuplicate: 4, RowsRejected: 5, RowsLost: 6, RowsReturned: 7},
		},
		Disconnected: seen.Add(time.Second), Code: wire.CloseHeartbeat, Reason: "silent for 45 s",
	})
	r.EndSession(endOf(info.Session, "twice"))
	r.EndSession(endOf(12345, "unknown"))
	r.Progress(SessionProgress{Session: info.Session, Counts: SessionCounts{RowsIn: 9}})
	require.InEpsilon(t, 2, metricValue(t, r.metrics.unknownSessions), 0)
	eventually(t, func() bool { _, ended := r.book.size(); return ended == 0 }, "the end is written")

	detail, err = admin.Show(t.Context(), "a")
	require.NoError(t, err)
	require.False(t, detail.Online)
	require.Equal(t, SessionCounts{101, 100, 4, 5, 6, 0, 7}, detail.Last.Counts)
	require.Equal(t, detail.Last.Counts, detail.Totals)
	require.Equal(t, int64(1), detail.Sessions)
	require.Equal(t, wire.CloseHeartbeat, detail.Last.Code)
	require.Equal(t, "silent for 45 s", detail.Last.Reason)
	require.WithinDuration(t, seen, detail.LastSeen, 0, "when it was last heard, not when that was noticed")
	require.WithinDuration(t, seen.Add(time.Second), detail.Last.Disconnected, 0)
	require.Equal(t, int64(100), scan[int64](t, conn, `SELECT next_seq FROM mooring.sessions`), "what is not said is unchanged")
	require.Empty(t, r.book.records)
	require.Empty(t, r.book.byDevice)
}

func TestTheHintIsOfTheSameBoot(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	d := add(t, admin, "a").Device
	const boot, other = 7, 8
	open := func(r *Registry, boot uint32) SessionInfo {
		start := startOf(d)
		start.BootID = boot
		info, err := r.OpenSession(t.Context(), start)
		require.NoError(t, err)
		return info
	}
	progress := func(r *Registry, session int64, next uint64) {
		r.Progress(SessionProgress{Session: session, Next: next, HasNext: true})
	}
	r := openRegistry(t, url, func(c *Config) { c.FlushEvery = time.Hour })
	first := open(r, boot)
	require.False(t, first.HasNext)
	progress(r, first.Session, 1000)
	second := open(r, boot) // a takeover, before anything was written
	require.Equal(t, SessionInfo{second.Session, 1000, true}, second)
	require.Greater(t, second.Session, first.Session)
	require.False(t, open(r, other).HasNext, "another boot")
	require.False(t, open(r, 0).HasNext, "an unknown boot")
	progress(r, second.Session, 2000)
	require.NoError(t, r.Close(t.Context()))

	again := openRegistry(t, url, nil)
	third := open(again, boot)
	require.Equal(t, SessionInfo{third.Session, 2000, true}, third)
	require.False(t, open(again, 0).HasNext)
	require.False(t, open(again, other).HasNext)
}

func TestSessionsOpenInGroupsAndInOrder(t *testing.T) {
	t.Parallel()
	const devices, rounds = 500, 4
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	log := &queryLog{}
	r := openRegistry(t, url, func(c *Config) { c.tracer, c.Wait = log, 30*time.Second })
	added, err := admin.AddMany(t.Context(), NewDevices{Prefix: "s", Count: devices})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for _, d := range added {
		wg.Go(func() {
			last := int64(0)
			for range rounds {
				info, err := r.OpenSession(t.Context(), startOf(d.Device))
				if err != nil || info.Session <= last {
					t.Errorf("%d after %d: %v", info.Session, last, err)
				}
				last = info.Session
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, log.count("open sessions"), 60)
	t.Logf("%d sessions by %d statements", devices*rounds, log.count("open sessions"))
	conn := sql(t, url)
	require.Equal(t, devices*rounds, scan[int](t, conn, `SELECT count(*) FROM mooring.sessions`))
	require.Equal(t, devices, scan[int](t, conn, openRows), "each takes over from the one before")

	// Within one statement, numbers are in the order of the calls.
	batch := make([]*opening, maxOpenings)
	for i := range batch {
		batch[i] = &opening{start: startOf(added[0].Device)}
	}
	results, err := r.insertSessions(t.Context(), batch)
	require.NoError(t, err)
	for i := range results[1:] {
		require.Greater(t, results[i+1].id, results[i].id)
	}
}

func TestAGoneDeviceFailsNoOthersOpening(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, r := openAdmin(t, url), openRegistry(t, url, nil)
	d := add(t, admin, "a").Device
	batch := []*opening{
		{start: startOf(Device{ID: 4711}), done: make(chan struct{})},
		{start: startOf(d), done: make(chan struct{})},
		{start: startOf(Device{ID: d.ID, TokenID: 4711}), done: make(chan struct{})},
	}
	require.True(t, r.openBatch(t.Context(), batch))
	require.ErrorIs(t, batch[0].err, ErrUnauthenticated)
	require.NoError(t, batch[1].err)
	require.ErrorIs(t, batch[2].err, ErrUnauthenticated, "a token that is not the device's")
}

func TestADeviceThatIsRemovedWhileOthersOpen(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, r, conn := openAdmin(t, url), openRegistry(t, url, nil), sql(t, url)
	a, b := add(t, admin, "a").Device, add(t, admin, "b").Device
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `DELETE FROM mooring.devices WHERE id = $1`, a.ID)
	require.NoError(t, err)

	batch := []*opening{{start: startOf(a), done: make(chan struct{})}, {start: startOf(b), done: make(chan struct{})}}
	done := make(chan bool)
	go func() { done <- r.openBatch(t.Context(), batch) }() // sees both, then waits for the removal
	watcher := sql(t, url)
	eventually(t, func() bool {
		return scan[bool](t, watcher, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	}, "the insertion waits")
	require.NoError(t, tx.Commit(t.Context()))
	require.True(t, <-done)
	require.ErrorIs(t, batch[0].err, ErrUnauthenticated)
	require.NoError(t, batch[1].err)
}

func TestNobodyWaitsForTheSession(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, r := openAdmin(t, url), openRegistry(t, url, nil)
	conn := sql(t, url)
	d := add(t, admin, "a").Device

	// Gone before its row was written: there is none.
	gone := &opening{start: startOf(d), done: make(chan struct{}), abandoned: true}
	q := newOpenings(5)
	require.NoError(t, q.enqueue(gone))
	require.Empty(t, q.take())
	require.Empty(t, q.byDevice)

	// Gone while it was written: it ends at once.
	late := &opening{start: startOf(d), done: make(chan struct{}), abandoned: true}
	require.True(t, r.openBatch(t.Context(), []*opening{late}))
	eventually(t, func() bool {
		return scan[bool](t, conn, `SELECT EXISTS (SELECT FROM mooring.sessions WHERE disconnected_at IS NOT NULL AND reason LIKE 'the connection was gone%')`)
	}, "its end is written")

	// The same from outside: whatever is left open has an owner.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		if info, err := r.OpenSession(ctx, startOf(d)); err == nil {
			r.EndSession(endOf(info.Session, "by its owner"))
		}
	}
	eventually(t, func() bool {
		return scan[int](t, conn, `SELECT count(*) FROM mooring.sessions WHERE disconnected_at IS NULL`) == 0
	}, "all ended")
}

func TestRowsThatNobodyKnowsOfAreClosed(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, r := openAdmin(t, url), openRegistry(t, url, nil)
	conn := sql(t, url)
	known := openSession(t, r, add(t, admin, "a").Device)
	_, err := r.insertSessions(t.Context(), []*opening{{start: startOf(add(t, admin, "b").Device)}}) // committed, but unheard
	require.NoError(t, err)
	r.closeStrays(t.Context())
	require.Equal(t, known, scan[int64](t, conn, `SELECT id FROM mooring.sessions WHERE disconnected_at IS NULL`))
}

// The newest session decides whether a device is online, whatever order its
// sessions' ends are recorded in, and on whichever gateway they were.
func TestPresenceIsRightWhenTakeoverAndDisconnectRace(t *testing.T) {
	t.Parallel()
	const devices, rounds = 40, 25
	url := pgtest.URL(t)
	admin, conn := openAdmin(t, url), sql(t, url)
	gateways := []*Registry{
		openRegistry(t, url, func(c *Config) { c.FlushEvery, c.Wait = 20*time.Millisecond, 30*time.Second }),
		openRegistry(t, url, func(c *Config) {
			c.Gateway, c.FlushEvery, c.Wait = "gateway-2", 30*time.Millisecond, 30*time.Second
		}),
	}
	added, err := admin.AddMany(t.Context(), NewDevices{Prefix: "s", Count: devices})
	require.NoError(t, err)
	online := make([]bool, devices)
	newest := make([]int64, devices)
	var wg sync.WaitGroup
	for i, d := range added {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			var ends sync.WaitGroup
			defer ends.Wait()
			var end func(reason string)
			for range rounds {
				gateway := gateways[random.IntN(2)]
				info, err := gateway.OpenSession(t.Context(), startOf(d.Device))
				if err != nil {
					t.Error(err)
					return
				}
				if info.Session <= newest[i] {
					t.Errorf("session %d opened after %d", info.Session, newest[i])
				}
				newest[i] = info.Session
				if end != nil {
					end("replaced") // races with what follows
				}
				delay := time.Duration(random.IntN(3)) * time.Millisecond
				end = func(reason string) {
					ends.Go(func() {
						<-time.After(delay)
						gateway.Progress(SessionProgress{Session: info.Session, LastSeen: time.Now(), Next: 5, HasNext: true})
						gateway.EndSession(endOf(info.Session, reason))
					})
				}
			}
			if online[i] = random.IntN(2) == 0; !online[i] {
				end("gone")
			}
		})
	}
	wg.Wait()
	for _, g := range gateways {
		eventually(t, func() bool { _, ended := g.book.size(); return ended == 0 }, "all ends are written")
	}
	for i, d := range added {
		require.Equal(t, newest[i], scan[int64](t, conn, `SELECT max(id) FROM mooring.sessions WHERE device_id = $1`, d.Device.ID))
		require.Equal(t, online[i], scan[bool](t, conn, `SELECT online FROM mooring.device_status WHERE device = $1`, d.Device.Name), d.Device.Name)
	}
	yes := true
	list, err := admin.List(t.Context(), Filter{Online: &yes, Limit: devices})
	require.NoError(t, err)
	count := 0
	for _, o := range online {
		if o {
			count++
		}
	}
	require.Len(t, list, count)
	require.Equal(t, count, scan[int](t, conn, `SELECT count(*) FROM mooring.sessions WHERE disconnected_at IS NULL`))
}

func TestCloseWritesEverything(t *testing.T) {
	t.Parallel()
	const sessions = 3 * maxFlush / 2 // more than one statement takes
	url := pgtest.URL(t)
	admin, conn := openAdmin(t, url), sql(t, url)
	r := openRegistry(t, url, func(c *Config) { c.FlushEvery, c.Wait = time.Hour, 30*time.Second })
	added, err := admin.AddMany(t.Context(), NewDevices{Prefix: "s", Count: sessions})
	require.NoError(t, err)
	ids := make([]int64, sessions)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			info, err := r.OpenSession(t.Context(), startOf(added[i].Device))
			if err != nil {
				t.Error(err)
			}
			ids[i] = info.Session
		})
	}
	wg.Wait()
	for i, id := range ids {
		r.Progress(SessionProgress{Session: id, Next: uint64(i), HasNext: true, Counts: SessionCounts{RowsIn: 1}})
		if i > 0 {
			r.EndSession(SessionEnd{SessionProgress: SessionProgress{Session: id, Counts: SessionCounts{RowsIn: 2}}, Disconnected: time.Now(), Code: wire.CloseDrain, Reason: strconv.Itoa(i)})
		}
	}
	require.NoError(t, r.Close(t.Context()))
	require.Equal(t, sessions, scan[int](t, conn, `SELECT count(*) FROM mooring.sessions WHERE disconnected_at IS NOT NULL AND next_seq IS NOT NULL`))
	require.Equal(t, 2*sessions-1, scan[int](t, conn, `SELECT sum(rows_in) FROM mooring.sessions`))
	require.Equal(t, "the server stopped", scan[string](t, conn, `SELECT reason FROM mooring.sessions WHERE id = $1 AND disconnected_at > last_seen_at`, ids[0]))
	require.Equal(t, "stopped", scan[string](t, conn, `SELECT end_reason FROM mooring.gateways`))
}

func TestCloseSaysWhatItCouldNotWrite(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t)
	admin := openAdmin(t, cluster.URL())
	r := openRegistry(t, cluster.URL(), nil)
	session := openSession(t, r, add(t, admin, "a").Device)
	// Frozen, not killed: a backend outlives the main process by a moment, in
	// which it may well write the end.
	cluster.Pause(t)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	began := time.Now()
	require.ErrorContains(t, r.Close(ctx), "the ends of 1 sessions are not written")
	require.Less(t, time.Since(began), 5*time.Second)
	cluster.Resume(t)

	// The next start does it.
	openRegistry(t, cluster.URL(), nil)
	require.True(t, scan[bool](t, sql(t, cluster.URL()), `SELECT disconnected_at IS NOT NULL FROM mooring.sessions WHERE id = $1`, session))
}
