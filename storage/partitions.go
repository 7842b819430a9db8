package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// partitionsLock is the advisory lock under which partitions come and go.
	partitionsLock = 0x6d6f6f72_00000001
	// A lock that is waited for stands in the way of everybody who comes after;
	// so wait briefly and try again.
	lockTimeout = "1500ms"
	// manyPartitions is where planning alone takes more than a few milliseconds
	// (docs/SQL.md, decision 032).
	manyPartitions = 120
)

// partitions creates and drops the partitions of mooring.samples. It is safe
// for use by all writers, and several gateways, at once.
type partitions struct {
	pool      *pgxpool.Pool
	width     PartitionWidth
	ahead     int
	retention time.Duration
	logger    *slog.Logger
	metrics   *metrics
	now       func() time.Time
}

// partition is one partition in the catalog.
type partition struct {
	span
	name      string
	detaching bool
}

// ensureFor creates the partitions that a batch needs.
func (p *partitions) ensureFor(ctx context.Context, rows []byte) error {
	var times []time.Time
	var covered span
	for len(rows) > 0 {
		row, rest, err := firstRow(rows)
		if err != nil {
			return err
		}
		rows = rest
		at := time.UnixMicro(row.time()).UTC()
		if covered.contains(at) || at.Year() < 1 || at.Year() > 9999 {
			continue // impossible times are refused by the COPY
		}
		width := p.width.at(p.now().Sub(at))
		covered.from = width.floor(at)
		covered.to = width.next(covered.from)
		times = append(times, at)
	}
	return p.ensure(ctx, times)
}

// ensureAhead creates the partition of now and those that follow.
func (p *partitions) ensureAhead(ctx context.Context) error {
	at := p.now()
	times := []time.Time{at}
	for range p.ahead {
		at = p.width.next(p.width.floor(at))
		times = append(times, at)
	}
	return p.ensure(ctx, times)
}

// ensure creates the partitions for times that are not there yet, in one
// transaction. A new table is attached rather than created as a partition,
// because ATTACH PARTITION lets COPY and queries go on.
func (p *partitions) ensure(ctx context.Context, times []time.Time) error {
	if len(times) == 0 {
		return nil
	}
	created, total := 0, 0
	err := pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		created = 0
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '"+lockTimeout+"'"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(partitionsLock)); err != nil {
			return err
		}
		existing, err := listPartitions(ctx, tx)
		if err != nil {
			return err
		}
		spans := make([]span, len(existing), len(existing)+len(times))
		for i := range existing {
			spans[i] = existing[i].span
		}
		for _, at := range times {
			wanted, missing := fit(at.UTC(), p.width.at(p.now().Sub(at)), spans)
			if !missing {
				continue
			}
			if err := attach(ctx, tx, wanted); err != nil {
				return err
			}
			spans = append(spans, wanted)
			created++
		}
		total = len(spans)
		p.metrics.partitions.Set(float64(total))
		return nil
	})
	if err != nil {
		return fmt.Errorf("create partitions: %w", err)
	}
	if created > 0 {
		p.metrics.partitionsCreated.Add(float64(created))
		p.logger.Info("partitions created", "count", created)
		if total > manyPartitions {
			p.logger.Warn("many partitions: queries whose times are not constants take longer to plan with each; choose a wider partition or a shorter retention",
				"partitions", total, "width", p.width)
		}
	}
	return nil
}

// attach creates one partition.
func attach(ctx context.Context, tx pgx.Tx, s span) error {
	name := partitionName(s)
	table := pgx.Identifier{"mooring", name}.Sanitize()
	var taken bool
	if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", table).Scan(&taken); err != nil {
		return err
	}
	if taken { // a detached one that waits to be dropped, or of another width
		table = pgx.Identifier{"mooring", fmt.Sprintf("%s_%x", name, time.Now().UnixNano())}.Sanitize()
	}
	const layout = "2006-01-02 15:04:05.999999+00"
	bounds := fmt.Sprintf("FOR VALUES FROM ('%s') TO ('%s')", s.from.UTC().Format(layout), s.to.UTC().Format(layout))
	_, err := tx.Exec(ctx, "CREATE TABLE "+table+" (LIKE mooring.samples INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)")
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "ALTER TABLE mooring.samples ATTACH PARTITION "+table+" "+bounds)
	return err
}

// listPartitions reads the bounds from the catalog, where alone the truth is.
// Sessions run in UTC with ISO dates, so the bounds can be cast back.
func listPartitions(ctx context.Context, q interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
},
) ([]partition, error) {
	rows, err := q.Query(ctx, `
		SELECT c.relname, i.inhdetachpending, pg_get_expr(c.relpartbound, c.oid)
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'mooring.samples'::regclass`)
	if err != nil {
		return nil, fmt.Errorf("list partitions: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (partition, error) {
		var one partition
		var bounds *string
		if err := row.Scan(&one.name, &one.detaching, &bounds); err != nil {
			return one, err
		}
		if bounds == nil { // a detach that was cut off
			return one, nil
		}
		var err error
		one.span, err = parseBounds(*bounds)
		return one, err
	})
	if err != nil {
		return nil, fmt.Errorf("list partitions: %w", err)
	}
	return list, nil
}

var (
	beginningOfTime = time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC)
	endOfTime       = time.Date(300000, 1, 1, 0, 0, 0, 0, time.UTC)
)

var errBounds = errors.New("partition bounds not understood")

// parseBounds reads "FOR VALUES FROM ('2026-11-21 00:00:00+00') TO (MAXVALUE)".
// A default partition, which an operator may have added, covers nothing: rows
// that it would take still get their own.
func parseBounds(text string) (span, error) {
	if text == "DEFAULT" {
		return span{}, nil
	}
	from, to, found := strings.Cut(strings.TrimPrefix(text, "FOR VALUES FROM ("), ") TO (")
	if !found {
		return span{}, fmt.Errorf("%w: %q", errBounds, text)
	}
	var s span
	var err error
	if s.from, err = parseBound(from); err != nil {
		return span{}, fmt.Errorf("%w: %q: %w", errBounds, text, err)
	}
	if s.to, err = parseBound(strings.TrimSuffix(to, ")")); err != nil {
		return span{}, fmt.Errorf("%w: %q: %w", errBounds, text, err)
	}
	return s, nil
}

func parseBound(text string) (time.Time, error) {
	switch text = strings.Trim(text, "'"); text {
	case "MINVALUE", "-infinity":
		return beginningOfTime, nil
	case "MAXVALUE", "infinity":
		return endOfTime, nil
	}
	return time.Parse("2006-01-02 15:04:05.999999-07", text)
}

// isLockTimeout says that somebody else held a lock for too long.
func isLockTimeout(err error) bool {
	var pgError *pgconn.PgError
	return errors.As(err, &pgError) && pgError.Code == "55P03"
}
