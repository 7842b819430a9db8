package devices

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// kill ends a registry as kill -9 would: nothing is written, and its
// connections are gone.
func kill(r *Registry) {
	r.closeOnce.Do(func() {
		r.hurry()
		r.stop()
		r.running.Wait()
		r.pool.Close()
	})
}

// lockHolder is the process of Postgres that holds the lock of r's incarnation; 0: none.
func lockHolder(t *testing.T, conn *pgx.Conn, r *Registry) int {
	t.Helper()
	return scan[int](t, conn, `
SELECT COALESCE(min(pid), 0) FROM pg_locks
 WHERE locktype = 'advisory' AND classid = $1::int8::oid AND objid = $2::int8::oid
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, int64(leaseLock), int64(r.incarnation))
}

// endLease lets the time pass until the lease of a registry that was killed runs out.
func endLease(t *testing.T, conn *pgx.Conn, killed *Registry) {
	t.Helper()
	exec(t, conn, `UPDATE mooring.gateways SET lease_until = now() WHERE incarnation = $1`, killed.incarnation)
}

func killListener(t *testing.T, conn *pgx.Conn, r *Registry) {
	t.Helper()
	pid := lockHolder(t, conn, r)
	require.NotZero(t, pid)
	require.True(t, scan[bool](t, conn, `SELECT pg_terminate_backend($1, 5000)`, pid))
}

const openRows = `SELECT count(*) FROM mooring.sessions WHERE disconnected_at IS NULL`

func TestTheNextStartClosesWhatAKilledServerLeft(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, conn := openAdmin(t, url), sql(t, url)
	a, b := add(t, admin, "a").Device, add(t, admin, "b").Device
	killed := openRegistry(t, url, func(c *Config) { c.FlushEvery, c.Lease = 50*time.Millisecond, time.Hour })
	session := openSession(t, killed, a)
	seen := time.Now().Add(2 * time.Second).Truncate(time.Microsecond)
	killed.Progress(SessionProgress{Session: session, LastSeen: seen})
	eventually(t, func() bool { return scan[time.Time](t, conn, `SELECT last_seen_at FROM mooring.sessions`).Equal(seen) }, "progress")
	other := openRegistry(t, url, func(c *Config) { c.Gateway = "gateway-2" })
	openSession(t, other, b)
	kill(killed)
	eventually(t, func() bool { return lockHolder(t, conn, killed) == 0 }, "Postgres noticed the death")

	// A lease of an hour is far from over.
	openRegistry(t, url, nil)
	require.Equal(t, 1, scan[int](t, conn, openRows), "the other gateway's session is left alone")
	require.True(t, scan[bool](t, conn, `
SELECT disconnected_at = last_seen_at AND last_seen_at = $2 AND close_code IS NULL AND reason LIKE 'the server was gone%'
  FROM mooring.sessions WHERE id = $1`, session, seen))
	require.Equal(t, "a new start took over", scan[string](t, conn, `SELECT end_reason FROM mooring.gateways WHERE incarnation = $1`, killed.incarnation))
}

func TestAnyGatewayClosesWhatIsLeftWhenALeaseRunsOut(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, conn := openAdmin(t, url), sql(t, url)
	d := add(t, admin, "a").Device
	killed := openRegistry(t, url, func(c *Config) { c.Lease = time.Hour })
	other := openRegistry(t, url, func(c *Config) { c.Gateway, c.Lease = "gateway-2", time.Second })
	openSession(t, killed, d)
	kill(killed)
	looked := metricValue(t, other.metrics.queries.WithLabelValues("recover"))
	eventually(t, func() bool { return metricValue(t, other.metrics.queries.WithLabelValues("recover")) > looked+1 }, "the other one looks")
	require.Equal(t, 1, scan[int](t, conn, openRows))
	endLease(t, conn, killed)
	eventually(t, func() bool { return scan[int](t, conn, openRows) == 0 }, "after the lease")
	require.True(t, scan[bool](t, conn, `SELECT ended_at IS NOT NULL AND end_reason = 'its lease ran out' FROM mooring.gateways WHERE incarnation = $1`, killed.incarnation))
	eventually(t, func() bool { return metricValue(t, other.metrics.sessionsRecovered) == 1 }, "it is counted")
	eventually(t, func() bool { return !scan[bool](t, conn, `SELECT online FROM mooring.device_status`) }, "offline")
}

func TestTwoServersOfOneNameLeaveEachOtherAlone(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, conn := openAdmin(t, url), sql(t, url)
	// They renew and look when the test says so: none must be late.
	long := func(c *Config) { c.Lease = time.Hour }
	first := openRegistry(t, url, long)
	openSession(t, first, add(t, admin, "a").Device)
	second := openRegistry(t, url, long)
	openSession(t, second, add(t, admin, "b").Device)
	for range 3 {
		for _, r := range []*Registry{first, second} {
			require.NoError(t, r.renewLease(t.Context()))
			require.NoError(t, r.recover(t.Context(), true))
		}
	}
	require.True(t, scan[bool](t, conn, `SELECT every(lease_until > started_at + interval '1 hour') FROM mooring.gateways`), "both renewed their leases")
	require.Equal(t, 2, scan[int](t, conn, openRows))
	require.NoError(t, second.Close(t.Context()))
	require.Equal(t, 1, scan[int](t, conn, openRows))
	require.Zero(t, metricValue(t, first.metrics.leasesLost))
}

func TestAGatewayThatWasTakenForDeadOpensItsSessionsAgain(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, conn := openAdmin(t, url), sql(t, url)
	a, b := add(t, admin, "a").Device, add(t, admin, "b").Device
	// It renews its lease when the test says so, after the other has looked.
	r := openRegistry(t, url, func(c *Config) { c.Lease, c.FlushEvery = time.Hour, 100*time.Millisecond })
	live, gone := openSession(t, r, a), openSession(t, r, b)
	// As if it had been stopped for longer than its lease.
	exec(t, conn, `UPDATE mooring.gateways SET lease_until = now() - interval '1 second' WHERE incarnation = $1`, r.incarnation)
	openRegistry(t, url, func(c *Config) { c.Gateway = "gateway-2" })
	require.Equal(t, 0, scan[int](t, conn, openRows))
	r.EndSession(endOf(gone, "its owner's word"))

	require.NoError(t, r.renewLease(t.Context()))
	require.InDelta(t, 1, metricValue(t, r.metrics.leasesLost), 0, "it notices")
	eventually(t, func() bool {
		return scan[bool](t, conn, `SELECT disconnected_at IS NULL AND reason IS NULL FROM mooring.sessions WHERE id = $1`, live)
	}, "open again")
	require.Equal(t, "its owner's word", scan[string](t, conn, `SELECT reason FROM mooring.sessions WHERE id = $1`, gone))
	require.True(t, scan[bool](t, conn, `SELECT ended_at IS NULL AND lease_until > now() FROM mooring.gateways WHERE incarnation = $1`, r.incarnation))
}

func TestTheLockIsTakenAgainAfterAReconnect(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	conn := sql(t, url)
	r := openRegistry(t, url, nil)
	before := lockHolder(t, conn, r)
	require.NotZero(t, before)
	killListener(t, conn, r)
	eventually(t, func() bool { after := lockHolder(t, conn, r); return after != 0 && after != before }, "taken again")
}
