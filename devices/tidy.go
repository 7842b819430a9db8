package devices

import (
	"context"
	"fmt"
	"time"
)

const (
	tidyEvery = time.Hour
	tidyChunk = 5000 // rows of one statement, so that no transaction is long
)

// runTidy drops old records of sessions, now and every hour. Several gateways
// may do so at once; they skip what another one has locked.
func (r *Registry) runTidy(stop, operations context.Context) {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	for {
		if err := r.tidy(operations); err != nil && operations.Err() == nil {
			r.config.Logger.Warn("can't drop old records of sessions; trying again in an hour", "error", err)
		}
		select {
		case <-stop.Done():
			return
		case <-ticker.C:
		}
	}
}

// dropOldSessions leaves each device its newest session, whose age says when the
// device was last there.
// What the books know from the others is kept as sums.
const dropOldSessions = `
WITH gone AS (
    DELETE FROM mooring.sessions WHERE id IN (
        SELECT s.id FROM mooring.sessions s
         WHERE s.disconnected_at < now() - make_interval(secs => $1)
           AND EXISTS (SELECT FROM mooring.sessions newer WHERE newer.device_id = s.device_id AND newer.id > s.id)
         LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING *
), kept AS (
    INSERT INTO mooring.device_counts AS c
           (device_id, old_in, old_committed, old_duplicate, old_refused, old_returned, old_unknown, old_lost, old_incomplete)
    SELECT device_id, sum(rows_in), sum(rows_committed), sum(rows_duplicate), sum(rows_rejected),
           COALESCE(sum(rows_returned) FILTER (WHERE NOT incomplete), 0),
           COALESCE(sum(rows_waiting + rows_returned) FILTER (WHERE incomplete), 0),
           sum(rows_lost_by_device), count(*) FILTER (WHERE incomplete)
      FROM gone WHERE booked GROUP BY device_id ORDER BY device_id
        ON CONFLICT (device_id) DO UPDATE
       SET old_in = c.old_in + EXCLUDED.old_in, old_committed = c.old_committed + EXCLUDED.old_committed,
           old_duplicate = c.old_duplicate + EXCLUDED.old_duplicate, old_refused = c.old_refused + EXCLUDED.old_refused,
           old_returned = c.old_returned + EXCLUDED.old_returned, old_unknown = c.old_unknown + EXCLUDED.old_unknown,
           old_lost = c.old_lost + EXCLUDED.old_lost, old_incomplete = c.old_incomplete + EXCLUDED.old_incomplete
)
SELECT count(*) FROM gone`

// dropOldGateways drops starts of gateways that no session refers to any more.
const dropOldGateways = `
DELETE FROM mooring.gateways g
 WHERE g.ended_at < now() - make_interval(secs => $1)
   AND NOT EXISTS (SELECT FROM mooring.sessions s WHERE s.incarnation = g.incarnation)`

// dropOldCommands drops ended commands; their steps go with them.
const dropOldCommands = `
DELETE FROM mooring.commands WHERE id IN (
    SELECT c.id FROM mooring.commands c
     WHERE c.created_at < now() - make_interval(secs => $1) AND c.state NOT IN ('queued', 'sent', 'accepted')
     LIMIT $2 FOR UPDATE SKIP LOCKED)`

func (r *Registry) tidy(ctx context.Context) error {
	ctx = withPurpose(ctx, "tidy")
	keep := r.config.KeepSessions.Seconds()
	for {
		bounded, cancel := context.WithTimeout(ctx, time.Minute)
		var dropped int
		err := r.pool.QueryRow(bounded, dropOldSessions, keep, tidyChunk).Scan(&dropped)
		cancel()
		if err != nil {
			return fmt.Errorf("drop old sessions: %w", err)
		}
		if dropped < tidyChunk {
			break
		}
	}
	for {
		bounded, cancel := context.WithTimeout(ctx, time.Minute)
		tag, err := r.pool.Exec(bounded, dropOldCommands, keep, tidyChunk)
		cancel()
		if err != nil {
			return fmt.Errorf("drop old commands: %w", err)
		}
		if tag.RowsAffected() < tidyChunk {
			break
		}
	}
	bounded, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := r.pool.Exec(bounded, dropOldGateways, keep); err != nil {
		return fmt.Errorf("drop old starts of gateways: %w", err)
	}
	return nil
}
