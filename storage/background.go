package storage

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// maintain keeps partitions ahead of time and drops old ones.
func (s *Store) maintain(ctx context.Context) {
	ticker := time.NewTicker(maintainEvery)
	defer ticker.Stop()
	for {
		s.work(ctx, "maintenance", s.maintainOnce)
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
	dropped := s.partitions.dropOld(ctx) // which others' long queries may prevent
	// A chunk at a time, so that no transaction is long.
	for {
		tag, err := s.pool.Exec(ctx, `DELETE FROM mooring.rejects WHERE id IN (
			SELECT id FROM mooring.rejects WHERE at < now() - make_interval(secs => $1) LIMIT 10000)`,
			s.config.RejectRetention.Seconds())
		if err != nil {
			return errors.Join(dropped, fmt.Errorf("drop old rejects: %w", err))
		}
		if tag.RowsAffected() < 10000 {
			break
		}
	}
	if _, err := s.pool.Exec(ctx, "SELECT mooring.recover_latest(1000)"); err != nil {
		return errors.Join(dropped, fmt.Errorf("recover last known values of processes that ended: %w", err))
	}
	return dropped
}

// keepBooks brings last known values to the database, folds the books and makes
// wide views.
func (s *Store) keepBooks(ctx context.Context) {
	s.views.requestAll() // those that another process, or a crash, left undone
	ticker := time.NewTicker(booksEvery)
	defer ticker.Stop()
	for round := 1; ; {
		select {
		case <-ctx.Done():
			return
		case <-s.views.wake:
			s.work(ctx, "wide views", s.views.make)
		case <-ticker.C:
			s.work(ctx, "last known values", func(ctx context.Context) error {
				return s.tracker.settle(ctx, s.pool, time.Now(), false)
			})
			s.metrics.unsettled.Set(float64(s.tracker.unsettled()))
			if round++; round%foldEvery == 0 {
				s.work(ctx, "books", func(ctx context.Context) error { return s.books.fold(ctx, s.pool) })
			}
			s.work(ctx, "wide views", s.views.make)
		}
	}
}

// work does one round of background work, bounded in time: what hangs must not
// hang for ever.
func (s *Store) work(ctx context.Context, what string, do func(context.Context) error) {
	bounded, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	s.report(ctx, what, do(bounded))
}

// report logs what background work could not do; it is tried again.
func (s *Store) report(ctx context.Context, what string, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	if class := classify(err); class == failureConnection || class == failureTransient {
		s.config.Logger.Warn("background work put off", "what", what, "error", err)
		return
	}
	s.config.Logger.Error("background work failed, will be tried again", "what", what, "error", err)
}
