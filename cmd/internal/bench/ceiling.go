package bench

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// series makes the rows that a part of a fleet sends, batch by batch, the way
// they come in: as many rows of one device together as fit a batch, whole frames.
type series struct {
	bench  *bench
	shape  shape
	layout int32
	ids    []int32
	base   int64
	batch  int // rows
	burst  int // frames of one device together; 0: as many as fit
	cursor int
	next   []uint64 // by device, number of the next row
	rows   []byte
	frame  []byte // encoded rows 0 and following of a frame, of some device
}

// series gives the rows of every parts-th of the first count devices.
func (b *bench) series(ctx context.Context, s shape, count, batch, part, parts int) (*series, error) {
	layout, err := b.layout(ctx, s.channels)
	if err != nil {
		return nil, err
	}
	if _, err := b.devices(ctx, count, 0); err != nil {
		return nil, err
	}
	made := &series{bench: b, shape: s, layout: layout, base: now(), batch: batch}
	for i := part; i < count; i += parts {
		made.ids = append(made.ids, b.fleet[i].Device.ID)
	}
	made.next = make([]uint64, len(made.ids))
	return made, nil
}

// fill makes the next batch, valid until the next call. Frames are copies of one
// that was encoded before: a connection that waited for rows to be encoded would be
// a lower ceiling than the database's.
func (s *series) fill() (rows []byte, count int, err error) {
	if s.frame == nil {
		for number := range s.shape.rows {
			row := s.shape.row(s.base, uint64(number), nil)
			s.frame = s.bench.probe.AppendRow(s.frame, 0, s.layout, &row)
		}
	}
	together := max(1, s.batch/max(1, len(s.ids))/s.shape.rows) * s.shape.rows
	if s.burst > 0 {
		together = s.burst * s.shape.rows
	}
	s.rows = s.rows[:0]
	for count < s.batch {
		for range together / s.shape.rows {
			first := s.next[s.cursor]
			if s.rows, err = s.bench.probe.AppendShifted(s.rows, s.frame, s.ids[s.cursor], int64(first)*1000, first); err != nil {
				return nil, 0, err
			}
			s.next[s.cursor] += uint64(s.shape.rows)
		}
		count += together
		s.cursor = (s.cursor + 1) % len(s.ids)
	}
	return s.rows, count, nil
}

// ceiling is how many rows a second PostgreSQL takes by plain COPY over so many
// connections, in batches of this size, into an empty table, with nothing else
// running.
func (b *bench) ceiling(ctx context.Context, s shape, devices, batch, connections int) (l limit, err error) {
	return b.ceilingOfBursts(ctx, s, devices, batch, 0, connections)
}

// ceilingOfBursts is ceiling with so many frames of each device together.
func (b *bench) ceilingOfBursts(ctx context.Context, s shape, devices, batch, burst, connections int) (l limit, err error) {
	if err := b.fresh(ctx); err != nil {
		return l, err
	}
	if burst > 0 { // every device has its place in the index, as with a server
		if _, _, err := b.copyFor(ctx, s, devices, batch, 1, connections, 0, devices*s.rows); err != nil {
			return l, err
		}
	}
	// A server starts, its devices connect and send a while, and only then is it
	// measured. Plain COPY gets the same pause and the same while (decision 088).
	if err := sleep(ctx, 2*warmUp); err != nil {
		return l, err
	}
	if _, _, err := b.copyFor(ctx, s, devices, batch, burst, connections, b.warm, 0); err != nil {
		return l, err
	}
	before, err := treeTime(b.cluster.Info().PID)
	if err != nil {
		return l, err
	}
	rows, elapsed, err := b.copyFor(ctx, s, devices, batch, burst, connections, b.cfg.For, 0)
	if err != nil {
		return l, err
	}
	after, err := treeTime(b.cluster.Info().PID)
	l.rowsPerSecond = float64(rows) / elapsed.Seconds()
	l.perRow = float64((after - before).Nanoseconds()) / 1000 / float64(rows)
	return l, err
}

// breakIn fills the table once, for nothing, if a load is to be measured. The
// first to write on a new cluster pays for the files of the log and for memory
// that nobody has touched: a third more of PostgreSQL's processor time for each
// row (decision 088). That must not be the server.
func (b *bench) breakIn(ctx context.Context) error {
	if !slices.ContainsFunc(b.cfg.Scenarios, func(name string) bool {
		return strings.HasPrefix(name, "saturate") || slices.Contains([]string{"steady", "growth", "duplicates"}, name)
	}) {
		return nil
	}
	if _, err := b.layout(ctx, tenRows.channels); err != nil {
		return err
	}
	b.say("PostgreSQL writes for nothing, once")
	_, err := b.ceiling(ctx, tenRows, b.cfg.Devices, firstBatch, 2)
	return err
}

// limit is what plain COPY reached.
type limit struct {
	rowsPerSecond float64
	perRow        float64 // processor time of PostgreSQL, µs
}

// copyFor copies until a time is over, or, if enough is not 0, so many rows are
// stored.
func (b *bench) copyFor(ctx context.Context, s shape, devices, batch, burst, connections int, length time.Duration, enough int) (rows int, elapsed time.Duration, err error) {
	var parts []*series
	for part := range connections {
		made, err := b.series(ctx, s, devices, max(1, batch), part, connections)
		if err != nil {
			return 0, 0, err
		}
		made.burst = burst
		parts = append(parts, made)
	}
	counts, faults := make([]int, connections), make([]error, connections)
	begun := time.Now()
	var running sync.WaitGroup
	for i, part := range parts {
		running.Go(func() {
			for ctx.Err() == nil && (length == 0 || time.Since(begun) < length) && (enough == 0 || counts[i] < enough/connections) {
				batch, count, fault := part.fill()
				if fault == nil {
					_, fault = b.probe.Copy(ctx, i, batch)
				}
				if faults[i] = fault; fault != nil {
					return
				}
				counts[i] += count
			}
		})
	}
	running.Wait()
	elapsed = time.Since(begun)
	for i := range counts {
		rows += counts[i]
		if faults[i] != nil {
			return 0, 0, faults[i]
		}
	}
	return rows, elapsed, ctx.Err()
}

// loneCommit is the median time that a COPY of one row takes, with nothing else
// running.
func (b *bench) loneCommit(ctx context.Context) (time.Duration, error) {
	part, err := b.series(ctx, oneRow, 1, 1, 0, 1)
	if err != nil {
		return 0, err
	}
	var took []time.Duration
	for range 200 {
		rows, _, err := part.fill()
		if err != nil {
			return 0, err
		}
		begun := time.Now()
		if _, err := b.probe.Copy(ctx, 0, rows); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}
