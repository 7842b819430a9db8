package devices

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// backends are the numbers of the database's processes that serve this registry's
// pool. What they notify this gateway did itself.
type backends struct {
	mu  sync.Mutex
	own map[uint32]struct{}
}

// watch keeps the numbers of a pool's connections.
func (b *backends) watch(config *pgxpool.Config) {
	b.own = make(map[uint32]struct{})
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.own[conn.PgConn().PID()] = struct{}{}
		return nil
	}
	config.BeforeClose = func(conn *pgx.Conn) {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.own, conn.PgConn().PID())
	}
}

func (b *backends) has(pid uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.own[pid]
	return ok
}

// heardPresence acts on news of devices that came, went or were removed. A device
// that has a session here may have a newer one on another gateway; the check of its
// sessions says whether it has. What this gateway opened itself is no news: its
// connections replace each other without Postgres' help. So a hundred thousand
// devices that come back here cost a look at who notifies, and where they were
// before one question for a thousand of them.
func (r *Registry) heardPresence(pid uint32, payload string) {
	if r.backends.has(pid) {
		return
	}
	for field := range strings.SplitSeq(payload, ",") {
		device, err := strconv.ParseInt(field, 10, 32)
		if err != nil {
			continue // anybody may notify
		}
		r.openings.suspect(int32(device)) // under way, not yet in the book
		r.suspectSessions(int32(device))
	}
}
