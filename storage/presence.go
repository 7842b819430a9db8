package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNoZone is matched by the error for a time zone that Postgres does not know.
var ErrNoZone = errors.New("no such time zone")

// UptimeDay says how long a device was connected on a day, as the view uptime
// has it.
type UptimeDay struct {
	Day      string        // as 2026-11-21
	Online   time.Duration // connected
	Known    time.Duration // the part of the day that counts: since its first session on record, before now
	Percent  float64       // Online of Known
	Sessions int64         // open at some time of the day
	Losses   int64         // how often it went offline
}

// Uptime gives the days from since until, both as 2026-11-21 and included, both
// may be empty: since the device's first session on record, until today. Days
// are those of a time zone, as Europe/Oslo. A device that never connected has
// none. The errors are ErrNoZone or the database's.
func (r *Reader) Uptime(ctx context.Context, device, since, until, zone string) ([]UptimeDay, error) {
	var days []UptimeDay
	err := pgx.BeginTxFunc(ctx, r.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('TimeZone', $1, true)", zone); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `
SELECT day::text, extract(epoch FROM online)::float8, extract(epoch FROM known)::float8, coalesce(percent, 0)::float8, sessions, losses
  FROM mooring.uptime_of($1, nullif($2, '')::date, nullif($3, '')::date)`, device, since, until)
		if err != nil {
			return err
		}
		days, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (UptimeDay, error) {
			var day UptimeDay
			var online, known float64
			err := row.Scan(&day.Day, &online, &known, &day.Percent, &day.Sessions, &day.Losses)
			day.Online, day.Known = seconds(online), seconds(known)
			return day, err
		})
		return err
	})
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.Code == "22023":
		return nil, fmt.Errorf("%w: %s", ErrNoZone, zone)
	case err != nil:
		return nil, fmt.Errorf("storage: uptime of %s: %w", device, err)
	}
	return days, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Interruption is a stretch of time of which something is missing of a device.
type Interruption struct {
	Kind    string // link, silent, lost or refused: see mooring.interruptions_of
	Began   time.Time
	Ended   time.Time // zero: it is still so
	Lasted  time.Duration
	Samples int64 // of link: samples of that time that the device sent later
	Missing int64 // of lost and refused: sequence numbers that are missing
	Reason  string
}

// Interruptions lists what is missing of a device from since until (excluded)
// in the order of time, and tells a gap in the link from one in the data. Links
// that were gone and silences count if they were longer than longerThan.
func (r *Reader) Interruptions(ctx context.Context, device string, since, until time.Time, longerThan time.Duration) ([]Interruption, error) {
	rows, err := r.pool.Query(ctx, `
SELECT kind, began, ended, extract(epoch FROM lasted)::float8, samples, coalesce(missing, 0), reason
  FROM mooring.interruptions_of($1, $2, $3, make_interval(secs => $4))`, device, since, until, longerThan.Seconds())
	if err != nil {
		return nil, fmt.Errorf("storage: interruptions of %s: %w", device, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Interruption, error) {
		var i Interruption
		var ended *time.Time
		var lasted float64
		err := row.Scan(&i.Kind, &i.Began, &ended, &lasted, &i.Samples, &i.Missing, &i.Reason)
		if ended != nil {
			i.Ended = *ended
		}
		i.Lasted = seconds(lasted)
		return i, err
	})
	if err != nil {
		return nil, fmt.Errorf("storage: interruptions of %s: %w", device, err)
	}
	return list, nil
}
