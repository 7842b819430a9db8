package storage

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	contactEvery = 3 * time.Second
	// contactTimeout is how long Postgres may take to answer before it counts as
	// away, for readiness only.
	contactTimeout = 3 * time.Second
)

// contacts knows whether Postgres is there and takes rows.
type contacts struct {
	metrics *metrics

	mu       sync.Mutex
	answers  bool      // to the watch
	failing  []bool    // by writer: its batch waits for Postgres
	lastGood time.Time // newest commit
}

func newContacts(writers int, m *metrics) *contacts {
	c := &contacts{metrics: m, answers: true, failing: make([]bool, writers)}
	c.update(func() {})
	return c
}

func (c *contacts) good() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.goodLocked()
}

func (c *contacts) goodLocked() bool {
	good := c.answers
	for _, failing := range c.failing {
		good = good && !failing
	}
	return good
}

func (c *contacts) update(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	if c.goodLocked() {
		c.metrics.available.Set(1)
	} else {
		c.metrics.available.Set(0)
	}
}

// fail: the writer's batch waits.
func (c *contacts) fail(writer int) { c.update(func() { c.failing[writer] = true }) }

// rest: the writer has nothing to write any more, so it knows nothing.
func (c *contacts) rest(writer int) { c.update(func() { c.failing[writer] = false }) }

// succeed: the writer has committed.
func (c *contacts) succeed(writer int) {
	c.update(func() { c.failing[writer], c.answers, c.lastGood = false, true, time.Now() })
}

// watch asks Postgres from time to time, for when there are no rows, or when
// they hang.
func (c *contacts) watch(ctx context.Context, pool *pgxpool.Pool, logger *slog.Logger) {
	ticker := time.NewTicker(contactEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		bounded, cancel := context.WithTimeout(ctx, contactTimeout)
		err := pool.Ping(bounded)
		cancel()
		if ctx.Err() != nil {
			return
		}
		var changed bool
		c.update(func() {
			// A pool that is busy says nothing against a Postgres that commits.
			answers := err == nil || time.Since(c.lastGood) < contactTimeout
			changed = answers != c.answers
			c.answers = answers
		})
		switch {
		case changed && err != nil:
			logger.Warn("Postgres does not answer", "error", err)
		case changed:
			logger.Info("Postgres answers again")
		}
	}
}
