package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgconn"
)

// createSchema makes the schema before goose needs it for its table. It looks
// first, because IF NOT EXISTS asks for the right to create even where somebody
// with that right has made the schema for us.
func createSchema(ctx context.Context, db *sql.DB) error {
	var exists bool
	err := db.QueryRowContext(ctx, "SELECT to_regnamespace($1) IS NOT NULL", Schema).Scan(&exists)
	if err != nil {
		return fmt.Errorf("migrate: look for schema %s: %w", Schema, err)
	}
	if exists {
		return nil
	}
	_, err = db.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS "+Schema)
	var pgError *pgconn.PgError
	if errors.As(err, &pgError) && (pgError.Code == "23505" || pgError.Code == "42P06") {
		return nil // another server was faster; IF NOT EXISTS does not cover the race
	}
	if err != nil {
		return fmt.Errorf("migrate: create schema %s: %w", Schema, err)
	}
	return nil
}

// noticeLogger passes on what the SQL files say. Notices of IF NOT EXISTS are
// of no interest to anybody.
func noticeLogger(logger *slog.Logger) pgconn.NoticeHandler {
	return func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		switch notice.Code {
		case "42P06", "42P07", "42710", "42701": // something exists already
			return
		}
		if notice.SeverityUnlocalized == "WARNING" || notice.SeverityUnlocalized == "NOTICE" {
			logger.Warn("migration says", "notice", notice.Message, "hint", notice.Hint)
		}
	}
}
