package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	viewSchema = "mooring_layout"
	// viewsLock is the advisory lock under which wide views are made.
	viewsLock = 0x6d6f6f72_00000003
)

// wideViews makes the view of each layout name, in the background.
type wideViews struct {
	pool    *pgxpool.Pool
	logger  *slog.Logger
	metrics *metrics
	wake    chan struct{} // a name was requested

	mu    sync.Mutex
	names map[string]struct{} // requested, not made yet; bounded by the number of layouts
	all   bool
}

func newWideViews(pool *pgxpool.Pool, logger *slog.Logger, m *metrics) *wideViews {
	return &wideViews{pool: pool, logger: logger, metrics: m, wake: make(chan struct{}, 1), names: make(map[string]struct{})}
}

// request asks for the view of a layout name. It never blocks.
func (v *wideViews) request(name string) {
	v.mu.Lock()
	v.names[name] = struct{}{}
	v.mu.Unlock()
	v.signal()
}

// requestAll asks for every view that is missing or out of date.
func (v *wideViews) requestAll() {
	v.mu.Lock()
	v.all = true
	v.mu.Unlock()
	v.signal()
}

func (v *wideViews) signal() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// make makes what was requested. What fails for a passing reason stays
// requested; a clash is noted in mooring.layout_views and never fails anything.
func (v *wideViews) make(ctx context.Context) error {
	v.mu.Lock()
	names, all := v.names, v.all
	v.names, v.all = make(map[string]struct{}), false
	v.mu.Unlock()
	if all {
		stale, err := v.stale(ctx)
		if err != nil {
			v.mu.Lock()
			v.all = true
			v.mu.Unlock()
			return err
		}
		for _, name := range stale {
			names[name] = struct{}{}
		}
	}
	var failed []error
	for name := range names {
		if err := v.makeOne(ctx, name); err != nil {
			failed = append(failed, fmt.Errorf("view of layout %q: %w", name, err))
			v.mu.Lock()
			v.names[name] = struct{}{}
			v.mu.Unlock()
		}
	}
	return errors.Join(failed...)
}

func (v *wideViews) stale(ctx context.Context) ([]string, error) {
	rows, err := v.pool.Query(ctx, `SELECT l.name FROM mooring.layouts l LEFT JOIN mooring.layout_views v ON v.layout = l.name
		GROUP BY l.name, v.versions HAVING v.versions IS DISTINCT FROM count(*)`)
	if err != nil {
		return nil, fmt.Errorf("list wide views: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list wide views: %w", err)
	}
	return names, nil
}

// makeOne makes or widens one view, and says in mooring.layout_views what came
// of it.
func (v *wideViews) makeOne(ctx context.Context, layout string) error {
	return pgx.BeginFunc(ctx, v.pool, func(tx pgx.Tx) error {
		// Replacing a view waits for those who read it, and holds up who comes
		// after: rather try again later.
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '"+lockTimeout+"'"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(viewsLock)); err != nil {
			return err
		}
		view := viewName(layout)
		columns, err := layoutColumns(ctx, tx, layout)
		if err != nil {
			return err
		}
		existing, err := viewColumns(ctx, tx, view)
		if err != nil {
			return err
		}
		plan := planView(layout, view, columns, existing)
		problem, err := v.create(ctx, tx, view, plan)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO mooring.layout_views (layout, view, versions, problem) VALUES ($1, $2, $3, nullif($4, ''))
			ON CONFLICT (layout) DO UPDATE SET view = EXCLUDED.view, versions = EXCLUDED.versions, problem = EXCLUDED.problem, updated_at = now()`,
			layout, view, plan.versions, problem)
		if err == nil && problem != "" {
			v.metrics.viewProblems.Inc()
			v.logger.Warn("wide view is not as one would expect; samples are stored all the same", "layout", layout, "view", view, "problem", problem)
		}
		return err
	})
}

// create runs the plan's SQL inside a savepoint: that Postgres refuses it is a
// problem to be told, not a failure to be tried again.
func (v *wideViews) create(ctx context.Context, tx pgx.Tx, view string, plan viewPlan) (problem string, err error) {
	err = pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
		for _, statement := range plan.statements(view) {
			if _, err := inner.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		return plan.problem(), nil
	}
	if !ofTheView(err) {
		return "", err
	}
	return fmt.Sprintf("Postgres refuses the view: %s", err), nil
}

// ofTheView says that Postgres refuses the view itself, for what it is or for what is
// in its way, and will do so again. A full disk, a missing right or somebody's rule
// against changes of the schema may pass.
func ofTheView(err error) bool {
	var pgError *pgconn.PgError
	if !errors.As(err, &pgError) || len(pgError.Code) != 5 || pgError.Code == "42501" {
		return false
	}
	switch pgError.Code[:2] {
	case "0A", "22", "2B", "42", "54":
		return true
	}
	return false
}

// layoutColumn is one channel of one version of a layout.
type layoutColumn struct {
	layout int32
	pos    int16
	name   string
	unit   string
	kind   int16
}

func layoutColumns(ctx context.Context, tx pgx.Tx, layout string) ([]layoutColumn, error) {
	rows, err := tx.Query(ctx, `SELECT c.layout_id, c.pos, c.name, coalesce(c.unit, ''), c.kind
		FROM mooring.layouts l JOIN mooring.channels c ON c.layout_id = l.id WHERE l.name = $1 ORDER BY c.layout_id, c.pos`, layout)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c layoutColumn, err error) {
		err = row.Scan(&c.layout, &c.pos, &c.name, &c.unit, &c.kind)
		return c, err
	})
}

// viewColumn is a column of a view as it stands.
type viewColumn struct{ name, kind string }

func viewColumns(ctx context.Context, tx pgx.Tx, view string) ([]viewColumn, error) {
	rows, err := tx.Query(ctx, `SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
		WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
		pgx.Identifier{viewSchema, view}.Sanitize())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c viewColumn, err error) {
		err = row.Scan(&c.name, &c.kind)
		return c, err
	})
}
