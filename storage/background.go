package storage

import (
	"context"
	"fmt"
	"time"
)

// maintain keeps partitions ahead of time and drops old ones.
func (s *Store) maintain(ctx context.Context) {
	ticker := time.NewTicker(maintainEvery)
	defer ticker.Stop()
	for {
		s.report(ctx, "maintenance", s.maintainOnce(ctx))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *Store) maintainOnce(ctx context.Context) error {
	if err := s.partitions.ensureAhead(ctx); err != nil {
		return err
	}
	if err := s.partitions.dropOld(ctx); err != nil {
		return err
	}
	// A chunk at a time, so that no transaction is long.
	for {
		tag, err := s.pool.Exec(ctx, `DELETE FROM mooring.rejects WHERE id IN (
			SELECT id FROM mooring.rejects WHERE at < now() - make_interval(secs => $1) LIMIT 10000)`,
			s.config.RejectRetention.Seconds())
		if err != nil {
			return fmt.Errorf("drop old rejects: %w", err)
		}
		if tag.RowsAffected() < 10000 {
			break
		}
	}
	if _, err := s.pool.Exec(ctx, "SELECT mooring.recover_latest(1000)"); err != nil {
		return fmt.Errorf("recover last known values of processes that ended: %w", err)
	}
	return nil
}

// keepBooks brings last known values to the database, makes wide views, and
// keeps an eye on the database when no rows do.
func (s *Store) keepBooks(ctx context.Context) {
	s.views.requestAll() // those that another process, or a crash, left undone
	ticker := time.NewTicker(contactEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.views.wake:
			s.report(ctx, "wide views", s.views.make(ctx))
		case <-ticker.C:
			s.contact(ctx)
			if !s.Available() {
				continue
			}
			s.report(ctx, "last known values", s.tracker.settle(ctx, s.pool, time.Now(), false))
			s.metrics.unsettled.Set(float64(s.tracker.unsettled()))
			s.report(ctx, "wide views", s.views.make(ctx))
		}
	}
}

// contact finds out whether Postgres is there.
func (s *Store) contact(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, contactTimeout)
	defer cancel()
	err := s.pool.Ping(bounded)
	if ctx.Err() != nil {
		return
	}
	if was := s.Available(); was != (err == nil) {
		s.setAvailable(err == nil)
		if err != nil {
			s.config.Logger.Warn("Postgres does not answer", "error", err)
		} else {
			s.config.Logger.Info("Postgres answers again")
		}
	}
}

// report logs what background work could not do; it is tried again.
func (s *Store) report(ctx context.Context, what string, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	if class := classify(err); class == failureConnection || class == failureTransient {
		s.config.Logger.Warn(what+" put off", "error", err)
		return
	}
	s.config.Logger.Error(what+" failed, will be tried again", "error", err)
}
