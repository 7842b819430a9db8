package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Sizes at which figures of growth have the names that people know them by.
const (
	manyDevices = 100_000
	manyRows    = 50_000_000
)

// standingFrames is how many frames are under way at a time, however many
// devices there are: the default window of a hundred devices.
const standingFrames = 100 * steadyWindow

// growth: throughput with more devices, and with rows already stored.
func (b *bench) growth(ctx context.Context) (s Scenario, err error) {
	// All sizes alike, and so plain COPY of their rows (decision 105).
	defer func(usual time.Duration) { b.warm = usual }(b.warm)
	b.warm = b.cfg.GrowthWarm
	fewest := b.cfg.Growth[0]
	before, err := b.few(ctx, fewest, 1)
	if err != nil {
		return s, err
	}
	var sizes []outcome
	for _, count := range b.cfg.Growth[1:] {
		o, err := b.many(ctx, &s, count)
		if err != nil {
			return s, err
		}
		sizes = append(sizes, o)
	}
	after, err := b.few(ctx, fewest, 2)
	if err != nil {
		return s, err
	}
	var stored Scenario
	if b.cfg.StoredRows > 0 {
		if err := b.growthStored(ctx, &stored, &after); err != nil {
			return s, err
		}
	}
	base := before.and(&after)
	if err := b.addSize(ctx, &s, fewest, &base); err != nil {
		return s, err
	}
	most, ratio := fewest, 1.0
	for i := range sizes {
		most = b.cfg.Growth[i+1]
		if err := b.addSize(ctx, &s, most, &sizes[i]); err != nil {
			return s, err
		}
		ratio = sizes[i].rowsPerSecond() / base.rowsPerSecond()
	}
	s.add("most_devices", float64(most))
	s.add("ratio_most_devices", ratio)
	if most >= manyDevices {
		s.want("ratio_100k_devices", ratio, atLeast(0.75))
	}
	s.note("%d devices keep their windows full, before and after the larger fleets, of which as many frames of %d rows are under way in all (%d): each device sends %d, and the next in line when they are acknowledged; all are connected all the time; every size sends for %v before it is measured",
		fewest, tenRows.rows, standingFrames, b.cfg.TurnFrames, b.warm)
	s.Figures, s.Notes = append(s.Figures, stored.Figures...), append(s.Notes, stored.Notes...)
	return s, nil
}

// addSize adds what was measured with so many devices, and measures what plain
// COPY of their rows reaches.
func (b *bench) addSize(ctx context.Context, s *Scenario, count int, o *outcome) error {
	b.say("growth: plain COPY of the rows of %d devices", count)
	short := *b
	short.cfg.For = b.cfg.For / 2 // no ratio rests on it
	ceiling, err := short.ceilingOfBursts(ctx, tenRows, count, int(o.batchRows), b.cfg.TurnFrames, 2)
	if err != nil {
		return err
	}
	add := func(name string, value float64) { s.add(fmt.Sprintf("%s_%d_devices", name, count), value) }
	s.addAgainst(fmt.Sprintf("rows_per_s_%d_devices", count), o.rowsPerSecond(), fmt.Sprintf("ceiling2_rows_per_s_%d_devices", count))
	add("ceiling2_rows_per_s", ceiling.rowsPerSecond)
	add("ceiling2_postgres_cpu_us_per_row", ceiling.perRow)
	add("gateway_cpu_us_per_row", o.perRow(o.used.gateway))
	add("postgres_cpu_us_per_row", o.perRow(o.used.postgres))
	add("generator_cpu_us_per_row", o.perRow(o.used.generator))
	o.addSuffixed(s, fmt.Sprintf("_%d_devices", count))
	return nil
}

// few measures a fleet that keeps its windows full, on an empty table.
func (b *bench) few(ctx context.Context, count, round int) (outcome, error) {
	b.say("growth: %d devices (%d)", count, round)
	if err := b.fresh(ctx); err != nil {
		return outcome{}, err
	}
	return b.saturated(ctx, tenRows, count, fmt.Sprintf("growth-%d-%d", count, round))
}

// many measures a fleet whose devices have turns, on an empty table. Its devices
// are known: each has sent this layout before.
func (b *bench) many(ctx context.Context, s *Scenario, count int) (o outcome, err error) {
	if _, err := b.devices(ctx, count, 0); err != nil {
		return o, err
	}
	b.say("growth: %d devices connect", count)
	if err := b.fresh(ctx); err != nil {
		return o, err
	}
	layout, err := b.layout(ctx, tenRows.channels)
	if err != nil {
		return o, err
	}
	ids := make([]int32, count)
	for i := range ids {
		ids[i] = b.fleet[i].Device.ID
	}
	if err := b.probe.Know(ctx, ids, layout); err != nil {
		return o, err
	}
	w, err := b.startSwarm(ctx, count)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	b.say("growth: %d devices send", count)
	if len(w.servers) > 1 {
		s.note("%d devices are more than the %d connections that the limit of open files allows a process: they are connected to %d servers, one writer each at least, on one database",
			count, b.cfg.PerServer, len(w.servers))
	}
	s.add(fmt.Sprintf("connect_s_%d_devices", count), w.connecting.Seconds())
	o, err = w.measure(ctx, fmt.Sprintf("growth-%d", count))
	b.say("growth: %d devices leave", count)
	return o, errors.Join(err, w.all(commandEnd))
}

// measure lets the swarm send, waits until what comes with it has begun, too,
// and watches it for a while.
func (s *swarm) measure(ctx context.Context, name string) (o outcome, err error) {
	b := s.bench
	if err := s.all(commandTurns); err != nil {
		return o, err
	}
	if err := sleep(ctx, b.warm); err != nil {
		return o, err
	}
	stopProfile, err := b.profile(s.servers[0], name)
	if err != nil {
		return o, err
	}
	sumBefore, countBefore, err := s.batches(ctx)
	if err != nil {
		return o, err
	}
	wal, err := b.probe.LogPosition(ctx)
	if err != nil {
		return o, err
	}
	// Rows, time and processors in one order, as with a load: the counting takes a
	// while itself.
	rowsBefore, turnsBefore, err := s.count()
	if err != nil {
		return o, err
	}
	before, err := readUsage(b.cluster.Info().PID, s.servers, s.generators)
	if err != nil {
		return o, err
	}
	if err := sleep(ctx, b.cfg.For); err != nil {
		return o, err
	}
	rows, turns, err := s.count()
	if err != nil {
		return o, err
	}
	after, err := readUsage(b.cluster.Info().PID, s.servers, s.generators)
	if err != nil {
		return o, err
	}
	o.rows, o.elapsed, o.turns = rows-rowsBefore, after.at.Sub(before.at), turns-turnsBefore
	o.used = after.since(before)
	if o.wal, err = b.probe.LogPosition(ctx); err != nil {
		return o, err
	}
	o.wal -= wal
	sum, count, err := s.batches(ctx)
	if err != nil {
		return o, err
	}
	o.batchRows = (sum - sumBefore) / max(1, count-countBefore)
	for _, server := range s.servers {
		peak, err := memory(server.pid(), "VmHWM")
		if err != nil {
			return o, err
		}
		o.peak += peak
	}
	if o.rows == 0 {
		return o, errors.New("no row was acknowledged while measuring")
	}
	return o, stopProfile()
}

// batches adds up what the servers wrote.
func (s *swarm) batches(ctx context.Context) (sum, count float64, err error) {
	for _, server := range s.servers {
		rows, written, err := batches(ctx, server.admin)
		if err != nil {
			return 0, 0, err
		}
		sum, count = sum+rows, count+written
	}
	return sum, count, nil
}
