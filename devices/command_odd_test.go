package devices

import (
	"testing"

	"mooring/internal/pgtest"
)

// Inserting a row is enough to send a command, and a row may hold any interval.
// One that reaches beyond what can be computed with must not hold up all others.
func TestCommandsThatLiveForEverHoldUpNobody(t *testing.T) {
	t.Parallel()
	for _, ttl := range []string{"100 years", "300000 years", "-300000 years"} {
		t.Run(ttl, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			admin, conn := openAdmin(t, url), sql(t, url)
			a, b := add(t, admin, "a").Device, add(t, admin, "b").Device
			odd := scan[int64](t, conn, `INSERT INTO mooring.commands (device_id, name, ttl) VALUES ($1, 'blink', $2::text::interval) RETURNING id`, a.ID, ttl)
			other := scan[int64](t, conn, `INSERT INTO mooring.commands (device_id, name) VALUES ($1, 'blink') RETURNING id`, b.ID)
			r, _ := gatewayWith(t, url, "gateway-1")
			connectTo(t, r, a)
			connectTo(t, r, b)
			stateIs(t, admin, other, CommandSent)
			if ttl[0] != '-' {
				stateIs(t, admin, odd, CommandSent)
			} else {
				stateIs(t, admin, odd, CommandExpired)
			}
		})
	}
}
