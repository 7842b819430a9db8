package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// SparklineQuery says of which devices to read a few points each.
type SparklineQuery struct {
	Devices  []string
	From     time.Time // included
	Until    time.Time // excluded
	Points   int       // steps between them
	Channels int       // at most so many of a layout
}

// Sparklines are a device's, in the order of its layouts and their channels.
type Sparklines struct {
	Device   string
	Channels []Sparkline
}

// Sparkline is a channel of numbers at equal steps.
type Sparkline struct {
	Metric string
	Unit   string
	Values []*float64 // of the last sample of each step; nil: none
	Last   *float64   // last known, also from before; nil: none
	LastAt time.Time  // zero: none
}

// Sparklines reads the last sample of each step, by one look-up in the key each:
// the cost does not grow with the number of samples. Devices that are none, or
// that never declared a layout, are left out; the others come by name.
func (r *Reader) Sparklines(ctx context.Context, query SparklineQuery) ([]Sparklines, error) {
	step := query.Until.Sub(query.From) / time.Duration(query.Points)
	// The look-ups of a step go by its own bounds; those of the whole stretch prune
	// partitions.
	rows, err := r.pool.Query(ctx, `
SELECT d.name, c.name, COALESCE(c.unit, ''), points.vals, l.value, l.ts
  FROM mooring.devices d
  JOIN mooring.device_layouts p ON p.device_id = d.id
 CROSS JOIN LATERAL (
       SELECT x.pos, x.name, x.unit FROM mooring.channels x
        WHERE x.layout_id = p.layout_id AND x.kind = 0 ORDER BY x.pos LIMIT $5) c
 CROSS JOIN LATERAL (
       SELECT array_agg(s.vals[c.pos] ORDER BY b.n) AS vals
         FROM generate_series(0, $4::int4 - 1) AS b (n)
         LEFT JOIN LATERAL (
              SELECT y.vals FROM mooring.samples y
               WHERE y.device_id = d.id AND y.ts >= $2 AND y.ts < $3
                 AND y.ts >= $2::timestamptz + b.n * make_interval(secs => $6) AND y.ts < $2::timestamptz + (b.n + 1) * make_interval(secs => $6)
                 AND y.layout_id = p.layout_id
               ORDER BY y.ts DESC, y.seq DESC LIMIT 1) s ON true) points
  LEFT JOIN mooring.latest l ON l.device = d.name AND l.metric = c.name
 WHERE d.name = ANY ($1)
 ORDER BY d.name, p.first_seen, p.layout_id, c.pos`,
		query.Devices, query.From, query.Until, query.Points, query.Channels, step.Seconds())
	if err != nil {
		return nil, fmt.Errorf("storage: sparklines: %w", err)
	}
	var list []Sparklines
	var device string
	var line Sparkline
	var at *time.Time
	_, err = pgx.ForEachRow(rows, []any{&device, &line.Metric, &line.Unit, &line.Values, &line.Last, &at}, func() error {
		if len(list) == 0 || list[len(list)-1].Device != device {
			list = append(list, Sparklines{Device: device})
		}
		last := &list[len(list)-1]
		if line.LastAt = (time.Time{}); at != nil {
			line.LastAt = *at
		}
		last.Channels = append(last.Channels, line)
		line = Sparkline{}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("storage: sparklines: %w", err)
	}
	return list, nil
}
