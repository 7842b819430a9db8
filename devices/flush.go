package devices

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// maxFlush sessions are written by one statement: some 12 ms of Postgres' time.
	// What it is made of stays with the connection as a buffer.
	maxFlush = 1024
	// An end waits this long for others: people look at presence, and they can't
	// tell a tenth of a second.
	endDelay = 50 * time.Millisecond

	minFlushRetry = 200 * time.Millisecond
	maxFlushRetry = 5 * time.Second

	// Refused handshakes are written every so many times that progress is.
	refusedTurn = 5

	maxText = 512 // bytes of a stored reason, address or version
)

// runFlushes writes ends soon and progress every FlushEvery, until stop ends.
func (r *Registry) runFlushes(stop, operations context.Context) {
	ticker := time.NewTicker(r.config.FlushEvery)
	defer ticker.Stop()
	retry := minFlushRetry
	turns := 0
	for {
		withProgress := false
		select {
		case <-stop.Done():
			return
		case <-ticker.C:
			withProgress = true
			turns++
		case <-r.book.ends:
			if !sleep(stop, endDelay) {
				return
			}
		}
		if withProgress && turns%refusedTurn == 0 {
			if err := r.flushRefused(operations); err != nil {
				r.config.Logger.Debug("not recorded", "error", err)
			}
		}
		if err := r.flush(operations, withProgress); err != nil {
			r.config.Logger.Warn("can't write the state of sessions; trying again", "error", err, "in", retry)
			if !sleep(stop, retry) {
				return
			}
			retry = min(2*retry, maxFlushRetry)
		} else {
			retry = minFlushRetry
		}
	}
}

// flush writes what there is to write, and stops at the first failure, after
// which everything unwritten is listed again.
func (r *Registry) flush(ctx context.Context, withProgress bool) error {
	for {
		batch := r.book.take(maxFlush, withProgress)
		if len(batch) == 0 {
			return nil
		}
		if err := r.writeSessions(ctx, batch); err != nil {
			r.metrics.flushFailures.Inc()
			r.book.putBack(batch)
			return err
		}
		r.book.wrote(batch)
		for _, w := range batch {
			if w.end != nil {
				r.metrics.sessionsEnded.Inc()
			}
		}
	}
}

// flushAll tries until everything is written or ctx ends.
func (r *Registry) flushAll(ctx context.Context) error {
	retry := minFlushRetry
	for {
		err := r.flush(ctx, true)
		if err == nil || !sleep(ctx, retry) {
			return err
		}
		retry = min(2*retry, maxFlushRetry)
	}
}

// The gateway that holds a connection has the last word on its row: a session
// that another one closed, because it took this gateway for dead, is opened again.
const updateSessions = `
UPDATE mooring.sessions s
   SET last_seen_at = GREATEST(s.last_seen_at, u.last_seen),
       disconnected_at = u.disconnected, close_code = u.code, reason = u.reason,
       next_seq = COALESCE(u.next, s.next_seq),
       rows_in = u.rows_in, rows_committed = u.committed, rows_duplicate = u.duplicate,
       rows_rejected = u.rejected, rows_lost_by_device = u.lost,
       rows_waiting = u.waiting, rows_returned = u.returned, incomplete = u.incomplete,
       throttles = u.throttles, throttled_at = u.throttled, throttle_gap_ms = u.gap, throttle_for_s = u.seconds
  FROM unnest($1::int8[], $2::timestamptz[], $3::timestamptz[], $4::int4[], $5::text[],
              $6::int8[], $7::int8[], $8::int8[], $9::int8[], $10::int8[], $11::int8[], $12::int8[], $13::int8[], $14::bool[],
              $15::int8[], $16::timestamptz[], $17::int4[], $18::int4[])
       AS u (id, last_seen, disconnected, code, reason, next, rows_in, committed, duplicate, rejected, lost, waiting, returned, incomplete,
             throttles, throttled, gap, seconds)
 WHERE s.id = u.id`

func (r *Registry) writeSessions(ctx context.Context, batch []written) error {
	ctx, cancel := context.WithTimeout(withPurpose(ctx, "write sessions"), r.config.Wait)
	defer cancel()
	n := len(batch)
	var (
		id           = make([]int64, n)
		lastSeen     = make([]*time.Time, n)
		disconnected = make([]*time.Time, n)
		code         = make([]*int32, n)
		reason       = make([]*string, n)
		next         = make([]*int64, n)
		incomplete   = make([]bool, n)
		counts       [7][]int64
		throttles    = make([]*int64, n)
		throttled    = make([]*time.Time, n)
		gap, seconds = make([]*int32, n), make([]*int32, n)
	)
	for i := range counts {
		counts[i] = make([]int64, n)
	}
	for i := range batch {
		w := &batch[i]
		id[i] = w.progress.Session
		lastSeen[i] = timeOrNull(w.progress.LastSeen)
		if w.end != nil {
			at := w.end.Disconnected
			if at.IsZero() {
				at = time.Now()
			}
			text := storable(w.end.Reason)
			disconnected[i], reason[i], incomplete[i] = &at, &text, w.end.Incomplete
			if w.end.Code != 0 {
				number := int32(w.end.Code)
				code[i] = &number
			}
		}
		if w.progress.HasNext {
			number := int64(w.progress.Next)
			next[i] = &number
		}
		c := w.progress.Counts
		for column, count := range []uint64{c.RowsIn, c.RowsCommitted, c.RowsDuplicate, c.RowsRejected, c.RowsLost, c.RowsWaiting, c.RowsReturned} {
			counts[column][i] = int64(count)
		}
		if t := &w.progress.Throttle; t.Times > 0 {
			throttles[i], throttled[i] = new(int64(t.Times)), &t.Last
			gap[i], seconds[i] = new(int32(t.MinGapMillis)), new(int32(t.ForSeconds))
		}
	}
	_, err := r.pool.Exec(ctx, updateSessions, id, lastSeen, disconnected, code, reason, next,
		counts[0], counts[1], counts[2], counts[3], counts[4], counts[5], counts[6], incomplete,
		throttles, throttled, gap, seconds)
	return err
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// storable makes text fit for a column: valid UTF-8 without NUL, of bounded length.
func storable(text string) string {
	if len(text) > maxText {
		text = text[:maxText]
	}
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	}
	return text
}
