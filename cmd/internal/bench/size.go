package bench

import (
	"context"
	"fmt"
)

// mostBytes is what a reading may take, by the channels of its row.
var mostBytes = map[int]float64{5: 39, 10: 24}

// storage: what a reading takes on disk, heap and index together.
func (b *bench) storage(ctx context.Context) (s Scenario, err error) {
	for _, channels := range []int{1, 5, 10} {
		b.say("storage: %d channels", channels)
		if _, err := b.layout(ctx, channels); err != nil {
			return s, err
		}
		if err := b.fresh(ctx); err != nil {
			return s, err
		}
		empty, err := b.probe.Sizes(ctx)
		if err != nil {
			return s, err
		}
		rows, _, err := b.copyFor(ctx, shape{rows: 10, channels: channels}, b.cfg.SteadyDevices, firstBatch, 0, 2, 0, b.cfg.StorageRows)
		if err != nil {
			return s, err
		}
		full, err := b.probe.Sizes(ctx)
		if err != nil {
			return s, err
		}
		readings := float64(rows * channels)
		heap, index := float64(full.Heap-empty.Heap), float64(full.Index-empty.Index)
		name, bytes := fmt.Sprintf("bytes_per_reading_%d", channels), (heap+index)/readings
		if most, bounded := mostBytes[channels]; bounded {
			s.want(name, bytes, atMost(most))
		} else {
			s.add(name, bytes)
		}
		s.add(fmt.Sprintf("heap_bytes_per_reading_%d", channels), heap/readings)
		s.add(fmt.Sprintf("index_bytes_per_reading_%d", channels), index/readings)
	}
	s.note("%d rows of %d devices in batches of %d, ten rows of a device together, by plain COPY over 2 connections; the partition that is being written, not packed", b.cfg.StorageRows, b.cfg.SteadyDevices, firstBatch)
	return s, nil
}
