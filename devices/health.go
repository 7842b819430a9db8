package devices

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrAway is answered while Postgres is known to be away, at once: whoever waited
// would only wait in vain, and a session could not be put on record.
var ErrAway = errors.New("the registry's database is away")

const (
	// awayAfter is how long nothing but failures makes Postgres away. A restart
	// of a second or two is waited for.
	awayAfter  = 3 * time.Second
	probeEvery = time.Second
)

// health is what the last statements say of Postgres.
type health struct {
	failing atomic.Int64 // since when, Unix nanoseconds; 0: it answers
}

// saw notes how a statement ended. An answer that says no is an answer, unless
// it says that the server starts, stops or is full.
func (h *health) saw(err error, now time.Time) {
	var answered *pgconn.PgError
	switch {
	case err == nil:
		h.failing.Store(0)
	case errors.Is(err, context.Canceled):
	case errors.As(err, &answered) && answered.Code[:2] != "57" && answered.Code[:2] != "53" && answered.Code[:2] != "08":
		h.failing.Store(0)
	default:
		h.failing.CompareAndSwap(0, now.UnixNano())
	}
}

func (h *health) away(now time.Time) bool {
	since := h.failing.Load()
	return since != 0 && now.UnixNano()-since >= int64(awayAfter)
}

// runProbe asks Postgres once a second while it does not answer, since nobody
// else does who is turned away.
func (r *Registry) runProbe(stop, operations context.Context) {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-stop.Done():
			return
		case <-ticker.C:
		}
		if r.health.failing.Load() == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(withPurpose(operations, "probe"), r.config.Wait)
		_, err := r.pool.Exec(ctx, "SELECT")
		cancel()
		r.health.saw(err, time.Now())
	}
}
