package storage

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	backoffStart = 20 * time.Millisecond
	backoffLimit = 2 * time.Second // Postgres is back: seen within two seconds
	// While a batch can't be written this is said so often.
	complainEvery = 10 * time.Second
)

// wait follows a failure that is not the rows': it tells people, drops a
// connection that is of no use, and pauses. It returns early when ctx ends.
func (w *writer) wait(ctx context.Context, class failure, err error, p *part) {
	if ctx.Err() != nil {
		w.store.contacts.rest(w.number)
		w.disconnect(ctx)
		return
	}
	w.store.metrics.retries.WithLabelValues(class.String()).Inc()
	now := time.Now()
	if w.failing.IsZero() {
		w.failing = now
	}
	if now.Sub(w.complained) >= complainEvery {
		w.complained = now
		level := slog.LevelWarn
		if class == failureOperator {
			level = slog.LevelError
		}
		w.logger.Log(ctx, level, "rows wait: Postgres does not take them",
			"class", class.String(), "error", err, "rows", p.count, "since", w.failing, "tries", w.failures+1)
	}
	// A connection that failed, or led to a server that can't take rows, is
	// made anew: behind the address there may be another server by now.
	if class == failureConnection || class == failureOperator {
		w.store.contacts.fail(w.number)
		w.disconnect(ctx)
	}
	pause(ctx, backoff(w.failures))
	w.failures++
}

// recovered follows a success.
func (w *writer) recovered() {
	w.store.contacts.succeed(w.number)
	w.forget()
	if w.failing.IsZero() {
		return
	}
	if !w.complained.IsZero() {
		w.logger.Info("Postgres takes rows again", "after", time.Since(w.failing).Round(time.Millisecond), "tries", w.failures+1)
	}
	w.failing, w.complained, w.failures = time.Time{}, time.Time{}, 0
}

// backoff is how long to wait after so many failures in a row: half of a
// doubling time, and up to as much again at random.
func backoff(failures int) time.Duration {
	limit := min(backoffStart<<min(failures, 10), backoffLimit)
	return limit/2 + rand.N(limit/2) //nolint:gosec // spreading retries needs no secrecy
}

func pause(ctx context.Context, duration time.Duration) {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
