package devices

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// WatchFilter says which devices are watched: all that fit every field.
type WatchFilter struct {
	Names  []string          // nil: any
	Model  string            // as registered; empty: any
	Labels map[string]string // all of these
	Limit  int               // at most so many, the first by name
}

// Watched is a device as those see it who watch it.
type Watched struct {
	ID      int32
	Name    string
	Model   string          // as registered, else as the device last said
	Labels  json.RawMessage // an object
	Online  bool
	Since   time.Time // since when Online is what it is; zero: never connected
	Reason  string    // why, in words
	Gateway string    // that had or has its newest session; empty: never connected
	Session int64     // the newest; 0: never connected
}

const watched = `
SELECT d.id, d.name, COALESCE(d.model, (SELECT x.model FROM mooring.sessions x WHERE x.id = s.session), ''), d.labels,
       s.online, s.since, COALESCE(s.reason, ''), COALESCE(s.gateway, ''), COALESCE(s.session, 0), count(*) OVER ()
  FROM mooring.devices d JOIN mooring.device_status s ON s.device_id = d.id
 WHERE ($1::text[] IS NULL OR d.name = ANY ($1)) AND ($2 = '' OR d.model = $2) AND d.labels @> $3::jsonb
 ORDER BY d.name LIMIT $4`

// Watched lists the devices of a filter by name, and tells how many there are
// without the limit.
func (a *Admin) Watched(ctx context.Context, filter WatchFilter) (list []Watched, total int, err error) {
	labels, err := encodeLabels(filter.Labels)
	if err != nil {
		return nil, 0, err
	}
	rows, err := a.pool.Query(ctx, watched, filter.Names, filter.Model, labels, filter.Limit)
	if err != nil {
		return nil, 0, fmt.Errorf("list watched devices: %w", err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Watched, error) {
		var w Watched
		var since *time.Time
		var labels []byte
		err := row.Scan(&w.ID, &w.Name, &w.Model, &labels, &w.Online, &since, &w.Reason, &w.Gateway, &w.Session, &total)
		w.Labels, w.Since = labels, orZero(since)
		return w, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list watched devices: %w", err)
	}
	return list, total, nil
}

// maxCommandNews bounds the commands of one read of FollowCommands.
const maxCommandNews = 1000

// FollowCommands calls changed with commands as they are now whenever some were
// queued or changed, until ctx ends or the connection, which is its own, is lost.
// listening is called once news can't be missed any more. What was asked for
// between two calls is told once, in its last state.
func (a *Admin) FollowCommands(ctx context.Context, listening func(), changed func([]Command)) error {
	conn, err := pgx.ConnectConfig(ctx, a.pool.Config().ConnConfig)
	if err != nil {
		return fmt.Errorf("follow commands: %w", err)
	}
	defer func() {
		ended, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel()
		_ = conn.Close(ended) // without a farewell
	}()
	var last int64
	if _, err := conn.Exec(ctx, "LISTEN "+newsChannel+"; LISTEN "+commandsChannel); err != nil {
		return fmt.Errorf("follow commands: %w", err)
	}
	if err := conn.QueryRow(ctx, `SELECT COALESCE(max(id), 0) FROM mooring.commands`).Scan(&last); err != nil {
		return fmt.Errorf("follow commands: %w", err)
	}
	listening()
	for {
		ids, err := awaitCommands(ctx, conn)
		if err != nil {
			return fmt.Errorf("follow commands: %w", err)
		}
		list, err := a.readCommands(ctx, selectCommands+`WHERE c.id = ANY ($1) OR c.id > $2 ORDER BY c.id LIMIT $3`, ids, last, maxCommandNews)
		if err != nil {
			return fmt.Errorf("follow commands: %w", err)
		}
		for i := range list {
			last = max(last, list[i].ID)
		}
		if len(list) > 0 {
			changed(list)
		}
	}
}

// awaitCommands waits for one notification. The numbers in it are a hint; which
// commands were queued it does not say.
func awaitCommands(ctx context.Context, conn *pgx.Conn) ([]int64, error) {
	for {
		quiet, cancel := context.WithTimeout(ctx, listenPing)
		news, err := conn.WaitForNotification(quiet)
		cancel()
		switch {
		case err == nil && news.Channel == commandsChannel:
			return nil, nil
		case err == nil:
			var ids []int64
			for field := range strings.SplitSeq(news.Payload, ",") {
				if id, err := strconv.ParseInt(field, 10, 64); err == nil && len(ids) < maxCommandNews {
					ids = append(ids, id)
				}
			}
			return ids, nil
		case ctx.Err() != nil || conn.IsClosed():
			return nil, err
		}
		// Silence: does it live?
		bounded, cancel := context.WithTimeout(ctx, listenPing)
		_, err = conn.Exec(bounded, "SELECT 1")
		cancel()
		if err != nil {
			return nil, err
		}
	}
}
