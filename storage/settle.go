package storage

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// settleChunk bounds one transaction of settling, and what it holds in memory.
const settleChunk = 500

// settlement is what a pair's row of mooring.device_layouts is to learn.
type settlement struct {
	pair     pair
	readings []reading
	rows     int
	upTo     int64 // marks up to this number have done their duty
	since    int64 // from here on a mark is still needed; never: none
}

// patience is how long values of a pair that keeps sending may wait: longer when
// there are many pairs. t.mu is held.
func (t *tracker) patience() time.Duration {
	return min(max(settleEvery, time.Duration(len(t.pairs))*time.Second/settleRate), settleLatest)
}

// due takes up to settleChunk pairs out of the tracker whose values are to be
// brought to the database. Pairs that were silent for long leave memory, sooner or
// later.
func (t *tracker) due(now time.Time, all bool) []settlement {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []settlement
	patience := t.patience()
	for p, state := range t.pairs {
		silent := now.Sub(state.lastWrite)
		marked := state.openSince != never || state.lateFrom <= state.lateTo
		closing := state.writing == 0 && (all || silent >= closeAfter)
		wanted := state.rows > 0 && (all || state.rows >= settleRows || now.Sub(state.dirty) >= patience) ||
			marked && closing
		switch {
		case !wanted && state.rows == 0 && !marked && state.writing == 0 && silent >= forgetAfter:
			delete(t.pairs, p)
			continue
		case !wanted:
			continue
		case len(list) == settleChunk:
			return list // to look at all others for each chunk would be quadratic; the order is chance
		}
		s := settlement{pair: p, rows: state.rows, readings: state.readings, upTo: t.marks, since: never}
		state.readings = nil
		if !closing {
			s.since = min(state.newest, state.writingMin)
		}
		// From now on trust no more than what will hold when this is through.
		state.openSince, state.lateFrom, state.lateTo = s.since, never, math.MinInt64
		state.markedAt = now
		state.rows = 0
		list = append(list, s)
	}
	return list
}

// giveBack undoes due after a failure: the values are still to be settled. The
// marks in the database are as they were, and reach at least as far.
func (t *tracker) giveBack(list []settlement) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range list {
		state := t.pairs[list[i].pair]
		if state == nil {
			continue
		}
		for j, old := range list[i].readings {
			if j == len(state.readings) {
				state.readings = append(state.readings, old)
			} else if old.known && state.readings[j].before(old.time, old.seq) {
				state.readings[j] = old
			}
		}
		// Even if nothing is left to say, the old marks must be cleared.
		state.rows += max(1, list[i].rows)
		state.openSince, state.lateFrom, state.lateTo = never, never, math.MinInt64
	}
}

// unsettled is the number of pairs in memory whose values the database lacks.
func (t *tracker) unsettled() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	count := 0
	for _, state := range t.pairs {
		if state.rows > 0 {
			count++
		}
	}
	return count
}

// settle brings what is due to the database, chunk by chunk.
func (t *tracker) settle(ctx context.Context, pool *pgxpool.Pool, now time.Time, all bool) error {
	for {
		list := t.due(now, all)
		if len(list) == 0 {
			return nil
		}
		if err := t.settleChunk(ctx, pool, list); err != nil {
			t.giveBack(list)
			return fmt.Errorf("settle last known values: %w", err)
		}
		if len(list) < settleChunk {
			return nil
		}
	}
}

func (t *tracker) settleChunk(ctx context.Context, pool *pgxpool.Pool, list []settlement) error {
	// One order for everybody, so that gateways can't lock rows crosswise.
	slices.SortFunc(list, func(a, b settlement) int {
		if a.pair.device != b.pair.device {
			return int(a.pair.device) - int(b.pair.device)
		}
		return int(a.pair.layout) - int(b.pair.layout)
	})
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		for i := range list {
			s := &list[i]
			times, seqs, vals, texts := s.columns()
			batch.Queue("SELECT mooring.settle_latest($1, $2, $3, $4, $5, $6, $7, $8, $9)",
				t.owner, s.upTo, s.pair.device, s.pair.layout, times, seqs, vals, texts, timestamp(s.since))
		}
		return tx.SendBatch(ctx, batch).Close()
	})
}

// columns are the readings as arrays by channel position, NULL where
// there was none.
func (s *settlement) columns() (times []pgtype.Timestamptz, seqs []pgtype.Int8, vals []pgtype.Float8, texts []pgtype.Text) {
	n := len(s.readings)
	times, seqs = make([]pgtype.Timestamptz, n), make([]pgtype.Int8, n)
	vals, texts = make([]pgtype.Float8, n), make([]pgtype.Text, n)
	for i := range s.readings {
		r := &s.readings[i]
		if !r.known {
			continue
		}
		times[i] = timestamp(r.time)
		seqs[i] = pgtype.Int8{Int64: int64(r.seq), Valid: true}
		if r.isText {
			texts[i] = pgtype.Text{String: string(*r.text), Valid: true}
		} else {
			vals[i] = pgtype.Float8{Float64: r.number, Valid: true}
		}
	}
	return times, seqs, vals, texts
}

// timestamp is NULL for never.
func timestamp(unixMicros int64) pgtype.Timestamptz {
	if unixMicros == never {
		return pgtype.Timestamptz{}
	}
	return pgtype.Timestamptz{Time: time.UnixMicro(unixMicros), Valid: true}
}
