package devices

import (
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// openTwo opens two gateways that ask about sessions only when they are told to.
func openTwo(t *testing.T, url string, log *queryLog) (here, there *Registry) {
	t.Helper()
	here = openRegistry(t, url, func(c *Config) { c.CheckEvery, c.Wait, c.tracer = time.Hour, 30*time.Second, log })
	there = openRegistry(t, url, func(c *Config) { c.Gateway, c.CheckEvery, c.Wait = "gateway-2", time.Hour, 30*time.Second })
	return here, there
}

// heardAll waits until a gateway has heard of everything that was notified before:
// notifications come in order.
func heardAll(t *testing.T, conn *pgx.Conn, r *Registry) {
	t.Helper()
	heard := metricValue(t, r.metrics.notifications.WithLabelValues("changed"))
	exec(t, conn, `SELECT pg_notify('mooring_devices', 'changed 0 0 0')`)
	eventually(t, func() bool { return metricValue(t, r.metrics.notifications.WithLabelValues("changed")) > heard }, "all heard")
}

func TestASessionThatAnotherGatewayReplacedEnds(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	log := &queryLog{}
	here, there := openTwo(t, url, log)
	heard, elsewhere := watch(here), watch(there)
	a, b := add(t, admin, "a").Device, add(t, admin, "b").Device
	old, other := openSession(t, here, a), openSession(t, here, b)

	openSession(t, there, a)
	replaced := Revocation{DeviceID: a.ID, Replaced: old}
	eventually(t, heard.has(replaced), "told")
	before := heard.count(replaced)
	eventually(t, func() bool { return heard.count(replaced) > before }, "repeated while the session is open")
	here.EndSession(endOf(old, "replaced"))
	require.Empty(t, here.book.overdue())

	// It comes back, and is not taken for the one that was replaced.
	again := openSession(t, here, a)
	heard.mu.Lock()
	defer heard.mu.Unlock()
	for _, revocation := range heard.list {
		require.Equal(t, replaced, revocation)
	}
	require.NotContains(t, []int64{old, other}, again)
	eventually(t, func() bool { return elsewhere.count(Revocation{DeviceID: a.ID, Replaced: there.book.newest(a.ID)}) > 0 },
		"and the other gateway is told in turn")
}

// A notification is a hint: everybody may notify.
func TestForgedPresenceReplacesNobody(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	log := &queryLog{}
	r := openRegistry(t, url, func(c *Config) { c.CheckEvery, c.tracer = time.Hour, log })
	heard := watch(r)
	d := add(t, admin, "a").Device
	openSession(t, r, d)
	conn := sql(t, url)
	for _, payload := range []string{"", "rubbish", "1,2,x,-1,99999999999,,", strconv.Itoa(int(d.ID)) + ",4711"} {
		exec(t, conn, `SELECT pg_notify('mooring_presence', $1)`, payload)
	}
	eventually(t, func() bool { return log.count("check sessions") > 0 }, "it is asked")
	heardAll(t, conn, r)
	require.Empty(t, r.book.overdue())
	heard.mu.Lock()
	defer heard.mu.Unlock()
	require.Empty(t, heard.list)
}

// A credential that is void is the better reason: it keeps the device away.
func TestARevokedAndReplacedSessionIsRevoked(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	r := openRegistry(t, url, func(c *Config) { c.CheckEvery = time.Hour })
	conn := sql(t, url)
	d := add(t, admin, "a").Device
	session := openSession(t, r, d)
	exec(t, conn, `UPDATE mooring.sessions SET replaced_at = now()`)
	exec(t, conn, `ALTER TABLE mooring.tokens DISABLE TRIGGER USER`)
	exec(t, conn, `UPDATE mooring.tokens SET revoked_at = now()`)
	heard := watch(r)
	r.suspectSessions(d.ID)
	eventually(t, heard.has(Revocation{DeviceID: d.ID, TokenID: d.TokenID}), "revoked")
	require.Zero(t, heard.count(Revocation{DeviceID: d.ID, Replaced: session}))
}

// News that comes while the session is being opened finds it.
func TestASessionIsReplacedWhileItOpens(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	here, there := openTwo(t, url, &queryLog{})
	heard := watch(here)
	d := add(t, admin, "a").Device

	o := &opening{start: startOf(d), done: make(chan struct{})}
	here.openings.byDevice[d.ID] = []*opening{o} // as if taken from the queue
	results, err := here.insertSessions(t.Context(), []*opening{o})
	require.NoError(t, err)
	openSession(t, there, d)
	eventually(t, func() bool {
		here.openings.mu.Lock()
		defer here.openings.mu.Unlock()
		return o.suspect
	}, "it is in the news before it is in the book")
	here.openings.finish([]*opening{o}, func(int, *opening) { here.settle(o, results[0]) })
	eventually(t, heard.has(Revocation{DeviceID: d.ID, Replaced: results[0].id}), "checked once it is open")
}

// News that nobody heard is made up for when the listener is back.
func TestADeafListenerHearsOfReplacementsAfterAll(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	here := openRegistry(t, url, func(c *Config) { c.CheckEvery = time.Hour })
	heard := watch(here)
	conn := sql(t, url)
	d := add(t, admin, "a").Device
	old := openSession(t, here, d)
	// Which notifies nobody, as if it had happened while the connection was lost.
	exec(t, conn, `UPDATE mooring.sessions SET replaced_at = now()`)
	require.Zero(t, heard.count(Revocation{DeviceID: d.ID, Replaced: old}))
	killListener(t, conn, here)
	eventually(t, heard.has(Revocation{DeviceID: d.ID, Replaced: old}), "found when it listens again")
}

// Many that come back elsewhere are asked about together, and those that come back
// here not at all.
func TestAStormOfReplacementsIsFewQuestions(t *testing.T) {
	t.Parallel()
	const devices = 3000
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	log := &queryLog{}
	here, there := openTwo(t, url, log)
	heard := watch(here)
	added, err := admin.AddMany(t.Context(), NewDevices{Prefix: "s", Count: devices})
	require.NoError(t, err)
	open := func(r *Registry) {
		batch := make([]*opening, 0, maxOpenings)
		for i, d := range added {
			batch = append(batch, &opening{start: startOf(d.Device), done: make(chan struct{})})
			if len(batch) == maxOpenings || i == len(added)-1 {
				require.True(t, r.openBatch(t.Context(), batch))
				batch = make([]*opening, 0, maxOpenings)
			}
		}
	}
	open(here)
	open(here) // each takes over from the one before
	heardAll(t, sql(t, url), here)
	require.Zero(t, log.count("check sessions"), "what it did itself is no news")

	open(there)
	eventually(t, func() bool {
		heard.mu.Lock()
		defer heard.mu.Unlock()
		told := make(map[int64]struct{})
		for _, revocation := range heard.list {
			told[revocation.Replaced] = struct{}{}
		}
		return len(told) == 2*devices
	}, "all are told, also those that this gateway replaced itself and has not ended")
	asked := log.count("check sessions")
	t.Logf("%d sessions by %d questions", 2*devices, asked)
	require.Less(t, asked, 60)
}
