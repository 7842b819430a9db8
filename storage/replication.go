package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// Where standbys are synchronous, a commit is in the log, and can't be undone, before
// it waits for them. PostgreSQL gives that waiting up when the statement is
// cancelled, which pgconn asks for when an attempt's time is over, when its process
// is ended, and when it is restarted. The rows are committed then and can be seen, on
// the primary alone, and would be gone if a standby took its place. So "committed"
// alone is no reason for an ack: what counts is a commit that has waited, this one
// or a later one, since standbys take the log in order (docs/decisions/108).

// errAlone means that a commit did not wait for its standbys. Whether it took place
// is to be looked up, like that of one whose answer was lost.
var errAlone = errors.New("committed on the primary alone: somebody cancelled the wait for its synchronous standby")

// standbyRoutine is where in PostgreSQL's source the warning comes from that the
// waiting was given up. Its text is translated, and it has no code of its own.
const standbyRoutine = "SyncRepWaitForLSN"

// noticed takes what PostgreSQL says beside its answers.
func (w *writer) noticed(_ *pgconn.PgConn, notice *pgconn.Notice) {
	if notice.Routine == standbyRoutine {
		w.alone = true
	}
}

// replicated turns the success of a transaction into errAlone if it did not wait.
func (w *writer) replicated(err error) error {
	if err == nil && w.alone {
		return errAlone
	}
	return err
}

// awaitStandbys returns when synchronous standbys have what was committed until now:
// it commits something that says nothing. Without such standbys it is a commit.
func (w *writer) awaitStandbys(ctx context.Context) error {
	books := w.store.books
	number := books.begin()
	defer books.end(number)
	_, err := w.conn.Exec(ctx, fmt.Sprintf("%s VALUES (%d, %d, '{}', '{}', NULL)", enterBatch, books.owner, number)).ReadAll()
	if err = w.replicated(err); err != nil {
		return fmt.Errorf("wait for synchronous standbys: %w", err)
	}
	return nil
}
