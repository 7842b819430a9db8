package bench

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"mooring/storage"
	"mooring/wire"
)

const (
	// storedDays is how many full days lie behind the current one, in partitions
	// of their own; each holds as much as the current one.
	storedDays = 10
	// storedDevices are those whose rows are stored; the live ones are among them.
	storedDevices = 1000
)

// growthStored: the fewest devices with many rows already stored, between two
// measurements of the empty table, of which the first was made just before.
func (b *bench) growthStored(ctx context.Context, s *Scenario, empty *outcome) (err error) {
	begun := time.Now()
	total, today, err := b.fillTable(ctx)
	defer func() {
		// Whatever happened: what comes next finds an empty table, and the disk its room.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, b.probe.Drop(ctx), b.partitions(ctx))
	}()
	if err != nil {
		return err
	}
	took := time.Since(begun)
	sizes, err := b.probe.Sizes(ctx)
	if err != nil {
		return err
	}
	count := b.cfg.Growth[0]
	b.say("growth: %d devices, %d rows stored", count, total)
	with, err := b.live(ctx, count, "growth-stored")
	if err != nil {
		return err
	}
	b.say("growth: %d devices, empty table", count)
	if err := b.probe.SetAside(ctx); err != nil {
		return err
	}
	again, err := b.live(ctx, count, "growth-empty")
	if err != nil {
		return err
	}
	without := empty.and(&again)
	s.add("stored_rows", float64(total))
	s.add("stored_rows_today", float64(today))
	s.add("stored_bytes", float64(sizes.Heap+sizes.Index))
	s.add("storing_s", took.Seconds())
	s.addAgainst("rows_per_s_stored_rows", with.rowsPerSecond(), "rows_per_s_empty")
	s.add("rows_per_s_empty", without.rowsPerSecond())
	s.add("rows_per_s_empty_before", empty.rowsPerSecond())
	s.add("rows_per_s_empty_after", again.rowsPerSecond())
	s.add("gateway_cpu_us_per_row_stored_rows", with.perRow(with.used.gateway))
	s.addAgainst("postgres_cpu_us_per_row_stored_rows", with.perRow(with.used.postgres), "postgres_cpu_us_per_row_empty")
	s.add("postgres_cpu_us_per_row_empty", without.perRow(without.used.postgres))
	s.add("generator_cpu_us_per_row_stored_rows", with.perRow(with.used.generator))
	ratio := with.rowsPerSecond() / without.rowsPerSecond()
	s.add("ratio_stored_rows", ratio)
	if total >= manyRows {
		s.want("ratio_50m_rows", ratio, atLeast(0.85))
	}
	s.note("stored rows: of %d devices, spread evenly over %d days and the current one, whose part came by plain COPY in batches so that its index is as it grows; measured between two measurements of the empty table, each after a checkpoint",
		min(storedDevices, len(b.fleet)), storedDays)
	return nil
}

// live measures a fleet on the table as it is.
func (b *bench) live(ctx context.Context, count int, name string) (outcome, error) {
	if err := b.partitions(ctx); err != nil {
		return outcome{}, err
	}
	if err := b.probe.Checkpoint(ctx); err != nil {
		return outcome{}, err
	}
	return b.saturated(ctx, tenRows, count, name)
}

// partitions makes those that are missing, as a server does that starts.
func (b *bench) partitions(ctx context.Context) error {
	store, err := storage.Open(ctx, storage.Config{URL: b.cluster.URL(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return store.Close(ctx)
}

// fillTable empties the table and stores the rows of days past and of today.
func (b *bench) fillTable(ctx context.Context) (total, today int, err error) {
	layout, err := b.layout(ctx, tenRows.channels)
	if err != nil {
		return 0, 0, err
	}
	devices, rounds := storedShape(b.cfg.StoredRows)
	if _, err := b.devices(ctx, devices, 0); err != nil {
		return 0, 0, err
	}
	if err := b.fresh(ctx); err != nil {
		return 0, 0, err
	}
	round := devices * tenRows.rows
	b.say("growth: storing %d rows", rounds*round*(storedDays+1))
	midnight := time.Now().UTC().Truncate(24 * time.Hour)
	days := make([]time.Time, storedDays)
	for i := range days {
		days[i] = midnight.AddDate(0, 0, i-storedDays)
	}
	connections := make(chan int, loaders)
	for connection := range loaders {
		connections <- connection
	}
	if err := forAll(days, loaders, func(day time.Time) error {
		connection := <-connections
		defer func() { connections <- connection }()
		rows, step := b.frameOfAll(devices, layout, day, rounds)
		next, fault := 0, error(nil)
		err := b.probe.Load(ctx, connection, day, func() []byte {
			if next++; next > rounds {
				return nil
			}
			if next > 1 {
				fault = errors.Join(fault, b.probe.Shift(rows, step, uint64(tenRows.rows)))
			}
			return rows
		})
		return errors.Join(err, fault)
	}); err != nil {
		return 0, 0, err
	}
	b.say("growth: storing today's part in batches")
	today, _, err = b.copyFor(ctx, tenRows, devices, firstBatch, 0, loaders, 0, rounds*round)
	if err != nil {
		return 0, 0, err
	}
	return rounds*round*storedDays + today, today, b.probe.Checkpoint(ctx)
}

// storedShape gives how many devices have rows stored, and how many frames of each
// a day has: whole rounds, in each of which every device sends one.
func storedShape(rows int) (devices, rounds int) {
	devices = max(1, min(storedDevices, rows/storedDays/tenRows.rows))
	round := devices * tenRows.rows
	return devices, (rows + (storedDays+1)*round - 1) / ((storedDays + 1) * round)
}

// loaders are the connections that store rows beforehand.
const loaders = 2

// frameOfAll encodes one frame of each device at the begin of a day that has so
// many, and tells how many µs later the next ones are.
func (b *bench) frameOfAll(devices int, layout int32, day time.Time, rounds int) (rows []byte, step int64) {
	apart := (24 * time.Hour).Microseconds() / int64(rounds*tenRows.rows)
	var values []wire.Value
	for device := range devices {
		for number := range tenRows.rows {
			row := tenRows.row(0, uint64(number), values)
			row.Time = day.UnixMicro() + int64(number)*apart
			values = row.Values
			rows = b.probe.AppendRow(rows, b.fleet[device].Device.ID, layout, &row)
		}
	}
	return rows, apart * int64(tenRows.rows)
}
