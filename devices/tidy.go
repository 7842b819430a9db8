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
const dropOldSessions = `
DELETE FROM mooring.sessions WHERE id IN (
    SELECT s.id FROM mooring.sessions s
     WHERE s.disconnected_at < now() - make_interval(secs => $1)
       AND EXISTS (SELECT FROM mooring.sessions newer WHERE newer.device_id = s.device_id AND newer.id > s.id)
     LIMIT $2 FOR UPDATE SKIP LOCKED)`

// dropOldGateways drops starts of gateways that no session refers to any more.
const dropOldGateways = `
DELETE FROM mooring.gateways g
 WHERE g.ended_at < now() - make_interval(secs => $1)
   AND NOT EXISTS (SELECT FROM mooring.sessions s WHERE s.incarnation = g.incarnation)`

func (r *Registry) tidy(ctx context.Context) error {
	ctx = withPurpose(ctx, "tidy")
	keep := r.config.KeepSessions.Seconds()
	for {
		bounded, cancel := context.WithTimeout(ctx, time.Minute)
		tag, err := r.pool.Exec(bounded, dropOldSessions, keep, tidyChunk)
		cancel()
		if err != nil {
			return fmt.Errorf("drop old sessions: %w", err)
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
