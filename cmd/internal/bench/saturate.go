package bench

import "context"

// firstBatch is the batch size of a ceiling before a server has shown its own.
const firstBatch = 10_000

// saturate: frames of ten rows as fast as the window allows, beside plain COPY
// of the same rows.
func (b *bench) saturate(ctx context.Context) (s Scenario, err error) {
	var total outcome
	var ceilings [2]limit
	if _, err := b.layout(ctx, tenRows.channels); err != nil {
		return s, err
	}
	for round := range b.cfg.Rounds {
		b.say("saturate: %d devices, round %d of %d", b.cfg.Devices, round+1, b.cfg.Rounds)
		if err := b.fresh(ctx); err != nil {
			return s, err
		}
		o, err := b.saturated(ctx, tenRows, b.cfg.Devices, "saturate")
		if err != nil {
			return s, err
		}
		total = total.and(&o)
		for i := range ceilings {
			b.say("saturate: plain COPY over %d connections, batches of %.0f rows", i+1, o.batchRows)
			measured, err := b.ceiling(ctx, tenRows, b.cfg.Devices, int(o.batchRows), i+1)
			if err != nil {
				return s, err
			}
			ceilings[i].rowsPerSecond += measured.rowsPerSecond / float64(b.cfg.Rounds)
			ceilings[i].perRow += measured.perRow / float64(b.cfg.Rounds)
		}
	}
	s.addAgainst("rows_per_s", total.rowsPerSecond(), "ceiling2_rows_per_s")
	s.add("ceiling1_rows_per_s", ceilings[0].rowsPerSecond)
	s.add("ceiling2_rows_per_s", ceilings[1].rowsPerSecond)
	s.want("ratio", total.rowsPerSecond()/ceilings[1].rowsPerSecond, atLeast(0.85))
	s.add("readings_per_s", total.rowsPerSecond()*float64(tenRows.channels))
	s.addAgainst("gateway_cpu_us_per_row", total.perRow(total.used.gateway), "postgres_cpu_us_per_row")
	s.addAgainst("postgres_cpu_us_per_row", total.perRow(total.used.postgres), "ceiling2_postgres_cpu_us_per_row")
	s.add("ceiling2_postgres_cpu_us_per_row", ceilings[1].perRow)
	s.want("gateway_cpu_of_postgres", total.used.gateway.Seconds()/total.used.postgres.Seconds(), atMost(0.25))
	s.add("generator_cpu_us_per_row", total.perRow(total.used.generator))
	total.addTo(&s)
	s.note("%d devices, frames of %d rows × %d channels; the generator shares the cores with what it measures, the ceiling has them alone; before each of them PostgreSQL rests and is written to for as long (decision 088)", b.cfg.Devices, tenRows.rows, tenRows.channels)
	return s, nil
}

// saturateOneRow: frames of one row as fast as the window allows.
func (b *bench) saturateOneRow(ctx context.Context) (s Scenario, err error) {
	b.say("saturate-1row: %d devices", b.cfg.OneRowDevices)
	if err := b.fresh(ctx); err != nil {
		return s, err
	}
	o, err := b.saturated(ctx, oneRow, b.cfg.OneRowDevices, "saturate-1row")
	if err != nil {
		return s, err
	}
	b.say("saturate-1row: plain COPY over 2 connections")
	ceiling, err := b.ceiling(ctx, oneRow, b.cfg.OneRowDevices, int(o.batchRows), 2)
	if err != nil {
		return s, err
	}
	s.addAgainst("frames_per_s", o.rowsPerSecond(), "ceiling2_rows_per_s")
	s.add("ceiling2_rows_per_s", ceiling.rowsPerSecond)
	s.want("gateway_cpu_us_per_frame", o.perRow(o.used.gateway), atMost(2.5))
	s.add("postgres_cpu_us_per_frame", o.perRow(o.used.postgres))
	s.add("generator_cpu_us_per_frame", o.perRow(o.used.generator))
	o.addTo(&s)
	return s, nil
}
