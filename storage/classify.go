package storage

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// failure says what an error of Postgres means for the batch at hand.
type failure uint8

const (
	// failureConnection: the connection is gone or was never made. Whether the
	// last transaction committed is not known; reconnect and look.
	failureConnection failure = iota
	// failureTransient: the database said no, and will say yes by itself.
	failureTransient
	// failureOperator: the database says no until a person acts. Waits and tries
	// again like failureTransient, and says so loudly.
	failureOperator
	// failurePartition: there is no partition for a row's time yet.
	failurePartition
	// failureDuplicate: a row is stored already, or twice in the batch.
	failureDuplicate
	// failureRow: a row that Postgres will never take. Only these rows are ever
	// given up.
	failureRow
)

// String is the failure as a metric's label.
func (f failure) String() string {
	switch f {
	case failureConnection:
		return "connection"
	case failureTransient:
		return "transient"
	case failureOperator:
		return "operator"
	case failurePartition:
		return "partition"
	case failureDuplicate:
		return "duplicate"
	case failureRow:
		return "row"
	}
	return "unknown"
}

// classOf sorts what one SQLSTATE, or else its class of two characters, means.
// Source: PostgreSQL's appendix "Error Codes", and trial.
var classOf = map[string]failure{
	// The connection broke, or could not be made.
	"08": failureConnection,
	// Shutdown, crash of another backend, starting up, database being dropped
	// or a lost standby: Postgres restarts, a new connection will do.
	"57P01": failureConnection, "57P02": failureConnection, "57P03": failureConnection,
	"57P04": failureConnection, "57P05": failureConnection,
	// The server gave up on an idle or a long transaction: the connection is gone.
	"25P03": failureConnection, "25P04": failureConnection,
	// A read-only server is a standby, perhaps after a fail-over: the connection
	// must be made anew, so that the URL's other hosts are tried.
	"25006": failureOperator,

	// Serialization failure, deadlock: meant to be tried again.
	"40": failureTransient,
	// Somebody holds a lock for longer than lock_timeout.
	"55P03": failureTransient, "55006": failureTransient,
	// Cancelled by statement_timeout or by a person: the batch is not at fault.
	"57014": failureTransient,
	// Memory, connections or locks ran short: load that passes.
	"53": failureTransient,
	// The disk is full, or a configured limit is reached: somebody must make room.
	"53100": failureOperator, "53400": failureOperator,

	// A unique key. What is stored already is looked up and left out.
	"23505": failureDuplicate,
	// No partition for a row. CHECK constraints share the code; see classify.
	"23514": failurePartition,

	// The row's content: out of range, badly encoded, not representable in the
	// database's encoding, refused by a constraint that an operator added.
	"22": failureRow, "23": failureRow, "44": failureRow,
	// RAISE EXCEPTION in an operator's trigger: meant for this row.
	"P0001": failureRow, "P0004": failureRow,
	// A row that is too large for a page or has too many columns.
	"54000": failureRow,

	// Wrong credentials, no such database, no right, no such table or column:
	// the schema or the grants are not what this program needs.
	"28": failureOperator, "3D": failureOperator, "42": failureOperator, "0A": failureOperator,
	// A damaged table or index, an I/O error: not the row's fault, whatever it is.
	"58": failureOperator, "XX": failureOperator,
}

// classify is the only place that judges errors of Postgres. The default, for
// codes that it does not name, is failureOperator: keep the rows, keep trying
// and tell somebody. Errors that did not come from Postgres are of the
// connection.
func classify(err error) failure {
	var pgError *pgconn.PgError
	if !errors.As(err, &pgError) {
		return failureConnection
	}
	class, known := classOf[pgError.Code]
	if !known && len(pgError.Code) == 5 {
		class, known = classOf[pgError.Code[:2]]
	}
	if !known {
		return failureOperator
	}
	// A real CHECK constraint has a name. Messages are translated, so they are
	// of no use here.
	if class == failurePartition && pgError.ConstraintName != "" {
		return failureRow
	}
	return class
}

// classifyMaking judges an error of making the partitions of a batch: that there
// is none yet, for a lock or because somebody forbids it, is not a row's fault. Only
// a time that Postgres can't write down is.
func classifyMaking(err error) failure {
	class := classify(err)
	var pgError *pgconn.PgError
	if class <= failureOperator || errors.As(err, &pgError) && strings.HasPrefix(pgError.Code, "22") {
		return class
	}
	return failureOperator
}

// rolledBack says that nothing of the failed attempt can have been committed:
// Postgres itself said so, on a connection that it went on to serve. After a
// FATAL error, or when the connection just broke, the commit may have happened
// and only the answer been lost.
func rolledBack(err error) bool {
	var pgError *pgconn.PgError
	return errors.As(err, &pgError) && pgError.SeverityUnlocalized == "ERROR"
}

// ended returns ctx's error if that is why an attempt failed, for only then may
// a batch be given up.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return nil
}
