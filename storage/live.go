package storage

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// LatestReading is the last known reading of a channel of one of many devices.
type LatestReading struct {
	Device int32
	Metric string
	Unit   string
	Time   int64 // µs since 1970
	Value  float64
	Text   *string // nil: a number
}

// LatestOf calls yield with the last known reading of every channel of devices,
// device by device.
func (r *Reader) LatestOf(ctx context.Context, devices []int32, yield func(LatestReading) error) error {
	rows, err := r.pool.Query(ctx, `
SELECT d.id, l.metric, COALESCE(l.unit, ''), l.ts, COALESCE(l.value, 'NaN'), l.text
  FROM mooring.devices d JOIN mooring.latest l ON l.device = d.name
 WHERE d.id = ANY ($1) ORDER BY d.id, l.metric`, devices)
	if err != nil {
		return fmt.Errorf("storage: latest readings of %d devices: %w", len(devices), err)
	}
	return each(rows, "latest readings", func() (LatestReading, error) {
		var l LatestReading
		var at time.Time
		err := rows.Scan(&l.Device, &l.Metric, &l.Unit, &at, &l.Value, &l.Text)
		l.Time = at.UnixMicro()
		return l, err
	}, yield)
}

// LayoutChannels gives the channels of layouts, by position; those that are
// unknown are missing.
func (r *Reader) LayoutChannels(ctx context.Context, layouts []int32) (map[int32][]LayoutChannel, error) {
	rows, err := r.pool.Query(ctx, `
SELECT layout_id, name, COALESCE(unit, ''), (ARRAY['number', 'bool', 'text'])[kind + 1]
  FROM mooring.channels WHERE layout_id = ANY ($1) ORDER BY layout_id, pos`, layouts)
	if err != nil {
		return nil, fmt.Errorf("storage: channels of layouts: %w", err)
	}
	found := make(map[int32][]LayoutChannel, len(layouts))
	var layout int32
	var channel LayoutChannel
	if _, err := pgx.ForEachRow(rows, []any{&layout, &channel.Name, &channel.Unit, &channel.Kind}, func() error {
		found[layout] = append(found[layout], channel)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("storage: channels of layouts: %w", err)
	}
	return found, nil
}

// Mark is how far the rows of a device are known: up to a time and a sequence
// number.
type Mark struct {
	Device int32
	Time   int64 // µs since 1970
	Seq    uint64
}

// NothingKnown is a Mark's time that comes before all rows'.
const NothingKnown = math.MinInt64

// RowsSince calls yield with what is stored of devices behind their marks: news
// of the newest rows, at most most a device, oldest first. It is one search of
// the primary key a device.
func (r *Reader) RowsSince(ctx context.Context, marks []Mark, most int, yield func(News) error) error {
	devices, times, seqs := make([]int32, len(marks)), make([]pgtype.Timestamptz, len(marks)), make([]int64, len(marks))
	for i, mark := range marks {
		devices[i], seqs[i] = mark.Device, int64(mark.Seq)
		times[i] = pgtype.Timestamptz{Time: time.UnixMicro(mark.Time), Valid: true}
		if mark.Time < earliestTime {
			times[i] = pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
		}
	}
	rows, err := r.pool.Query(ctx, `
SELECT m.device, s.layout_id, s.ts, s.seq, s.vals, s.texts
  FROM unnest($1::int4[], $2::timestamptz[], $3::int8[]) AS m (device, ts, seq)
 CROSS JOIN LATERAL (
       SELECT layout_id, ts, seq, vals, texts FROM mooring.samples
        WHERE device_id = m.device AND ts >= m.ts AND (ts, seq) > (m.ts, m.seq)
        ORDER BY ts DESC, seq DESC LIMIT $4) s
 ORDER BY m.device, s.ts, s.seq`, devices, times, seqs, most)
	if err != nil {
		return fmt.Errorf("storage: rows of %d devices: %w", len(marks), err)
	}
	var at time.Time
	var seq int64
	var vals pgtype.FlatArray[pgtype.Float8]
	var texts pgtype.FlatArray[pgtype.Text]
	return each(rows, "rows since", func() (News, error) {
		news := News{Rows: 1, Committed: time.Now()}
		if err := rows.Scan(&news.Device, &news.Layout, &at, &seq, &vals, &texts); err != nil {
			return news, err
		}
		for i := range vals {
			newest := Newest{Known: vals[i].Valid, Time: at.UnixMicro(), Seq: uint64(seq), Number: vals[i].Float64}
			if i < len(texts) && texts[i].Valid {
				newest.Known, newest.Text = true, []byte(texts[i].String)
			}
			news.Readings = append(news.Readings, newest)
		}
		return news, nil
	}, yield)
}

// DeviceReject is a refusal and whose it is.
type DeviceReject struct {
	NumberedReject
	Device int32
	Name   string
}

// RejectsAfter lists refusals of all devices behind a number, in their order,
// at most limit. Refusals that are recorded at the same time may become visible
// out of the order of their numbers.
func (r *Reader) RejectsAfter(ctx context.Context, after int64, limit int) ([]DeviceReject, error) {
	rows, err := r.pool.Query(ctx, `
SELECT r.id, r.at, r.seq, r.n, COALESCE(r.channel, ''), r.code, r.detail, r.device_id, COALESCE(d.name, '')
  FROM mooring.rejects r LEFT JOIN mooring.devices d ON d.id = r.device_id
 WHERE r.id > $1 ORDER BY r.id LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("storage: new rejects: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (DeviceReject, error) {
		var d DeviceReject
		err := row.Scan(&d.ID, &d.At, &d.Seq, &d.N, &d.Channel, &d.Code, &d.Detail, &d.Device, &d.Name)
		return d, err
	})
	if err != nil {
		return nil, fmt.Errorf("storage: new rejects: %w", err)
	}
	return list, nil
}

// LastReject is the number of the newest refusal; 0: there is none.
func (r *Reader) LastReject(ctx context.Context) (int64, error) {
	var last int64
	if err := r.pool.QueryRow(ctx, `SELECT COALESCE(max(id), 0) FROM mooring.rejects`).Scan(&last); err != nil {
		return 0, fmt.Errorf("storage: newest reject: %w", err)
	}
	return last, nil
}
