package devices

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"mooring/wire"
)

// Filter says which devices to list, and how many.
type Filter struct {
	Prefix   string            // of the name
	Online   *bool             // nil: both
	Disabled *bool             // nil: both
	Model    string            // as registered; empty: any
	Labels   map[string]string // all of these

	After string // names after this one: the last of the page before
	Limit int    // 1 to MaxPage. Defaults to DefaultPage
}

// The sizes of a page of List.
const (
	DefaultPage = 100
	MaxPage     = 10_000
)

// Listed is a device as List shows it.
type Listed struct {
	ID        int32
	Name      string
	Model     string // as registered, else as the device last said
	Labels    map[string]any
	Disabled  bool
	CreatedAt time.Time
	LastSeen  time.Time // zero: never connected
	Presence
}

// Presence is whether a device is connected.
type Presence struct {
	Online bool
	Since  time.Time // when Online became what it is; zero: never connected
	Reason string    // why, in words
}

// TokenInfo is what is known of a token; the token itself is not.
type TokenInfo struct {
	ID        int64
	Label     string
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
	RevokedAt time.Time // zero: not revoked
	Live      bool      // neither revoked nor expired
}

// SessionRow is a stored session.
type SessionRow struct {
	ID           int64
	TokenID      int64 // 0: a certificate
	Gateway      string
	Remote       string
	Model        string
	Firmware     string
	Connected    time.Time
	LastSeen     time.Time
	Disconnected time.Time      // zero: open
	Code         wire.CloseCode // 0: open or unknown
	Reason       string
	Counts       SessionCounts
}

// Detail is all that is known of a device.
type Detail struct {
	Listed
	Tokens   []TokenInfo // newest first
	Last     *SessionRow // the newest session; nil: none
	Sessions int64       // ever
	Totals   SessionCounts
}

const listed = `
SELECT d.id, d.name, COALESCE(d.model, s.model, ''), d.labels, d.disabled, d.created_at,
       COALESCE(s.last_seen_at, '0001-01-01 00:00:00+00') AS last_seen,
       p.online, COALESCE(p.since, '0001-01-01 00:00:00+00') AS since, p.reason
  FROM mooring.devices d
  JOIN mooring.device_status p ON p.device_id = d.id
  LEFT JOIN mooring.sessions s ON s.id = p.session`

func (d *Listed) columns() []any {
	return []any{&d.ID, &d.Name, &d.Model, &d.Labels, &d.Disabled, &d.CreatedAt, &d.LastSeen, &d.Online, &d.Since, &d.Reason}
}

// List lists devices in the order of their names, a page at a time.
func (a *Admin) List(ctx context.Context, filter Filter) ([]Listed, error) {
	limit := orDefault(filter.Limit, DefaultPage)
	if limit > MaxPage {
		return nil, &FieldError{"limit", fmt.Sprintf("is %d; at most %d are allowed", limit, MaxPage)}
	}
	labels, err := encodeLabels(filter.Labels)
	if err != nil {
		return nil, err
	}
	rows, err := a.pool.Query(ctx, `SELECT * FROM (`+listed+`
 WHERE starts_with(d.name, $1) AND d.name > $2 AND ($3::bool IS NULL OR d.disabled = $3)
   AND ($6 = '' OR d.model = $6) AND d.labels @> $7::jsonb
) l WHERE $4::bool IS NULL OR l.online = $4
 ORDER BY l.name LIMIT $5`, filter.Prefix, filter.After, filter.Disabled, filter.Online, limit, filter.Model, labels)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Listed, error) {
		var d Listed
		return d, row.Scan(d.columns()...)
	})
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return list, nil
}

// Show tells all about a device.
func (a *Admin) Show(ctx context.Context, name string) (Detail, error) {
	var detail Detail
	// One snapshot, so that the parts fit together.
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, a.pool, snapshot, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, listed+` WHERE d.name = $1`, name).Scan(detail.columns()...); err != nil {
			return err
		}
		if err := detail.readTokens(ctx, tx); err != nil {
			return err
		}
		return detail.readSessions(ctx, tx)
	})
	if err != nil {
		return Detail{}, explain("show", name, err)
	}
	return detail, nil
}

func (d *Detail) readTokens(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `
SELECT id, COALESCE(label, ''), created_at, CASE WHEN isfinite(expires_at) THEN expires_at END, revoked_at,
       revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
  FROM mooring.tokens WHERE device_id = $1 ORDER BY id DESC`, d.ID)
	if err != nil {
		return err
	}
	d.Tokens, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (TokenInfo, error) {
		var t TokenInfo
		var expires, revoked *time.Time
		err := row.Scan(&t.ID, &t.Label, &t.CreatedAt, &expires, &revoked, &t.Live)
		t.ExpiresAt, t.RevokedAt = orZero(expires), orZero(revoked)
		return t, err
	})
	return err
}

func (d *Detail) readSessions(ctx context.Context, tx pgx.Tx) error {
	t := &d.Totals
	err := tx.QueryRow(ctx, `
SELECT count(*), COALESCE(sum(rows_in), 0)::int8, COALESCE(sum(rows_committed), 0)::int8, COALESCE(sum(rows_duplicate), 0)::int8,
       COALESCE(sum(rows_rejected), 0)::int8, COALESCE(sum(rows_lost_by_device), 0)::int8,
       COALESCE(sum(rows_waiting) FILTER (WHERE disconnected_at IS NULL), 0)::int8, COALESCE(sum(rows_returned), 0)::int8
  FROM mooring.sessions WHERE device_id = $1`, d.ID).
		Scan(&d.Sessions, &t.RowsIn, &t.RowsCommitted, &t.RowsDuplicate, &t.RowsRejected, &t.RowsLost, &t.RowsWaiting, &t.RowsReturned)
	if err != nil || d.Sessions == 0 {
		return err
	}
	rows, err := tx.Query(ctx, selectSessions+` WHERE device_id = $1 ORDER BY id DESC LIMIT 1`, d.ID)
	if err != nil {
		return err
	}
	s, err := pgx.CollectExactlyOneRow(rows, scanSession)
	d.Last = &s
	return err
}

const selectSessions = `
SELECT id, COALESCE(token_id, 0), gateway, COALESCE(remote, ''), COALESCE(model, ''), COALESCE(firmware, ''),
       connected_at, last_seen_at, disconnected_at, COALESCE(close_code, 0), COALESCE(reason, ''),
       rows_in, rows_committed, rows_duplicate, rows_rejected, rows_lost_by_device, rows_waiting, rows_returned
  FROM mooring.sessions`

func scanSession(row pgx.CollectableRow) (SessionRow, error) {
	var s SessionRow
	var disconnected *time.Time
	err := row.Scan(&s.ID, &s.TokenID, &s.Gateway, &s.Remote, &s.Model, &s.Firmware,
		&s.Connected, &s.LastSeen, &disconnected, &s.Code, &s.Reason,
		&s.Counts.RowsIn, &s.Counts.RowsCommitted, &s.Counts.RowsDuplicate, &s.Counts.RowsRejected, &s.Counts.RowsLost,
		&s.Counts.RowsWaiting, &s.Counts.RowsReturned)
	s.Disconnected = orZero(disconnected)
	return s, err
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// Sessions lists a device's sessions, newest first; those before a number, if
// that is not 0. The errors are ErrNotFound or the database's.
func (a *Admin) Sessions(ctx context.Context, device string, before int64, limit int) ([]SessionRow, error) {
	var id int32
	if err := a.pool.QueryRow(ctx, `SELECT id FROM mooring.devices WHERE name = $1`, device).Scan(&id); err != nil {
		return nil, explain("list the sessions of", device, err)
	}
	rows, err := a.pool.Query(ctx, selectSessions+`
 WHERE device_id = $1 AND ($2 = 0 OR id < $2) ORDER BY id DESC LIMIT $3`, id, before, min(orDefault(limit, DefaultPage), MaxPage))
	if err != nil {
		return nil, explain("list the sessions of", device, err)
	}
	list, err := pgx.CollectRows(rows, scanSession)
	if err != nil {
		return nil, explain("list the sessions of", device, err)
	}
	return list, nil
}
