package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Every transaction that stores rows also stores one row that says how many of
// which device (mooring.batches). So the count of committed rows can't be wrong,
// whatever dies when; and whoever did not hear the answer to a commit can look
// whether it took place. Every half minute the rows are added up per device.
// docs/decisions/130 has the reasons and what it costs.
const (
	foldEvery = 6 // rounds of keepBooks: half a minute
	// batchesKey is the key that a batch violates which was committed before.
	batchesKey = "batches_pkey"
	enterBatch = "INSERT INTO mooring.batches (owner, number, devices, rows, committed)"
)

// books numbers the parts that are being written.
type books struct {
	owner int64

	mu    sync.Mutex
	last  int64
	under map[int64]struct{} // under way
}

func newBooks(owner int64) *books { return &books{owner: owner, under: make(map[int64]struct{})} }

// begin gives a part its number; end must follow once nobody will ask whether
// the part was committed.
func (b *books) begin() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	b.under[b.last] = struct{}{}
	return b.last
}

func (b *books) end(number int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.under, number)
}

// done is the number up to which nobody will ask any more.
func (b *books) done() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := int64(math.MaxInt64)
	for number := range b.under {
		first = min(first, number)
	}
	if first == math.MaxInt64 {
		return b.last
	}
	return first - 1
}

// fold adds what is done to mooring.device_counts.
func (b *books) fold(ctx context.Context, pool *pgxpool.Pool) error {
	if _, err := pool.Exec(ctx, "SELECT mooring.fold_batches($1, $2)", b.owner, b.done()); err != nil {
		return fmt.Errorf("fold the books: %w", err)
	}
	return nil
}

// deviceRows counts the rows of a part by device. It is used again and again.
type deviceRows struct {
	devices []int32
	rows    []int
	index   map[int32]int
}

// gather counts the rows of runs.
func (d *deviceRows) gather(runs []run) {
	d.devices, d.rows = d.devices[:0], d.rows[:0]
	if d.index == nil {
		d.index = make(map[int32]int)
	}
	clear(d.index)
	for i := range runs {
		device := runs[i].pair.device
		at, known := d.index[device]
		if !known {
			at = len(d.devices)
			d.index[device] = at
			d.devices, d.rows = append(d.devices, device), append(d.rows, 0)
		}
		d.rows[at] += runs[i].count
	}
}

// appendArray appends an int4[] in SQL, of one number for each device.
func appendArray(dst *bytes.Buffer, devices []int32, number func(i int) int) {
	scratch := append(dst.AvailableBuffer(), "'{"...)
	for i := range devices {
		if i > 0 {
			scratch = append(scratch, ',')
		}
		scratch = strconv.AppendInt(scratch, int64(number(i)), 10)
	}
	dst.Write(append(scratch, "}'::int4[]"...))
}

// appendBatch appends the statement that enters a part, to be sent in front of
// the COPY of those of its rows that are new.
func (w *writer) appendBatch(dst *bytes.Buffer, p *part) {
	dst.WriteString(enterBatch + " VALUES (")
	w.appendKey(dst, p)
	appendArray(dst, w.counts.devices, func(i int) int { return int(w.counts.devices[i]) })
	dst.WriteByte(',')
	appendArray(dst, w.counts.devices, func(i int) int { return w.counts.rows[i] })
	dst.WriteByte(',')
	if len(p.known) == 0 {
		dst.WriteString("NULL")
	} else {
		appendArray(dst, w.counts.devices, func(i int) int { return w.counts.rows[i] - p.known[w.counts.devices[i]] })
	}
	dst.WriteString(");")
}

// appendMerge appends the statement that moves a part's rows from the temporary
// table, enters what came of it, and answers with the new rows by device.
func (w *writer) appendMerge(dst *bytes.Buffer, p *part) {
	dst.WriteString(`WITH inserted AS (
		INSERT INTO mooring.samples ` + copyColumns + `
		SELECT ts, seq, device_id, layout_id, vals, texts FROM pg_temp.mooring_batch
		ON CONFLICT (device_id, ts, seq) DO NOTHING RETURNING device_id
	), stored AS (SELECT device_id, count(*)::int4 AS n FROM inserted GROUP BY device_id
	), entered AS (` + enterBatch + " SELECT ")
	w.appendKey(dst, p)
	dst.WriteString(`array_agg(u.device ORDER BY u.at), array_agg(u.n ORDER BY u.at), array_agg(coalesce(stored.n, 0) ORDER BY u.at)
		FROM unnest(`)
	appendArray(dst, w.counts.devices, func(i int) int { return int(w.counts.devices[i]) })
	dst.WriteByte(',')
	appendArray(dst, w.counts.devices, func(i int) int { return w.counts.rows[i] })
	dst.WriteString(`) WITH ORDINALITY AS u (device, n, at) LEFT JOIN stored ON stored.device_id = u.device
	) SELECT device_id, n FROM stored; COMMIT`)
}

func (w *writer) appendKey(dst *bytes.Buffer, p *part) {
	scratch := strconv.AppendInt(dst.AvailableBuffer(), w.store.books.owner, 10)
	scratch = strconv.AppendInt(append(scratch, ','), p.number, 10)
	dst.Write(append(scratch, ','))
}

// mayBeCommitted says that nobody knows whether a transaction that failed with
// err took place: the answer was lost.
func mayBeCommitted(err error) bool { return !rolledBack(err) && !pgconn.SafeToRetry(err) }

// committedBefore says that a part was refused because it is committed already:
// the answer to that commit had been lost.
func committedBefore(err error) bool {
	var pgError *pgconn.PgError
	return errors.As(err, &pgError) && pgError.Code == "23505" && pgError.ConstraintName == batchesKey
}

// recall looks whether a part is committed already, and if so sees that synchronous
// standbys have it too, and counts what the books say of it.
func (w *writer) recall(ctx context.Context, p *part, outcome *Outcome) (committed bool, err error) {
	sql := fmt.Sprintf(`SELECT u.device, u.n - coalesce(u.stored, u.n)
		FROM mooring.batches b CROSS JOIN LATERAL unnest(b.devices, b.rows, b.committed) AS u (device, n, stored)
		WHERE b.owner = %d AND b.number = %d`, w.store.books.owner, p.number)
	results, err := w.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return false, fmt.Errorf("look whether a batch is committed: %w", err)
	}
	twice, err := readCounts(results)
	if err != nil || len(twice) == 0 {
		return false, err
	}
	if err := w.awaitStandbys(ctx); err != nil {
		return false, err
	}
	duplicates := 0
	for device, rows := range twice {
		outcome.addDuplicates(device, rows)
		duplicates += rows
	}
	m := w.store.metrics
	m.duplicates.Add(float64(duplicates))
	m.rows.WithLabelValues(pathRecall).Add(float64(p.count - duplicates))
	m.committed(pathRecall, p.count, 0)
	return true, nil
}

// readCounts reads results of device and count.
func readCounts(results []*pgconn.Result) (map[int32]int, error) {
	counts := make(map[int32]int)
	for _, result := range results {
		for _, row := range result.Rows {
			device, err := strconv.ParseInt(string(row[0]), 10, 32)
			if err != nil {
				return nil, fmt.Errorf("storage: count rows: %w", err)
			}
			count, err := strconv.Atoi(string(row[1]))
			if err != nil {
				return nil, fmt.Errorf("storage: count rows: %w", err)
			}
			counts[int32(device)] = count
		}
	}
	return counts, nil
}
