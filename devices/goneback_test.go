package devices

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// A standby that took over may lack the newest sessions. Their devices are
// connected and on no record, so they are to come again.
func TestASessionThatTheDatabaseLostIsOpenedAnew(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, conn := openAdmin(t, url), sql(t, url)
	r := openRegistry(t, url, func(c *Config) { c.CheckEvery = time.Hour })
	heard := watch(r)
	a, b, c := add(t, admin, "a").Device, add(t, admin, "b").Device, add(t, admin, "c").Device
	lost, others, kept := openSession(t, r, a), openSession(t, r, b), openSession(t, r, c)
	exec(t, conn, `DELETE FROM mooring.sessions WHERE id = $1`, lost)
	// The number may have been given to another device meanwhile.
	exec(t, conn, `UPDATE mooring.sessions SET device_id = $2 WHERE id = $1`, others, a.ID)
	killListener(t, conn, r)

	eventually(t, heard.has(Revocation{DeviceID: a.ID, Replaced: lost}), "the lost one ends")
	eventually(t, heard.has(Revocation{DeviceID: b.ID, Replaced: others}), "so does one whose number is another's")
	require.Zero(t, heard.count(Revocation{DeviceID: c.ID, Replaced: kept}))
	r.EndSession(endOf(lost, "replaced"))
	again := openSession(t, r, a)
	require.Equal(t, "a", scan[string](t, conn, `SELECT device FROM mooring.device_status WHERE session = $1 AND online`, again))
}

// A database that was restored may know nothing of this server, and give its
// number to the next one.
func TestAServerThatTheDatabaseLostIsOnRecordAgain(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, conn := openAdmin(t, url), sql(t, url)
	r := openRegistry(t, url, func(c *Config) { c.Lease = time.Second })
	d := add(t, admin, "a").Device
	exec(t, conn, `SELECT setval(pg_get_serial_sequence('mooring.gateways', 'incarnation'), $1, false)`, r.incarnation)
	exec(t, conn, `DELETE FROM mooring.gateways`)
	openSession(t, r, d)
	eventually(t, func() bool { return scan[bool](t, conn, `SELECT online FROM mooring.device_status`) }, "online")
	require.Equal(t, "gateway-1", scan[string](t, conn, `SELECT name FROM mooring.gateways WHERE incarnation = $1`, r.incarnation))
	next := openRegistry(t, url, func(c *Config) { c.Gateway = "gateway-2" })
	require.NotEqual(t, r.incarnation, next.incarnation)
}
