package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// partitionTries is how often a batch may lack a partition before its times are held
// to be impossible. Each time all partitions it needs were there a moment ago.
const partitionTries = 5

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
	seen          map[int32]struct{} // layouts compared on this connection, see goneback.go
	leaving       []chan struct{}
	sql           bytes.Buffer
	arranged      arrangement
	wary          int        // batches that are looked up first
	alone         bool       // something was committed on the primary alone, see replication.go
	counts        deviceRows // of the part at hand

	failures   int // in a row
	complained time.Time
	failing    time.Time // since when; zero: all is well
}

// part is a stretch of a batch that is written in one transaction.
type part struct {
	rows  []byte
	count int
	look  look          // what is asked for before the COPY
	merge bool          // through the temporary table
	tries int           // with all its partitions there a moment ago
	known map[int32]int // rows found stored, by device; they are not sent any more

	number int64 // in the books
	unsure bool  // it may be committed: the answer was lost
}

// Write stores count rows that AppendRow encoded, over the given writer's
// connection, and returns when every one of them is committed, a duplicate of a
// committed one, or in Outcome.Rejected. While the database is away, or can't
// take rows for a reason that is not theirs, it keeps trying; it gives up only
// when ctx ends, or with ErrGoneBack, and then nothing of the batch may be reported as stored, though
// parts of it may be. One call at a time per writer. rows is neither changed nor
// kept.
//
// resent names devices, rising, some of whose rows may well be stored already.
// It saves work if it is right, and costs some if it is not; nothing else
// depends on it.
func (s *Store) Write(ctx context.Context, writer int, rows []byte, count int, resent []int32) (Outcome, error) {
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
	return w.write(ctx, rows, count, resent)
}

func (w *writer) write(ctx context.Context, rows []byte, count int, resent []int32) (Outcome, error) {
	var outcome Outcome
	defer w.arranged.release()
	parts := []part{{rows: rows, count: count}}
	if len(resent) > 0 {
		parts[0].look = lookResent
	}
	for len(parts) > 0 {
		next := parts[len(parts)-1]
		parts = parts[:len(parts)-1]
		if next.count == 0 && len(next.rows) == 0 {
			continue
		}
		refusal, err := w.writePart(ctx, &next, resent, &outcome)
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
	first = part{rows: whole.rows[:cut], count: half, look: whole.look, merge: whole.merge}
	second = part{rows: rest, count: whole.count - half, look: whole.look, merge: whole.merge}
	return first, second, nil
}

// writePart tries until the part is committed, or Postgres refuses a row of it
// for good, or ctx ends.
func (w *writer) writePart(ctx context.Context, p *part, resent []int32, outcome *Outcome) (refusal *pgconn.PgError, err error) {
	if err := w.arranged.arrange(p.rows, p.count); err != nil {
		return nil, err
	}
	w.counts.gather(w.arranged.runs)
	p.number = w.store.books.begin()
	defer w.store.books.end(p.number)
	w.tracker.begin(w.arranged.runs, time.Now())
	committed := false
	defer func() { w.tracker.end(w.arranged.runs, committed, time.Now()) }()
	if w.wary > 0 {
		p.look = lookAll
	}
	for {
		if err := ended(ctx); err != nil {
			w.store.contacts.rest(w.number)
			return nil, fmt.Errorf("storage: batch of %d rows not stored: %w", p.count, err)
		}
		if err := w.store.wentBack(); err != nil {
			w.store.contacts.rest(w.number)
			return nil, err
		}
		err := w.attempt(ctx, p, resent, outcome)
		if err == nil {
			committed = true
			w.store.follower.committed(w.number, w.arranged.runs)
			w.recovered()
			return nil, nil
		}
		if committedBefore(err) {
			p.unsure = true // the next attempt finds what came of it
			continue
		}
		if errors.Is(err, ErrGoneBack) {
			continue
		}
		class := classify(err)
		switch class {
		case failureDuplicate:
			w.wary = waryBatches
			switch {
			case p.look != lookAll:
				p.look = lookAll
				continue
			case !p.merge: // a row is twice in the batch, or came meanwhile
				p.merge = true
				continue
			}
			// Not the primary key, which ON CONFLICT covers: a constraint that an
			// operator added.
			class = failureRow
		case failurePartition:
			if p.tries == partitionTries {
				class = failureRow
				break
			}
			err = w.makePartitions(ctx, p.rows)
			if err == nil {
				if p.tries++; p.tries > 1 { // one that is being detached, perhaps
					pause(ctx, backoff(p.tries))
				}
				continue
			}
			class = classifyMaking(err)
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
func (w *writer) attempt(ctx context.Context, p *part, resent []int32, outcome *Outcome) error {
	ctx, cancel := context.WithTimeout(ctx, w.store.config.AttemptTimeout)
	defer cancel()
	if err := w.connect(ctx); err != nil {
		return err
	}
	if err := w.compareLayouts(ctx); err != nil {
		return err
	}
	start := time.Now()
	w.alone = false
	if p.unsure {
		if committed, err := w.recall(ctx, p, outcome); committed || err != nil {
			return err
		}
	}
	if p.look != lookNone && !p.merge {
		if err := w.lookUp(ctx, p, resent); err != nil {
			return err
		}
	}
	if p.merge {
		inserted, err := w.mergeRows(ctx, p)
		if err = w.replicated(err); err != nil {
			p.unsure = p.unsure || mayBeCommitted(err)
			return err
		}
		w.countMerged(p, inserted, time.Since(start), outcome)
		return nil
	}
	taken, err := w.copyRows(ctx, p)
	if err = w.replicated(err); err != nil {
		if mayBeCommitted(err) {
			p.unsure, p.look = true, lookAll
		}
		return err
	}
	w.countCopied(p, taken, time.Since(start), outcome)
	return nil
}

// lookUp leaves out of the part what is stored already. What was left out stays
// so in later attempts; its values, which may differ from what is stored, are
// none of the tracker's business.
func (w *writer) lookUp(ctx context.Context, p *part, resent []int32) error {
	known, err := w.stored(ctx, w.arranged.runs, p.look == lookAll, resent)
	switch {
	case errors.Is(err, errManyStored):
		p.merge = true
		return nil
	case err != nil || known == nil:
		return err
	}
	w.tracker.end(w.arranged.runs, false, time.Now())
	left := w.arranged.leaveOut(known)
	w.tracker.begin(w.arranged.runs, time.Now())
	if p.known == nil {
		p.known = left
		return nil
	}
	for device, count := range left {
		p.known[device] += count
	}
	return nil
}

// countKnown reports the rows of a settled part that were found stored, and
// returns how many they are.
func (w *writer) countKnown(p *part, outcome *Outcome) (total int) {
	for device, count := range p.known {
		outcome.addDuplicates(device, count)
		total += count
	}
	w.store.metrics.duplicates.Add(float64(total))
	return total
}

// countCopied follows a COPY of all rows but those that were found stored.
func (w *writer) countCopied(p *part, taken int, took time.Duration, outcome *Outcome) {
	m, path := w.store.metrics, pathCopy
	known := w.countKnown(p, outcome)
	switch {
	case p.look == lookAll && known > 0:
		w.wary = waryBatches
	case p.look == lookAll && w.wary > 0:
		w.wary--
	}
	if p.look != lookNone {
		path = pathLookUp
	}
	if sent := p.count - known; taken != sent {
		m.suppressed.Add(float64(sent - taken))
		w.logger.Warn("a trigger on mooring.samples made Postgres skip rows; their devices are told that they are stored",
			"rows", sent, "stored", taken)
	}
	m.rows.WithLabelValues(path).Add(float64(taken))
	m.committed(path, p.count, took)
}

// countMerged finds how many rows of each device were stored before.
func (w *writer) countMerged(p *part, inserted map[int32]int, took time.Duration, outcome *Outcome) {
	m := w.store.metrics
	sent := make(map[int32]int)
	for i := range w.arranged.runs {
		sent[w.arranged.runs[i].pair.device] += w.arranged.runs[i].count
	}
	stored := 0
	for device, count := range sent {
		outcome.addDuplicates(device, count-inserted[device])
		stored += inserted[device]
	}
	m.duplicates.Add(float64(p.count - w.countKnown(p, outcome) - stored))
	m.rows.WithLabelValues(pathConflict).Add(float64(stored))
	m.committed(pathConflict, p.count, took)
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
