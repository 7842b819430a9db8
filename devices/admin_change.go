package devices

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Disable keeps a device out and ends its session. Its tokens and readings stay.
func (a *Admin) Disable(ctx context.Context, name string) error {
	return a.setDisabled(ctx, name, true)
}

// Enable lets a disabled device in again.
func (a *Admin) Enable(ctx context.Context, name string) error {
	return a.setDisabled(ctx, name, false)
}

// Change is what to change of a device's description; nil: nothing.
type Change struct {
	Model  *string           // at most MaxModel bytes; "": none
	Labels map[string]string // replaces all labels; empty, not nil: none
}

// Describe changes a device's description. The errors are ErrNotFound, a
// *FieldError, or the database's.
func (a *Admin) Describe(ctx context.Context, name string, change Change) error {
	if change.Model != nil && (len(*change.Model) > MaxModel || storable(*change.Model) != *change.Model) {
		return &FieldError{"model", fmt.Sprintf("must be text of at most %d bytes", MaxModel)}
	}
	var labels *string
	if change.Labels != nil {
		encoded, err := encodeLabels(change.Labels)
		if err != nil {
			return err
		}
		labels = &encoded
	}
	tag, err := a.pool.Exec(ctx, `
UPDATE mooring.devices SET model = CASE WHEN $2::text IS NULL THEN model ELSE NULLIF($2, '') END, labels = COALESCE($3::jsonb, labels)
 WHERE name = $1`, name, change.Model, labels)
	if err == nil && tag.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return explain("change", name, err)
	}
	return nil
}

func (a *Admin) setDisabled(ctx context.Context, name string, disabled bool) error {
	tag, err := a.pool.Exec(ctx, `UPDATE mooring.devices SET disabled = $2 WHERE name = $1`, name, disabled)
	if err == nil && tag.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return explain("change", name, err)
	}
	return nil
}

// Remove removes a device with its tokens, sessions and commands, and ends its
// session. A device of which readings are stored is refused with
// ErrHasReadings, unless purge is set: then they are deleted too, in the same
// transaction, which can take long. Disable is the way to keep the readings.
//
// Rows that a gateway has in its hands at this moment may still be stored. They
// belong to a number that is never given again, so no view shows them.
func (a *Admin) Remove(ctx context.Context, name string, purge bool) error {
	if purge {
		// First and by itself, so that the gateways stop taking rows of it.
		if err := a.Disable(ctx, name); err != nil {
			return err
		}
	}
	err := pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		var id int32
		if err := tx.QueryRow(ctx, `SELECT id FROM mooring.devices WHERE name = $1 FOR UPDATE`, name).Scan(&id); err != nil {
			return err
		}
		if !purge {
			var stored bool
			if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM mooring.samples WHERE device_id = $1)`, id).Scan(&stored); err != nil {
				return err
			}
			if stored {
				return ErrHasReadings
			}
		}
		tables, err := tablesOfDevices(ctx, tx)
		if err != nil {
			return err
		}
		for _, table := range tables {
			if _, err := tx.Exec(ctx, "DELETE FROM "+pgx.Identifier{"mooring", table}.Sanitize()+" WHERE device_id = $1", id); err != nil {
				return fmt.Errorf("delete from %s: %w", table, err)
			}
		}
		_, err = tx.Exec(ctx, `DELETE FROM mooring.devices WHERE id = $1`, id)
		return err
	})
	if err != nil {
		return explain("remove", name, err)
	}
	return nil
}

// tablesOfDevices lists the tables with rows per device that no foreign key
// deletes: for speed the tables of readings have none.
func tablesOfDevices(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `
SELECT c.relname
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'device_id' AND NOT a.attisdropped
 WHERE c.relnamespace = 'mooring'::regnamespace
   AND c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.confrelid = 'mooring.devices'::regclass)
 ORDER BY c.relname`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
