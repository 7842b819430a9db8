package storage

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]failure{
		"08006": failureConnection, "57P01": failureConnection, "57P03": failureConnection, "25P03": failureConnection,
		"25006": failureOperator, "53100": failureOperator, "42501": failureOperator, "42P01": failureOperator,
		"28P01": failureOperator, "3D000": failureOperator, "XX000": failureOperator, "58030": failureOperator,
		"40001": failureTransient, "40P01": failureTransient, "55P03": failureTransient, "57014": failureTransient, "53300": failureTransient,
		"23505": failureDuplicate, "23514": failurePartition,
		"22021": failureRow, "22003": failureRow, "23502": failureRow, "P0001": failureRow, "54000": failureRow,
		"ZZ999": failureOperator, "": failureOperator, // the default: keep the rows
	} {
		require.Equal(t, want, classify(fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code})), code)
	}
	require.Equal(t, failureRow, classify(&pgconn.PgError{Code: "23514", ConstraintName: "sane"}))
	require.Equal(t, failureConnection, classify(io.ErrUnexpectedEOF))
	require.Equal(t, failureConnection, classify(errors.New("no route to host")))
	for f := failureConnection; f <= failureRow; f++ {
		require.NotEqual(t, "unknown", f.String())
	}
}

// Nothing but a time that can't be written down is a row's fault when partitions are
// made.
func TestClassifyMaking(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]failure{
		"22008": failureRow, "55P03": failureTransient, "57P01": failureConnection, "42501": failureOperator,
		"P0001": failureOperator, "23505": failureOperator, "23514": failureOperator, "54000": failureOperator,
	} {
		require.Equal(t, want, classifyMaking(fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code})), code)
	}
	require.Equal(t, failureConnection, classifyMaking(io.ErrUnexpectedEOF))
}

func TestRolledBack(t *testing.T) {
	t.Parallel()
	require.True(t, rolledBack(&pgconn.PgError{Code: "23505", SeverityUnlocalized: "ERROR"}))
	require.False(t, rolledBack(&pgconn.PgError{Code: "57P01", SeverityUnlocalized: "FATAL"}), "it may have committed before")
	require.False(t, rolledBack(io.ErrUnexpectedEOF))
}
