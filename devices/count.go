package devices

import (
	"context"
	"fmt"
)

// Count counts the devices, and those that are online at whichever server.
func (a *Admin) Count(ctx context.Context) (all, online int, err error) {
	err = a.pool.QueryRow(ctx, `
SELECT (SELECT count(*) FROM mooring.devices),
       (SELECT count(DISTINCT s.device_id) FROM mooring.gateways g JOIN mooring.sessions s ON s.incarnation = g.incarnation
         WHERE g.lease_until > now() AND s.disconnected_at IS NULL)`).Scan(&all, &online)
	if err != nil {
		return 0, 0, fmt.Errorf("count devices: %w", err)
	}
	return all, online, nil
}
