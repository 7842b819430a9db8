//go:build linux || darwin

package pgtest

import (
	"context"
	"log/slog"

	"mooring/migrations"
)

// migrateSchema brings a database to the newest schema.
func migrateSchema(ctx context.Context, url string) error {
	_, err := migrations.Up(ctx, url, slog.New(slog.DiscardHandler))
	return err
}
