package storage

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	copyIntoSamples = "COPY mooring.samples " + copyColumns + " FROM STDIN (FORMAT binary)"
	copyIntoBatch   = "COPY pg_temp.mooring_batch " + copyColumns + " FROM STDIN (FORMAT binary)"

	// The table of the conflict path is made once per connection: making and
	// dropping it each time costs a dozen catalog rows a batch.
	createBatch = "CREATE TEMPORARY TABLE mooring_batch (LIKE mooring.samples) ON COMMIT DELETE ROWS"
)

// copyRows is the usual path: marks, the books' entry and rows in one implicit
// transaction and one round trip. It returns how many rows Postgres took.
func (w *writer) copyRows(ctx context.Context, p *part) (int, error) {
	w.sql.Reset()
	w.tracker.appendMarks(&w.sql, w.arranged.runs)
	w.appendBatch(&w.sql, p)
	if len(w.arranged.runs) == 0 { // all rows are stored already
		_, err := w.conn.Exec(ctx, w.sql.String()).ReadAll()
		return 0, err
	}
	w.sql.WriteString(copyIntoSamples)
	return copyPieces(ctx, w.conn, w.sql.String(), w.arranged.pieces())
}

// mergeRows is the conflict path: the rows go through a temporary table, and
// those that are stored already are left out. It returns how many rows of each
// device were inserted.
func (w *writer) mergeRows(ctx context.Context, p *part) (map[int32]int, error) {
	if !w.hasBatchTable {
		if _, err := w.conn.Exec(ctx, createBatch).ReadAll(); err != nil {
			return nil, err
		}
		w.hasBatchTable = true
	}
	if _, err := copyPieces(ctx, w.conn, "BEGIN; "+copyIntoBatch, w.arranged.pieces()); err != nil {
		return nil, errors.Join(err, w.rollback(ctx))
	}
	w.sql.Reset()
	w.tracker.appendMarks(&w.sql, w.arranged.runs)
	w.appendMerge(&w.sql, p)
	results, err := w.conn.Exec(ctx, w.sql.String()).ReadAll()
	if err != nil {
		return nil, errors.Join(err, w.rollback(ctx))
	}
	return readCounts(results)
}

// rollback ends a failed explicit transaction. Its own failure is that of the
// connection, which the next attempt finds closed.
func (w *writer) rollback(ctx context.Context) error {
	if w.conn.IsClosed() || w.conn.TxStatus() == 'I' {
		return nil
	}
	_, err := w.conn.Exec(ctx, "ROLLBACK").ReadAll()
	return err
}

// copyPieces streams what arrangement.stream gave, and does not return before
// pgconn has let go of it.
func copyPieces(ctx context.Context, conn *pgconn.PgConn, sql string, pieces [][]byte) (int, error) {
	stream := &pieceReader{pieces: pieces}
	defer stream.release()
	tag, err := conn.CopyFrom(ctx, stream, sql)
	return int(tag.RowsAffected()), err
}

// pieceReader reads several slices one after the other. After some errors
// pgconn's CopyFrom returns while its own goroutine is still reading: release
// waits until that no longer touches the rows, and ends the stream.
type pieceReader struct {
	mu     sync.Mutex
	pieces [][]byte
	begun  int // bytes read of the first
}

func (r *pieceReader) Read(p []byte) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n < len(p) && len(r.pieces) > 0 {
		copied := copy(p[n:], r.pieces[0][r.begun:])
		n += copied
		r.begun += copied
		if r.begun == len(r.pieces[0]) {
			r.pieces, r.begun = r.pieces[1:], 0
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *pieceReader) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pieces, r.begun = nil, 0
}

// connect makes sure that there is a connection.
func (w *writer) connect(ctx context.Context) error {
	if w.conn != nil && !w.conn.IsClosed() {
		return nil
	}
	w.disconnect(ctx)
	conn, err := connectWriter(ctx, w.store.config.URL, &w.store.sockets, w.number, w.noticed)
	if err != nil {
		return err
	}
	w.conn, w.hasBatchTable, w.seen = conn, false, nil
	return nil
}

// disconnect gives the connection up at once. pgconn may still be busy telling
// Postgres to cancel what runs there; Close waits for that.
func (w *writer) disconnect(ctx context.Context) {
	if w.conn == nil {
		return
	}
	if !w.conn.IsClosed() {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_ = w.conn.Close(ended) // with an ended context: closes without a farewell
	}
	w.leaving = append(w.leaving, w.conn.CleanupDone())
	w.conn = nil
}

// forget drops finished connections from the list that Close waits for.
func (w *writer) forget() {
	kept := w.leaving[:0]
	for _, done := range w.leaving {
		select {
		case <-done:
		default:
			kept = append(kept, done)
		}
	}
	w.leaving = kept
}
