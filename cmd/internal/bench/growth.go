package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Sizes at which figures of growth have the names that people know them by.
const (
	manyDevices = 100_000
	manyRows    = 50_000_000
)

// turnFrames is what a device sends in its turn, when there are more devices
// than connections.
const turnFrames = 16

// growth: throughput with more devices, and with rows already stored.
func (b *bench) growth(ctx context.Context) (s Scenario, err error) {
	var first, last float64
	most := b.cfg.Connections
	for i, count := range b.cfg.Growth {
		b.say("growth: %d devices", count)
		if err := b.fresh(ctx); err != nil {
			return s, err
		}
		var o outcome
		if count <= most {
			o, err = b.saturated(ctx, tenRows, count, fmt.Sprintf("growth-%d", count))
		} else {
			o, err = b.inTurns(ctx, count, min(most, 2000))
			s.note("%d devices are more than the %d connections at hand: they took turns, %d at a time, each connecting, sending %d rows and leaving, so the figure holds a handshake for each of them",
				count, most, min(most, 2000), turnFrames*tenRows.rows)
		}
		if err != nil {
			return s, err
		}
		last = o.rowsPerSecond()
		s.add(fmt.Sprintf("rows_per_s_%d_devices", count), last)
		s.add(fmt.Sprintf("gateway_cpu_us_per_row_%d_devices", count), o.perRow(o.used.gateway))
		s.add(fmt.Sprintf("postgres_cpu_us_per_row_%d_devices", count), o.perRow(o.used.postgres))
		s.add(fmt.Sprintf("generator_cpu_us_per_row_%d_devices", count), o.perRow(o.used.generator))
		if i == 0 {
			first = last
		}
	}
	devices := b.cfg.Growth[len(b.cfg.Growth)-1]
	s.add("most_devices", float64(devices))
	s.add("ratio_most_devices", last/first)
	if devices >= manyDevices {
		s.add("ratio_100k_devices", last/first)
	}

	b.say("growth: storing %d rows by plain COPY", b.cfg.StoredRows)
	if err := b.fresh(ctx); err != nil {
		return s, err
	}
	stored, took, err := b.copyFor(ctx, tenRows, min(1000, devices), firstBatch, 2, 0, b.cfg.StoredRows)
	if err != nil {
		return s, err
	}
	if err := b.probe.Checkpoint(ctx); err != nil {
		return s, err
	}
	b.say("growth: %d devices, %d rows stored", b.cfg.Growth[0], stored)
	o, err := b.saturated(ctx, tenRows, b.cfg.Growth[0], "growth-stored")
	if err != nil {
		return s, err
	}
	s.add("stored_rows", float64(stored))
	s.add("stored_by_copy_rows_per_s", float64(stored)/took.Seconds())
	s.add("rows_per_s_stored_rows", o.rowsPerSecond())
	s.add("ratio_stored_rows", o.rowsPerSecond()/first)
	if stored >= manyRows {
		s.add("ratio_50m_rows", o.rowsPerSecond()/first)
	}
	if devices < manyDevices || stored < manyRows {
		s.note("ratio_100k_devices and ratio_50m_rows need those sizes: --full")
	}
	return s, nil
}

// inTurns serves more devices than can be connected at once.
func (b *bench) inTurns(ctx context.Context, count, connections int) (o outcome, err error) {
	fleet, err := b.devices(ctx, count, now())
	if err != nil {
		return o, err
	}
	server, err := b.server(ctx)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	t := newTemplate(tenRows)
	l := &load{template: t, fleet: fleet, limit: func(*device) uint64 { return uint64(turnFrames * t.rows) }}
	first := introduction(tenRows)
	places := make(chan struct{}, dialers) // handshakes under way
	var next atomic.Int64
	whole := make(chan struct{})
	var running sync.WaitGroup
	for range connections {
		running.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(fleet) {
					return
				}
				d := fleet[i]
				places <- struct{}{}
				err := d.dial(ctx, server.address)
				<-places
				if err == nil {
					err = errors.Join(d.send(first), l.hurry(d))
					d.drop()
				}
				d.buffer, d.reader = nil, nil
				if err != nil {
					l.fail(err)
					return
				}
			}
		})
	}
	go func() {
		running.Wait()
		close(whole)
	}()
	length := b.cfg.For
	b.cfg.For = 10 * time.Minute // all devices have their turn
	o, err = b.measure(ctx, server, l, fmt.Sprintf("growth-%d", count), whole)
	b.cfg.For = length
	if err != nil {
		for _, d := range fleet {
			d.close()
		}
	}
	<-whole
	return o, errors.Join(err, l.end())
}
