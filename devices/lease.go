package devices

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// register makes a new incarnation of this gateway and closes what dead ones
// left open. The lock is held before the incarnation can be seen, so that
// another start under the same name never finds it without.
func (r *Registry) register(ctx context.Context, l *listener) error {
	if err := l.connect(ctx); err != nil {
		return err
	}
	ctx = withPurpose(ctx, "register")
	err := pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
INSERT INTO mooring.gateways (name, lease_until)
VALUES ($1, now() + make_interval(secs => $2)) RETURNING incarnation`,
			r.config.Gateway, r.config.Lease.Seconds()).Scan(&r.incarnation)
		if err != nil {
			return err
		}
		return l.lock(ctx)
	})
	if err != nil {
		return err
	}
	if !l.locked {
		return fmt.Errorf("the lock of incarnation %d is held by somebody else", r.incarnation)
	}
	return r.recover(ctx, true)
}

// runLease renews the lease and looks for gateways whose lease ran out.
func (r *Registry) runLease(stop, operations context.Context) {
	ticker := time.NewTicker(r.config.Lease / 3)
	defer ticker.Stop()
	for {
		select {
		case <-stop.Done():
			return
		case <-ticker.C:
		}
		if err := r.renewLease(operations); err != nil {
			r.config.Logger.Warn("can't renew the lease of this gateway", "error", err)
			continue
		}
		// A killed server's connection may outlive it by a moment, so a new
		// start goes on asking for its lock for a while.
		if err := r.recover(operations, time.Since(r.opened) < r.config.Lease); err != nil {
			r.config.Logger.Warn("can't look for sessions of dead gateways", "error", err)
		}
	}
}

var errNoIncarnation = errors.New("the row of this gateway in mooring.gateways is gone")

func (r *Registry) renewLease(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(withPurpose(ctx, "lease"), r.config.Wait)
	defer cancel()
	var declaredDead bool
	err := r.pool.QueryRow(ctx, `
WITH before AS (SELECT ended_at FROM mooring.gateways WHERE incarnation = $1 FOR UPDATE)
UPDATE mooring.gateways g
   SET lease_until = now() + make_interval(secs => $2), ended_at = NULL, end_reason = NULL
  FROM before
 WHERE g.incarnation = $1
RETURNING before.ended_at IS NOT NULL`, r.incarnation, r.config.Lease.Seconds()).Scan(&declaredDead)
	if !isNoRows(err) {
		r.health.saw(err, time.Now())
	}
	switch {
	case isNoRows(err):
		return r.enterAgain(ctx)
	case err != nil:
		return err
	case declaredDead:
		// It lives, and so do its sessions. The flusher writes them, since it
		// alone knows which of them end at this moment.
		r.metrics.leasesLost.Inc()
		r.config.Logger.Warn("this gateway was taken for dead; opening its sessions again")
		r.book.markAll()
	}
	return nil
}

// insertIncarnation enters this incarnation again, and keeps its number from being
// given to another start.
const insertIncarnation = `
WITH back AS (
    INSERT INTO mooring.gateways (incarnation, name, started_at, lease_until) OVERRIDING SYSTEM VALUE
    VALUES ($1, $2, $3, now() + make_interval(secs => $4)) ON CONFLICT DO NOTHING
)
SELECT setval(s.name, $1) FROM (SELECT pg_get_serial_sequence('mooring.gateways', 'incarnation')::regclass AS name) s
 WHERE COALESCE(pg_sequence_last_value(s.name), 0) < $1`

// enterAgain follows the loss of this incarnation's row, by a database that was restored
// or that lacks its last commits: without it, every device here would be shown offline
// for as long as this server runs (decision 149).
func (r *Registry) enterAgain(ctx context.Context) error {
	_, err := r.pool.Exec(ctx, insertIncarnation, r.incarnation, r.config.Gateway, r.opened, r.config.Lease.Seconds())
	if err != nil {
		return fmt.Errorf("%w, and can't be put back: %w", errNoIncarnation, err)
	}
	r.config.Logger.Warn("the database knew nothing of this gateway; it is on record again")
	r.book.markAll()
	return nil
}

// closeDead declares gateways dead and closes their sessions: those whose lease
// ran out, and, if $3, earlier starts of gateway $2 whose lock is free, that is,
// whose connection to Postgres is gone. A gateway that is taken for dead wrongly
// notices when it renews its lease, and opens its sessions again.
const closeDead = `
WITH dead AS (
    UPDATE mooring.gateways g
       SET ended_at = COALESCE(g.ended_at, now()),
           end_reason = COALESCE(g.end_reason, CASE WHEN g.lease_until < now() THEN 'its lease ran out' ELSE 'a new start took over' END),
           lease_until = LEAST(g.lease_until, now())
     WHERE g.incarnation <> $1
       AND (g.ended_at IS NULL OR EXISTS (SELECT FROM mooring.sessions s WHERE s.incarnation = g.incarnation AND s.disconnected_at IS NULL))
       AND CASE WHEN g.lease_until < now() THEN true
                WHEN $3 AND g.name = $2 AND g.incarnation < $1 THEN pg_try_advisory_xact_lock($4, g.incarnation)
                ELSE false END
    RETURNING g.incarnation
)
UPDATE mooring.sessions s
   SET disconnected_at = s.last_seen_at, close_code = NULL,
       reason = 'the server was gone without ending the session; this is when it last heard of the device',
       incomplete = true
  FROM dead
 WHERE s.incarnation = dead.incarnation AND s.disconnected_at IS NULL`

func (r *Registry) recover(ctx context.Context, sameName bool) error {
	ctx, cancel := context.WithTimeout(withPurpose(ctx, "recover"), max(r.config.Wait, 30*time.Second))
	defer cancel()
	tag, err := r.pool.Exec(ctx, closeDead, r.incarnation, r.config.Gateway, sameName, leaseLock)
	if err != nil {
		return fmt.Errorf("close the sessions of dead gateways: %w", err)
	}
	if n := tag.RowsAffected(); n > 0 {
		r.metrics.sessionsRecovered.Add(float64(n))
		r.config.Logger.Info("closed sessions of gateways that are gone", "sessions", n)
	}
	return nil
}

// endLease gives the lease back, and closes rows that nobody knows of.
func (r *Registry) endLease(ctx context.Context) error {
	ctx = withPurpose(ctx, "lease")
	_, err := r.pool.Exec(ctx, `
WITH ended AS (
    UPDATE mooring.gateways
       SET lease_until = LEAST(lease_until, now()), ended_at = now(), end_reason = 'stopped'
     WHERE incarnation = $1
)
UPDATE mooring.sessions
   SET disconnected_at = last_seen_at, reason = 'the server stopped'
 WHERE incarnation = $1 AND disconnected_at IS NULL`, r.incarnation)
	return err
}
