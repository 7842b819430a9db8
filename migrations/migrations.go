package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed *.sql
var files embed.FS

const (
	// Schema is where everything of Mooring lives.
	Schema = "mooring"
	// versionTable records what was applied. It is named with its schema so
	// that no search_path can lead goose astray.
	versionTable = Schema + ".schema_migrations"

	// lockID is the advisory lock under which migrations run, per database:
	// the bytes of "mooring" as a number.
	lockID = 0x6d6f6f72696e67
	// Another server may be migrating a large database: wait up to ten
	// minutes, but look every second, since a start usually finds nothing to do.
	lockPeriodSeconds = 1
	lockTries         = 600
)

// ErrNewerSchema means that a newer program has migrated the database: this
// program does not know what it would break.
var ErrNewerSchema = errors.New("the database's schema is newer than this program")

// Migration is one numbered change of the schema.
type Migration struct {
	Version   int64     // rising from 1
	Name      string    // its file, as in "00001_devices.sql"
	AppliedAt time.Time // zero: pending
}

// Pending says whether the migration is still to be applied.
func (m Migration) Pending() bool { return m.AppliedAt.IsZero() }

// Up applies what is pending and returns how many migrations that were. It is
// safe to call from several processes at once. The connection's role must own
// the database or the schema; it needs not be a superuser. Up returns
// ErrNewerSchema if the database holds migrations that this program lacks.
func Up(ctx context.Context, url string, logger *slog.Logger) (applied int, err error) {
	db, err := open(url, logger)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := createSchema(ctx, db); err != nil {
		return 0, err
	}
	provider, err := newProvider(db)
	if err != nil {
		return 0, err
	}
	results, err := provider.Up(ctx)
	for _, result := range results {
		if result.Error == nil {
			applied++
			logger.Info("migration applied", "file", path.Base(result.Source.Path), "took", result.Duration)
		}
	}
	if err != nil {
		return applied, fmt.Errorf("migrate: %w", err)
	}
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return applied, fmt.Errorf("migrate: read versions: %w", err)
	}
	if current > target {
		return applied, fmt.Errorf("%w: it is at %d, this program knows %d", ErrNewerSchema, current, target)
	}
	if err := grantReads(ctx, db); err != nil {
		logger.Warn("role mooring_reader may not read yet; run: SELECT mooring.grant_reads()", "error", err)
	}
	return applied, nil
}

// grantReads gives role mooring_reader its rights if it was made after the
// schema, by somebody who may.
func grantReads(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, `SELECT mooring.grant_reads() FROM pg_roles
		WHERE rolname = 'mooring_reader' AND NOT has_schema_privilege(oid, 'mooring', 'USAGE')`)
	return err
}

// Status lists every migration this program knows, in order, with when it was
// applied. It changes nothing, not even in an empty database.
func Status(ctx context.Context, url string) (list []Migration, err error) {
	db, err := open(url, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var exists bool
	if err := db.QueryRowContext(ctx, "SELECT to_regclass($1) IS NOT NULL", versionTable).Scan(&exists); err != nil {
		return nil, fmt.Errorf("migration status: %w", err)
	}
	provider, err := newProvider(db)
	if err != nil {
		return nil, err
	}
	if !exists { // goose would create its table
		for _, source := range provider.ListSources() {
			list = append(list, Migration{Version: source.Version, Name: path.Base(source.Path)})
		}
		return list, nil
	}
	statuses, err := provider.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("migration status: %w", err)
	}
	for _, status := range statuses {
		list = append(list, Migration{
			Version: status.Source.Version, Name: path.Base(status.Source.Path), AppliedAt: status.AppliedAt,
		})
	}
	return list, nil
}

// Pending returns how many migrations Up would apply.
func Pending(ctx context.Context, url string) (int, error) {
	list, err := Status(ctx, url)
	if err != nil {
		return 0, err
	}
	pending := 0
	for _, migration := range list {
		if migration.Pending() {
			pending++
		}
	}
	return pending, nil
}

func newProvider(db *sql.DB) (*goose.Provider, error) {
	locker, err := lock.NewPostgresSessionLocker(
		lock.WithLockID(lockID), lock.WithLockTimeout(lockPeriodSeconds, lockTries))
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName(versionTable),
		goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true),
	)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	return provider, nil
}

// open connects lazily. Notices of the SQL files are logged: they say what a
// role without enough rights has to have done by somebody else.
func open(url string, logger *slog.Logger) (*sql.DB, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	config.OnNotice = noticeLogger(logger)
	config.RuntimeParams["application_name"] = "mooring migrate"
	// An operator's default for other programs must not cut a long migration.
	config.RuntimeParams["statement_timeout"] = "0"
	return stdlib.OpenDB(*config), nil
}
