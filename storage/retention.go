package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// maintenanceLock is the advisory lock of whoever drops partitions: one
	// gateway at a time.
	maintenanceLock = 0x6d6f6f72_00000002
	// condemned is the comment of a partition that is to be dropped. If this
	// process ends between detaching and dropping, the next run finds it by that.
	condemned = "mooring: retention drops this table"
)

// dropOld drops the partitions that are older than the retention as a whole.
// Detaching concurrently takes no lock that rows or queries wait for; it waits
// itself for the queries under way.
func (p *partitions) dropOld(ctx context.Context) error {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("drop old partitions: %w", err)
	}
	defer conn.Release()
	var mine bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(maintenanceLock)).Scan(&mine); err != nil {
		return fmt.Errorf("drop old partitions: %w", err)
	}
	if !mine {
		return nil // another gateway is at it
	}
	defer func() {
		// With ctx ended this fails, and the pool drops the connection, which
		// frees the lock as well.
		if _, err := conn.Exec(ctx, "SELECT pg_advisory_unlock($1)", int64(maintenanceLock)); err != nil {
			_ = conn.Conn().Close(ctx)
		}
	}()
	existing, err := listPartitions(ctx, conn)
	if err != nil {
		return err
	}
	p.metrics.partitions.Set(float64(len(existing)))
	for _, one := range existing {
		if one.detaching {
			if err := p.finish(ctx, conn, one.name); err != nil {
				return err
			}
			continue // it is a table of its own now; if it is condemned, it goes below
		}
		if p.retention == 0 || one.to.IsZero() || one.to.After(p.now().Add(-p.retention)) {
			continue
		}
		if err := p.detach(ctx, conn, one); err != nil {
			return err
		}
	}
	return p.dropCondemned(ctx, conn)
}

// detach takes one old partition out of samples.
func (p *partitions) detach(ctx context.Context, conn *pgxpool.Conn, one partition) error {
	table := pgx.Identifier{"mooring", one.name}.Sanitize()
	if _, err := conn.Exec(ctx, "COMMENT ON TABLE "+table+" IS '"+condemned+"'"); err != nil {
		return fmt.Errorf("mark partition %s: %w", one.name, err)
	}
	// Waits for every query on samples that is under way, so bound it; what is
	// left half done is finished by the next run.
	bounded, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := conn.Exec(bounded, "ALTER TABLE mooring.samples DETACH PARTITION "+table+" CONCURRENTLY"); err != nil {
		return fmt.Errorf("detach partition %s: %w", one.name, err)
	}
	p.logger.Info("partition past retention", "name", one.name, "until", one.to)
	return nil
}

// finish completes a detach that was cut off. Unlike the detaching itself it waits,
// for whoever began to read before, with a lock in hand that keeps new partitions
// from being made; so it waits briefly, and leaves the rest to the next run.
func (p *partitions) finish(ctx context.Context, conn *pgxpool.Conn, name string) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '"+lockTimeout+"'"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "ALTER TABLE mooring.samples DETACH PARTITION "+pgx.Identifier{"mooring", name}.Sanitize()+" FINALIZE")
		return err
	})
	if err != nil && !isLockTimeout(err) {
		return fmt.Errorf("finish detaching partition %s: %w", name, err)
	}
	return nil
}

// dropCondemned drops what was detached, now or by a run that was cut off.
func (p *partitions) dropCondemned(ctx context.Context, conn *pgxpool.Conn) error {
	rows, err := conn.Query(ctx, `
		SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'mooring' AND c.relkind = 'r' AND c.relname LIKE 'samples\_%'
		AND NOT c.relispartition AND obj_description(c.oid, 'pg_class') = $1`, condemned)
	if err != nil {
		return fmt.Errorf("list detached partitions: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list detached partitions: %w", err)
	}
	var failed []error
	for _, name := range names {
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '"+lockTimeout+"'"); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "DROP TABLE "+pgx.Identifier{"mooring", name}.Sanitize())
			return err
		})
		switch {
		case err == nil:
			p.metrics.partitionsDropped.Inc()
			p.logger.Info("partition dropped", "name", name)
		case isLockTimeout(err): // somebody still reads it: the next run
		default:
			failed = append(failed, fmt.Errorf("drop partition %s: %w", name, err))
		}
	}
	return errors.Join(failed...)
}
