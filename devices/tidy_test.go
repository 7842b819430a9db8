package devices

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

func TestOldSessionsAreDropped(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	r := openRegistry(t, url, func(c *Config) { c.KeepSessions = 24 * time.Hour })
	conn := sql(t, url)
	often, once := add(t, admin, "often").Device, add(t, admin, "once").Device
	// Sessions of a gateway that ended three days ago, one that ended an hour
	// ago, and one that is open.
	exec(t, conn, `INSERT INTO mooring.gateways (name, lease_until, ended_at) VALUES ('old', now(), now() - interval '3 days'), ('idle', now(), now() - interval '3 days')`)
	exec(t, conn, `INSERT INTO mooring.sessions (id, device_id, gateway, incarnation, connected_at, last_seen_at, disconnected_at)
		SELECT n, device, 'old', (SELECT incarnation FROM mooring.gateways WHERE name = 'old'), now() - age, now() - age, now() - age
		FROM (VALUES (-5, $1::int4, interval '4 days'), (-4, $1, '3 days'), (-3, $2, '3 days'), (-2, $1, '1 hour')) AS s (n, device, age)`,
		often.ID, once.ID)
	live := openSession(t, r, often)

	require.NoError(t, r.tidy(t.Context()))
	require.Equal(t, []int64{-3, -2, live},
		scan[[]int64](t, conn, `SELECT array_agg(id ORDER BY id) FROM mooring.sessions`),
		"what is old goes, save for a device's newest")
	require.Equal(t, []string{"old", r.config.Gateway},
		scan[[]string](t, conn, `SELECT array_agg(name ORDER BY incarnation DESC) FROM mooring.gateways`),
		"a start of a gateway stays while a session tells of it")
}
