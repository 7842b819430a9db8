package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	backoffStart = 20 * time.Millisecond
	backoffLimit = 2 * time.Second // Postgres is back: seen within two seconds
	// While a batch can't be written this is said so often.
	complainEvery = 10 * time.Second
	// So often a batch may lack a partition before its times are held to be
	// impossible. Each time all partitions it needs were there a moment ago.
	partitionTries = 5
)

// errClosed is returned by Write after Close.
var errClosed = errors.New("storage: the store is closed")

// writer is one connection that writes, and what belongs to it.
type writer struct {
	store   *Store
	number  int
	logger  *slog.Logger
	tracker *tracker

	turn          chan struct{} // holds one token: whoever has it may use what follows
	closed        bool
	conn          *pgconn.PgConn
	hasBatchTable bool
	leaving       []chan struct{}
	sql           bytes.Buffer
	runs          []run

	failures   int // in a row
	complained time.Time
	failing    time.Time // since when; zero: all is well
}

// part is a stretch of a batch that is written in one transaction.
type part struct {
	rows     []byte
	count    int
	conflict bool // through the temporary table
	tries    int  // at making its partitions
}

// Write stores count rows that AppendRow encoded, over the given writer's
// connection, and returns when every one of them is committed, a duplicate of a
// committed one, or in Outcome.Rejected. While the database is away, or can't
// take rows for a reason that is not theirs, it keeps trying; it gives up only
// when ctx ends, and then nothing of the batch may be reported as stored, though
// parts of it may be. One call at a time per writer. rows is neither changed nor
// kept.
func (s *Store) Write(ctx context.Context, writer int, rows []byte, count int) (Outcome, error) {
	if writer < 0 || writer >= len(s.writers) {
		return Outcome{}, fmt.Errorf("storage: no writer %d, there are %d", writer, len(s.writers))
	}
	w := s.writers[writer]
	if err := w.take(ctx); err != nil {
		return Outcome{}, err
	}
	defer w.put()
	if w.closed {
		return Outcome{}, errClosed
	}
	return w.write(ctx, rows, count)
}

func (w *writer) write(ctx context.Context, rows []byte, count int) (Outcome, error) {
	var outcome Outcome
	parts := []part{{rows: rows, count: count}}
	for len(parts) > 0 {
		next := parts[len(parts)-1]
		parts = parts[:len(parts)-1]
		if next.count == 0 && len(next.rows) == 0 {
			continue
		}
		refusal, err := w.writePart(ctx, &next, &outcome)
		if err != nil {
			return Outcome{}, err
		}
		switch {
		case refusal == nil:
		case next.count == 1:
			row, _, err := firstRow(next.rows)
			if err != nil {
				return Outcome{}, err
			}
			if err := w.recordRefusal(ctx, row, refusal); err != nil {
				return Outcome{}, err
			}
			outcome.Rejected = append(outcome.Rejected, RejectedRow{Device: row.device(), Seq: row.seq(), Time: row.time()})
		default:
			first, second, err := halve(next)
			if err != nil {
				return Outcome{}, err
			}
			parts = append(parts, second, first)
		}
	}
	return outcome, nil
}

// halve cuts a part in two, at a row.
func halve(whole part) (first, second part, err error) {
	rest := whole.rows
	half := whole.count / 2
	for range half {
		if _, rest, err = firstRow(rest); err != nil {
			return part{}, part{}, err
		}
	}
	cut := len(whole.rows) - len(rest)
	first = part{rows: whole.rows[:cut], count: half, conflict: whole.conflict}
	second = part{rows: rest, count: whole.count - half, conflict: whole.conflict}
	return first, second, nil
}

// writePart tries until the part is committed, or Postgres refuses a row of it
// for good, or ctx ends.
func (w *writer) writePart(ctx context.Context, p *part, outcome *Outcome) (refusal *pgconn.PgError, err error) {
	w.runs, err = split(p.rows, p.count, w.runs)
	if err != nil {
		return nil, err
	}
	w.tracker.begin(w.runs, time.Now())
	committed := false
	defer func() { w.tracker.end(w.runs, committed, time.Now()) }()
	for {
		if err := ended(ctx); err != nil {
			w.store.contacts.rest(w.number)
			return nil, fmt.Errorf("storage: batch of %d rows not stored: %w", p.count, err)
		}
		err := w.attempt(ctx, p, outcome)
		if err == nil {
			committed = true
			w.recovered()
			return nil, nil
		}
		class := classify(err)
		switch class {
		case failureDuplicate:
			if !p.conflict {
				p.conflict = true
				continue
			}
			// Not the primary key, which ON CONFLICT covers: a constraint that an
			// operator added.
			class = failureRow
		case failurePartition:
			p.tries++
			if p.tries > partitionTries {
				class = failureRow
				break
			}
			err = w.makePartitions(ctx, p.rows)
			if err == nil {
				if p.tries > 1 { // one that is being detached, perhaps
					pause(ctx, backoff(p.tries))
				}
				continue
			}
			class = classify(err)
		default:
		}
		var pgError *pgconn.PgError
		if class == failureRow && errors.As(err, &pgError) {
			return pgError, nil
		}
		w.wait(ctx, class, err, p)
	}
}

func (w *writer) makePartitions(ctx context.Context, rows []byte) error {
	ctx, cancel := context.WithTimeout(ctx, w.store.config.AttemptTimeout)
	defer cancel()
	return w.store.partitions.ensureFor(ctx, rows)
}

// attempt writes the part once, and counts what came of it.
func (w *writer) attempt(ctx context.Context, p *part, outcome *Outcome) error {
	ctx, cancel := context.WithTimeout(ctx, w.store.config.AttemptTimeout)
	defer cancel()
	if err := w.connect(ctx); err != nil {
		return err
	}
	start := time.Now()
	if p.conflict {
		inserted, err := w.mergeRows(ctx, p.rows, w.runs)
		if err != nil {
			return err
		}
		w.countMerged(p, inserted, outcome)
		w.store.metrics.committed(pathConflict, p.count, time.Since(start))
		return nil
	}
	taken, err := w.copyRows(ctx, p.rows, w.runs)
	if err != nil {
		// Nobody knows whether a transaction committed whose answer was lost.
		// Rows that are stored are no error on the other path.
		p.conflict = !rolledBack(err) && !pgconn.SafeToRetry(err)
		return err
	}
	if taken != p.count {
		w.store.metrics.suppressed.Add(float64(p.count - taken))
		w.logger.Warn("a trigger on mooring.samples made Postgres skip rows; their devices are told that they are stored",
			"rows", p.count, "stored", taken)
	}
	w.store.metrics.rows.WithLabelValues(pathCopy).Add(float64(taken))
	w.store.metrics.committed(pathCopy, p.count, time.Since(start))
	return nil
}

// countMerged finds how many rows of each device were stored before.
func (w *writer) countMerged(p *part, inserted map[int32]int, outcome *Outcome) {
	sent := make(map[int32]int)
	for i := range w.runs {
		sent[w.runs[i].pair.device] += w.runs[i].count
	}
	stored := 0
	for device, count := range sent {
		outcome.addDuplicates(device, count-inserted[device])
		stored += inserted[device]
	}
	w.store.metrics.duplicates.Add(float64(p.count - stored))
	w.store.metrics.rows.WithLabelValues(pathConflict).Add(float64(stored))
}

// wait follows a failure that is not the rows': it tells people, drops a
// connection that is of no use, and pauses. It returns early when ctx ends.
func (w *writer) wait(ctx context.Context, class failure, err error, p *part) {
	if ctx.Err() != nil {
		w.store.contacts.rest(w.number)
		w.disconnect(ctx)
		return
	}
	w.store.metrics.retries.WithLabelValues(class.String()).Inc()
	now := time.Now()
	if w.failing.IsZero() {
		w.failing = now
	}
	if now.Sub(w.complained) >= complainEvery {
		w.complained = now
		level := slog.LevelWarn
		if class == failureOperator {
			level = slog.LevelError
		}
		w.logger.Log(ctx, level, "rows wait: Postgres does not take them",
			"class", class.String(), "error", err, "rows", p.count, "since", w.failing, "tries", w.failures+1)
	}
	// A connection that failed, or led to a server that can't take rows, is
	// made anew: behind the address there may be another server by now.
	if class == failureConnection || class == failureOperator {
		w.store.contacts.fail(w.number)
		w.disconnect(ctx)
	}
	pause(ctx, backoff(w.failures))
	w.failures++
}

// recovered follows a success.
func (w *writer) recovered() {
	w.store.contacts.succeed(w.number)
	w.forget()
	if w.failing.IsZero() {
		return
	}
	if !w.complained.IsZero() {
		w.logger.Info("Postgres takes rows again", "after", time.Since(w.failing).Round(time.Millisecond), "tries", w.failures+1)
	}
	w.failing, w.complained, w.failures = time.Time{}, time.Time{}, 0
}

// backoff is how long to wait after so many failures in a row: half of a
// doubling time, and up to as much again at random.
func backoff(failures int) time.Duration {
	limit := min(backoffStart<<min(failures, 10), backoffLimit)
	return limit/2 + rand.N(limit/2) //nolint:gosec // spreading retries needs no secrecy
}

func pause(ctx context.Context, duration time.Duration) {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// take waits for the writer to be free.
func (w *writer) take(ctx context.Context) error {
	select {
	case <-w.turn:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("storage: writer %d is busy: %w", w.number, context.Cause(ctx))
	}
}

func (w *writer) put() { w.turn <- struct{}{} }

// close waits for a Write that is under way, then for the connection's end.
func (w *writer) close(ctx context.Context) error {
	if err := w.take(ctx); err != nil {
		return err
	}
	defer w.put()
	w.closed = true
	if w.conn != nil && !w.conn.IsClosed() {
		_ = w.conn.Close(ctx) // whatever it says, the connection is over
	}
	w.disconnect(ctx)
	for _, done := range w.leaving {
		select {
		case <-done:
		case <-ctx.Done():
			return fmt.Errorf("storage: close writer %d: %w", w.number, context.Cause(ctx))
		}
	}
	w.leaving = nil
	return nil
}

func (m *metrics) committed(path string, rows int, took time.Duration) {
	m.batches.WithLabelValues(path).Inc()
	m.batchRows.Observe(float64(rows))
	m.seconds.WithLabelValues(path).Observe(took.Seconds())
}
