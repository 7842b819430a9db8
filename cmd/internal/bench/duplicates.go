package bench

import (
	"context"
	"errors"
	"time"

	"mooring/wire"
)

// duplicates: throughput when some frames, or all, hold rows that are stored
// already. Within a connection a device may not send a row twice, so what is to
// be a retransmission is stored beforehand.
func (b *bench) duplicates(ctx context.Context) (s Scenario, err error) {
	b.say("duplicates: none")
	if err := b.fresh(ctx); err != nil {
		return s, err
	}
	none, err := b.saturated(ctx, tenRows, b.cfg.Devices, "duplicates-none")
	if err != nil {
		return s, err
	}
	b.say("duplicates: 1 %%")
	one, stored1, err := b.retransmitted(ctx, &none, 100, "duplicates-1pct")
	if err != nil {
		return s, err
	}
	b.say("duplicates: all")
	all, stored100, err := b.retransmitted(ctx, &none, 1, "duplicates-100pct")
	if err != nil {
		return s, err
	}
	s.add("rows_per_s_none", none.rowsPerSecond())
	s.addAgainst("rows_per_s_1pct", one.rowsPerSecond(), "rows_per_s_none")
	s.addAgainst("rows_per_s_100pct", all.rowsPerSecond(), "rows_per_s_none")
	s.want("ratio_1pct", one.rowsPerSecond()/none.rowsPerSecond(), atLeast(0.85))
	s.want("ratio_100pct", all.rowsPerSecond()/none.rowsPerSecond(), atLeast(0.4))
	s.add("postgres_cpu_us_per_row_none", none.perRow(none.used.postgres))
	s.add("postgres_cpu_us_per_row_1pct", one.perRow(one.used.postgres))
	s.add("postgres_cpu_us_per_row_100pct", all.perRow(all.used.postgres))
	s.add("stored_1pct", float64(stored1))
	s.want("stored_100pct", float64(stored100), atMost(0))
	none.addSuffixed(&s, "_none")
	one.addSuffixed(&s, "_1pct")
	all.addSuffixed(&s, "_100pct")
	s.note("of each device every 100th frame, or every frame, was stored before by plain COPY, so retransmissions are spread over all batches; it is measured until the first device has sent what was stored, or for as long as the others; stored: rows that the load added to the table")
	return s, nil
}

// retransmitted stores every so manieth frame of all devices beforehand, then
// lets them send all frames.
func (b *bench) retransmitted(ctx context.Context, usual *outcome, every int, name string) (o outcome, stored int64, err error) {
	if err := b.fresh(ctx); err != nil {
		return o, 0, err
	}
	layout, err := b.layout(ctx, tenRows.channels)
	if err != nil {
		return o, 0, err
	}
	fleet, err := b.devices(ctx, b.cfg.Devices, now())
	if err != nil {
		return o, 0, err
	}
	// Half as much again as they sent without duplicates, in the same time.
	seconds := (b.cfg.For + warmUp + time.Second/2).Seconds()
	frames := max(every, int(1.5*usual.rowsPerSecond()*seconds)/b.cfg.Devices/tenRows.rows)
	before, err := b.storeFrames(ctx, fleet, layout, frames, every)
	if err != nil {
		return o, 0, err
	}
	if err := b.probe.Checkpoint(ctx); err != nil {
		return o, 0, err
	}
	// A device that has sent all of them ends the measurement: what comes after would
	// be less than a load.
	o, err = b.saturatedBy(ctx, limited(newTemplate(tenRows), fleet, uint64(frames*tenRows.rows)), name)
	if err != nil {
		return o, 0, err
	}
	after, err := b.probe.Rows(ctx)
	return o, after - before, err
}

// storeFrames stores every so manieth of the first frames of each device.
func (b *bench) storeFrames(ctx context.Context, fleet []*device, layout int32, frames, every int) (stored int64, err error) {
	var rows []byte
	var values []wire.Value
	count := 0
	flush := func() error {
		_, err := b.probe.Copy(ctx, 0, rows)
		rows, count = rows[:0], 0
		return err
	}
	for frame := 0; frame < frames; frame += every {
		for i, d := range fleet {
			for at := range tenRows.rows {
				row := tenRows.row(d.base, uint64(frame*tenRows.rows+at), values)
				values = row.Values
				rows = b.probe.AppendRow(rows, b.fleet[i].Device.ID, layout, &row)
			}
			stored += int64(tenRows.rows)
			if count += tenRows.rows; count >= firstBatch {
				if err := flush(); err != nil {
					return 0, err
				}
			}
		}
	}
	return stored, errors.Join(flush(), ctx.Err())
}
