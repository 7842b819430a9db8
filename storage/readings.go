package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Reading is one value of one channel, as the view readings has it.
type Reading struct {
	Time   time.Time
	Metric string
	Value  *float64 // nil: a text
	Text   *string  // nil: a number
	Unit   string
	Seq    int64
}

// Stretch says which readings of a device are wanted.
type Stretch struct {
	Device  string
	From    time.Time // included
	Until   time.Time // excluded
	Metrics []string  // nil: all
	Limit   int       // at most so many; 0: all
}

// Readings calls yield with the readings of a stretch in the order of time,
// sequence number and metric, until yield returns an error, which it returns.
// They are streamed: memory does not grow with their number.
func (r *Reader) Readings(ctx context.Context, stretch Stretch, yield func(Reading) error) error {
	var limit *int
	if stretch.Limit > 0 {
		limit = &stretch.Limit
	}
	rows, err := r.pool.Query(ctx, `
SELECT ts, metric, value, text, COALESCE(unit, ''), seq FROM mooring.readings
 WHERE device = $1 AND ts >= $2 AND ts < $3 AND ($4::text[] IS NULL OR metric = ANY ($4))
 ORDER BY ts, seq, metric LIMIT $5`,
		stretch.Device, stretch.From, stretch.Until, stretch.Metrics, limit)
	if err != nil {
		return fmt.Errorf("storage: readings of %s: %w", stretch.Device, err)
	}
	return each(rows, "readings of "+stretch.Device, func() (Reading, error) {
		var reading Reading
		err := rows.Scan(&reading.Time, &reading.Metric, &reading.Value, &reading.Text, &reading.Unit, &reading.Seq)
		return reading, err
	}, yield)
}

// each hands every row on and tells yield's errors, which it leaves as they
// are, from the database's.
func each[T any](rows pgx.Rows, what string, scan func() (T, error), yield func(T) error) error {
	defer rows.Close()
	for rows.Next() {
		row, err := scan()
		if err != nil {
			return fmt.Errorf("storage: %s: %w", what, err)
		}
		if err := yield(row); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("storage: %s: %w", what, err)
	}
	return nil
}

// Bucket sums the numbers of one metric up over one step.
type Bucket struct {
	Start  time.Time
	Metric string
	Unit   string
	Count  int64
	Min    float64
	Max    float64
	Avg    float64
	Last   float64 // of the latest time
}

// Downsampled calls yield with the sums over every step that has readings of
// numbers, in the order of time and metric. Steps are counted from the start of
// 2000 in UTC, so that the same step gives the same buckets whatever the
// stretch; the first and the last one may be cut by it. Postgres does the sums.
func (r *Reader) Downsampled(ctx context.Context, stretch Stretch, step time.Duration, yield func(Bucket) error) error {
	// The latest value is the greatest of (time, number, value) triples: memory
	// does not grow with the readings of a bucket, as it would with array_agg.
	rows, err := r.pool.Query(ctx, `
SELECT date_bin(make_interval(secs => $5), ts, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS start, metric, COALESCE(max(unit), ''),
       count(value), min(value), max(value), avg(value),
       (max(ARRAY[extract(epoch FROM ts)::float8, seq::float8, value]))[3]
  FROM mooring.readings
 WHERE device = $1 AND ts >= $2 AND ts < $3 AND ($4::text[] IS NULL OR metric = ANY ($4)) AND value IS NOT NULL
 GROUP BY start, metric ORDER BY start, metric`,
		stretch.Device, stretch.From, stretch.Until, stretch.Metrics, step.Seconds())
	if err != nil {
		return fmt.Errorf("storage: downsampled readings of %s: %w", stretch.Device, err)
	}
	return each(rows, "downsampled readings of "+stretch.Device, func() (Bucket, error) {
		var b Bucket
		err := rows.Scan(&b.Start, &b.Metric, &b.Unit, &b.Count, &b.Min, &b.Max, &b.Avg, &b.Last)
		return b, err
	}, yield)
}

// Latest gives the last known reading of every channel of a device, by metric.
func (r *Reader) Latest(ctx context.Context, device string) ([]Reading, error) {
	rows, err := r.pool.Query(ctx, `
SELECT ts, metric, value, text, COALESCE(unit, ''), 0::int8 FROM mooring.latest WHERE device = $1 ORDER BY metric`, device)
	if err != nil {
		return nil, fmt.Errorf("storage: latest readings of %s: %w", device, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Reading])
	if err != nil {
		return nil, fmt.Errorf("storage: latest readings of %s: %w", device, err)
	}
	return list, nil
}

// DeviceLayout is a layout that a device uses.
type DeviceLayout struct {
	ID        int32
	Name      string
	FirstSeen time.Time // from this device
	Channels  []LayoutChannel
}

// LayoutChannel describes a channel of a layout.
type LayoutChannel struct {
	Name string
	Unit string
	Kind string // number, bool or text
}

// Layouts lists the layouts that a device has used, in the order in which they
// were first seen.
func (r *Reader) Layouts(ctx context.Context, device string) ([]DeviceLayout, error) {
	rows, err := r.pool.Query(ctx, `
SELECT l.id, l.name, p.first_seen, c.name, COALESCE(c.unit, ''), (ARRAY['number', 'bool', 'text'])[c.kind + 1]
  FROM mooring.device_layouts p
  JOIN mooring.layouts l ON l.id = p.layout_id
  JOIN mooring.channels c ON c.layout_id = l.id
 WHERE p.device_id = (SELECT id FROM mooring.devices WHERE name = $1) ORDER BY p.first_seen, l.id, c.pos`, device)
	if err != nil {
		return nil, fmt.Errorf("storage: layouts of %s: %w", device, err)
	}
	var list []DeviceLayout
	var layout DeviceLayout
	var channel LayoutChannel
	_, err = pgx.ForEachRow(rows, []any{&layout.ID, &layout.Name, &layout.FirstSeen, &channel.Name, &channel.Unit, &channel.Kind}, func() error {
		if len(list) == 0 || list[len(list)-1].ID != layout.ID {
			list = append(list, DeviceLayout{ID: layout.ID, Name: layout.Name, FirstSeen: layout.FirstSeen})
		}
		last := &list[len(list)-1]
		last.Channels = append(last.Channels, channel)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("storage: layouts of %s: %w", device, err)
	}
	return list, nil
}

// RecentRejects lists refusals of a device, newest first; those before a number,
// if that is not 0. Raw is left out.
func (r *Reader) RecentRejects(ctx context.Context, device string, before int64, limit int) ([]NumberedReject, error) {
	rows, err := r.pool.Query(ctx, `
SELECT id, at, seq, n, COALESCE(channel, ''), code, detail FROM mooring.rejects
 WHERE device_id = (SELECT id FROM mooring.devices WHERE name = $1) AND ($2 = 0 OR id < $2)
 ORDER BY id DESC LIMIT $3`, device, before, limit)
	if err != nil {
		return nil, fmt.Errorf("storage: rejects of %s: %w", device, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[NumberedReject])
	if err != nil {
		return nil, fmt.Errorf("storage: rejects of %s: %w", device, err)
	}
	return list, nil
}

// NumberedReject is a refusal as RecentRejects lists it.
type NumberedReject struct {
	ID      int64
	At      time.Time
	Seq     int64  // the first of N rows
	N       int64  // rows; refusals if Code is NOT_RECORDED
	Channel string // empty: the rows themselves
	Code    string
	Detail  string
}
